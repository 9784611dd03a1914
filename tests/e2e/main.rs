//! The shop on real Envoys, seen from outside: through the gateway, from a workload, and by the metrics.
//!
//! Two meshes serve all tests: `shop`, as it ships, and `quota`, whose manifests have a few test tenants and which runs
//! four workers an Envoy. Tests share them, so each uses tenants of its own. Both start when a test first needs
//! them and are stopped, which is checked, when the last test is done.

mod client;
mod hostile;
mod lifecycle;
mod limits;
mod metrics;
mod orders;
mod routing;
mod shared;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use crate::shared::Shared;

/// Names every test of a module by its function, and hands it what it needs.
macro_rules! trials {
    ($trials:ident, $mesh:expr, [$($module:ident :: $test:ident),* $(,)?]) => {
        $({
            let mesh = Arc::clone(&$mesh);
            $trials.push(Trial::test(concat!(stringify!($module), "::", stringify!($test)), move || {
                let run = || shared::block_on($module::$test(mesh.get()?));
                run().map_err(|error: anyhow::Error| format!("{error:#}").into())
            }));
        })*
    };
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let shop = Arc::new(Shared::new(shared::shop));
    let quota = Arc::new(Shared::new(shared::quota));

    let mut trials = Vec::new();
    trials!(
        trials,
        shop,
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
        quota,
        [
            limits::a_quota_is_exact_over_four_workers,
            metrics::the_four_counters_are_exact,
        ]
    );
    for (name, test) in lifecycle::TESTS {
        trials.push(Trial::test(format!("lifecycle::{name}"), || {
            test().map_err(|error| format!("{error:#}").into())
        }));
    }

    let conclusion = libtest_mimic::run(&arguments, trials);
    let mut stopped = true;
    for mesh in [shop, quota] {
        if let Err(error) = Shared::stop(mesh) {
            eprintln!("error: a shared mesh did not stop as it should: {error:?}");
            stopped = false;
        }
    }
    if stopped {
        conclusion.exit_code()
    } else {
        ExitCode::FAILURE
    }
}
