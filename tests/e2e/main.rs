//! The shop on real Envoys, seen from outside: through the gateway, from a workload, and by the metrics.
//!
//! Two meshes serve all tests of the filters: `shop`, as it ships, and `quota`, whose manifests have a few test tenants and which
//! runs four workers an Envoy. There are two of each: with a module per filter, and (tests named `bundle::`) with the bundle.
//! Tests share a mesh, so each uses tenants of its own. A mesh starts when a test first needs it and is stopped, which is
//! checked, when the last of its tests is done.
//!
//! `TOLLGATE_TEST_ENVOY=oldest` (or another release that `tollgate envoy --release` knows) runs all of it on that Envoy.

mod bench;
mod client;
mod hostile;
mod lifecycle;
mod limits;
mod live;
mod load;
mod metrics;
mod orders;
mod routing;
mod shared;

use std::process::ExitCode;
use std::sync::Arc;
use std::thread::available_parallelism;

use libtest_mimic::{Arguments, Trial};
use tollgate_tests::Form;

use crate::shared::{Shared, Stops};

/// Tests that run at the same time, at most. Tests come in the order of their meshes, so no more shared meshes than this run at
/// once; one test starts two of its own. A mesh of the shop holds 26 of the 128 inotify instances that a user of a machine has
/// where nobody raised `fs.inotify.max_user_instances`.
const THREADS: usize = 3;

/// Names every test of a module by its function, and hands it what it needs.
macro_rules! trials {
    ($trials:ident, $prefix:expr, $mesh:expr, [$($module:ident :: $test:ident),* $(,)?]) => {
        let mesh = Arc::new($mesh);
        $({
            let mesh = Arc::clone(&mesh);
            let name = concat!(stringify!($module), "::", stringify!($test));
            $trials.push(Trial::test(format!("{}{name}", $prefix), move || {
                let run = || shared::block_on($module::$test(mesh.get()?));
                run().map_err(|error: anyhow::Error| format!("{error:#}").into())
            }));
        })*
    };
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let threads = arguments
        .test_threads
        .or_else(|| available_parallelism().ok().map(Into::into));
    arguments.test_threads = Some(threads.unwrap_or(1).min(THREADS));

    let stops = Stops::default();
    let mut trials = Vec::new();
    for form in Form::ALL {
        let prefix = match form {
            Form::ThreeModules => "",
            Form::Bundle => "bundle::",
        };
        trials!(
            trials,
            prefix,
            Shared::new(form, shared::shop, &stops),
            [
                routing::nine_of_ten_requests_go_to_v1,
                routing::vips_always_get_v2,
                routing::a_client_cannot_name_its_own_class,
                limits::the_headers_count_down,
                limits::a_refusal_says_when_to_come_back,
                orders::an_order_travels_the_mesh_with_tenant_and_class,
                orders::a_sidecar_refuses_plaintext_and_strangers,
                hostile::odd_headers_are_answered,
            ]
        );
        trials!(
            trials,
            prefix,
            Shared::new(form, shared::quota, &stops),
            [
                limits::a_quota_is_exact_over_four_workers,
                metrics::the_four_counters_are_exact,
            ]
        );
    }
    trials!(
        trials,
        "",
        Shared::new(Form::ThreeModules, live::mesh, &stops),
        [
            live::weights_change_within_two_seconds_and_no_request_fails,
            live::a_subset_and_its_route_come_and_go_in_one_edit_each,
            live::a_limit_is_raised_and_what_was_used_stays_used,
            live::what_is_broken_is_refused_and_mending_it_applies,
            live::what_needs_a_restart_says_so_and_changes_nothing,
            live::mutual_tls_is_given_up_and_taken_up_under_load,
            live::two_hundred_random_edits_fail_no_request,
        ]
    );
    for (module, tests) in [("lifecycle", lifecycle::TESTS), ("bench", bench::TESTS)] {
        for (name, test) in tests {
            trials.push(Trial::test(format!("{module}::{name}"), || {
                test().map_err(|error| format!("{error:#}").into())
            }));
        }
    }

    let conclusion = libtest_mimic::run(&arguments, trials);
    let failures = stops.failures();
    for failure in &failures {
        eprintln!("error: a shared mesh did not stop as it should: {failure}");
    }
    if failures.is_empty() {
        conclusion.exit_code()
    } else {
        ExitCode::FAILURE
    }
}
