//! The shop on real Envoys, seen from outside: through the gateway, from a workload, and by the metrics.
//!
//! Nine meshes serve all tests of the filters: `shop`, as it ships; `quota`, whose manifests have a few test tenants and which
//! runs four workers an Envoy; `tenants`, whose limiter is configured with all there is, another whose limiter is configured
//! anew while it runs, and `shadow`, where limits are watched before they hold; `vouched`, whose limiters believe tokens and
//! certificates; `classes`, whose classifiers do; `examples`, whose classifier is configured anew; and `spoofs`, whose services
//! say what they are sent. There are two of each: with a module per filter, and (tests named `bundle::`) with the bundle. So a test of a filter belongs to one of
//! the meshes of the loop over [`Form`]s, whose manifests [`Manifests::configure`](tollgate_tests::Manifests::configure) and
//! [`Filter::plugin`](tollgate_tests::Filter::plugin) write for either form.
//!
//! Tests share a mesh, so each uses tenants of its own. A mesh starts when a test first needs it and is stopped, which is
//! checked, when the last of its tests is done.
//!
//! Other meshes are one test's each, or of the few that need the same manifests.
//!
//! `TOLLGATE_TEST_ENVOY=oldest` (or another release that `tollgate envoy --release` knows) runs all of it on that Envoy.
//! `TOLLGATE_TEST_SEED=7` makes up other attempts to be somebody else than the usual ones.
//! `TOLLGATE_TEST_POSTGRES` is the URL of a PostgreSQL whose user may create databases (`.ci/postgres` starts one for a command);
//! without it, what needs one is reported as ignored.
//! `TOLLGATE_TEST_PROMETHEUS` is the Prometheus for those that need one, else it is the one on `PATH`; without either they are
//! reported as ignored.

mod access;
mod bench;
mod classes;
mod client;
mod databases;
mod demo;
mod examples;
mod explain;
mod hops;
mod hostile;
mod in_flight;
mod lifecycle;
mod limits;
mod live;
mod load;
mod measures;
mod metrics;
mod orders;
mod prometheus;
mod resilience;
mod routing;
mod rules;
mod settled;
mod shadow;
mod shared;
mod shares;
mod simulate;
mod sizes;
mod spoofs;
mod streams;
mod tenants;
mod tokens;
mod total;
mod values;
mod vouched;

use std::process::ExitCode;
use std::sync::Arc;
use std::thread::available_parallelism;

use libtest_mimic::{Arguments, Completion, Trial};
use tollgate_tests::Form;

use crate::shared::{Shared, Stops};

/// Tests that run at the same time, at most: as many as there is room for meshes. Tests come in the order of their meshes, so
/// no more shared meshes than this run at once.
const THREADS: usize = 3;

/// Names every test of a module by its function, and hands it what it needs.
macro_rules! trials {
    ($trials:ident, $prefix:expr, $mesh:expr, [$($module:ident :: $test:ident),* $(,)?]) => {{
        // In a block of its own: only the tests may hold the mesh, so that it stops when the last of them is done.
        let mesh = Arc::new($mesh);
        $({
            let mesh = Arc::clone(&mesh);
            let name = concat!(stringify!($module), "::", stringify!($test));
            $trials.push(Trial::test(format!("{}{name}", $prefix), move || {
                let run = || shared::block_on($module::$test(mesh.get()?));
                run().map_err(|error: anyhow::Error| format!("{error:#}").into())
            }));
        })*
    }};
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
            Shared::new(format!("{form:?}"), move || shared::shop(form), &stops),
            [
                routing::nine_of_ten_requests_go_to_v1,
                routing::vips_always_get_v2,
                routing::a_client_cannot_name_its_own_class,
                routing::the_canary_of_users_is_for_who_asks_and_one_in_twenty,
                routing::half_of_the_users_meet_the_other_cart,
                routing::premium_tenants_have_pods_for_their_orders,
                limits::the_headers_count_down,
                limits::a_refusal_says_when_to_come_back,
                limits::what_a_client_says_of_itself_gives_nothing,
                orders::an_order_travels_the_mesh_with_tenant_and_class,
                orders::a_sidecar_refuses_plaintext_and_strangers,
                access::the_gateway_may_ask_what_customers_need,
                access::services_may_ask_each_other_what_they_need,
                hostile::odd_headers_are_answered,
            ]
        );
        trials!(
            trials,
            prefix,
            Shared::new(
                format!("{form:?} with quotas"),
                move || shared::quota(form),
                &stops
            ),
            [
                limits::a_quota_is_exact_over_four_workers,
                metrics::the_four_counters_are_exact,
                metrics::the_command_adds_up_what_the_envoys_have_counted,
            ]
        );
        trials!(
            trials,
            prefix,
            Shared::new(
                format!("{form:?} with all there is to configure"),
                move || tenants::mesh(form),
                &stops
            ),
            [
                tenants::each_source_names_the_tenant,
                tenants::each_kind_of_limit_and_of_tier,
                tenants::each_form_of_cost,
                tenants::a_route_has_limits_of_its_own,
                tenants::a_grpc_call_is_refused_in_one_frame,
                tenants::what_became_of_requests_is_counted_by_reason,
                hostile::every_kind_of_request_is_answered,
            ]
        );
        trials!(
            trials,
            prefix,
            Shared::new(
                format!("{form:?} with tokens and trailers"),
                move || vouched::mesh(form),
                &stops
            ),
            [
                vouched::a_token_names_the_tenant,
                vouched::what_tokens_of_several_issuers_say_is_told_apart,
                vouched::a_peer_names_the_tenant,
                vouched::no_trailer_of_a_client_arrives_under_a_name_of_ours,
                explain::who_may_ask_is_told_why_and_nobody_else_anything,
            ]
        );
        trials!(
            trials,
            prefix,
            Shared::new(
                format!("{form:?} with classes of all kinds"),
                move || classes::mesh(form),
                &stops
            ),
            [
                classes::a_claim_is_what_it_is_and_nothing_else,
                classes::an_experiment_is_kept_by_a_cookie_that_only_the_gateway_can_sign,
                classes::a_sidecar_believes_whom_it_trusts,
                sizes::a_token_of_any_size_is_answered,
                sizes::a_token_of_any_shape_is_answered,
            ]
        );
        trials!(
            trials,
            prefix,
            Shared::new(
                format!("{form:?} with limits that are edited"),
                move || tenants::edited(form),
                &stops
            ),
            [
                tenants::the_examples_do_what_they_say,
                tenants::a_limit_is_raised_and_what_was_used_stays_used,
            ]
        );
        trials!(
            trials,
            prefix,
            Shared::new(
                format!("{form:?} with limits in shadow"),
                move || shadow::mesh(form),
                &stops
            ),
            [shadow::a_new_limit_is_watched_rolled_out_and_enforced]
        );
        trials!(
            trials,
            prefix,
            Shared::new(
                format!("{form:?} with programs that say what they are sent"),
                move || spoofs::mesh(form),
                &stops
            ),
            [spoofs::a_thousand_attempts_win_no_class_and_no_tenant]
        );
        trials!(
            trials,
            prefix,
            Shared::new(
                format!("{form:?} with classes that are edited"),
                move || examples::mesh(form),
                &stops
            ),
            [examples::the_examples_do_what_they_say]
        );
        trials!(
            trials,
            prefix,
            Shared::new(
                format!("{form:?} with a total"),
                move || total::mesh(form),
                &stops
            ),
            [total::a_total_is_shared_by_weight_lent_and_taken_back]
        );
        trials!(
            trials,
            prefix,
            Shared::new(
                format!("{form:?} with metrics of all kinds"),
                move || measures::mesh(form),
                &stops
            ),
            [
                measures::first_values_are_the_same_for_all_workers,
                measures::what_is_counted_is_what_was_seen,
                measures::refusals_and_calls_have_their_reasons,
            ]
        );
        trials!(
            trials,
            prefix,
            Shared::new(
                format!("{form:?} with metrics of bodies"),
                move || measures::with_bodies(form),
                &stops
            ),
            [measures::revenue_is_counted_to_the_cent_out_of_bodies]
        );
        let streams = Shared::new(
            format!("{form:?} with programs that speak in streams"),
            move || streams::mesh(form),
            &stops,
        );
        trials!(
            trials,
            prefix,
            streams,
            [streams::nothing_is_held_back_or_changed]
        );
    }
    trials!(
        trials,
        "",
        Shared::new("live edits", || live::mesh(Form::ThreeModules), &stops),
        [
            live::weights_change_within_two_seconds_and_no_request_fails,
            live::a_subset_and_its_route_come_and_go_in_one_edit_each,
            live::what_is_broken_is_refused_and_mending_it_applies,
            live::what_only_an_envoy_refuses_is_undone_under_load,
            live::what_needs_a_restart_says_so_and_changes_nothing,
            live::mutual_tls_is_given_up_and_taken_up_under_load,
            live::every_kind_of_edit_is_applied_in_time_under_load,
            live::two_hundred_random_edits_fail_no_request,
        ]
    );
    trials!(
        trials,
        "",
        Shared::new("tokens and access rules", rules::mesh, &stops),
        [
            rules::only_a_valid_token_passes,
            rules::what_a_token_says_is_passed_on_and_it_is_not,
            rules::a_rule_decides_by_all_that_a_request_has,
            rules::a_deny_comes_before_every_allow,
            rules::prometheus_may_read_metrics_and_nothing_else,
            rules::rules_and_keys_change_under_load,
        ]
    );
    trials!(
        trials,
        "",
        Shared::new(
            "a gateway that knows nobody",
            || hops::mesh(Form::ThreeModules, 0),
            &stops
        ),
        [
            hops::without_trusted_proxies_a_client_is_who_connects,
            hops::without_an_issuer_nobody_names_himself,
            hops::without_a_limiter_nobody_names_a_tenant,
        ]
    );
    trials!(
        trials,
        "bundle::",
        Shared::new(
            "a gateway behind a proxy",
            || hops::mesh(Form::Bundle, 1),
            &stops
        ),
        [
            hops::one_trusted_proxy_names_the_client_and_nobody_before_it_does,
            hops::without_a_limiter_nobody_names_a_tenant,
        ]
    );
    trials!(
        trials,
        "",
        Shared::new(
            "a gateway behind two proxies",
            || hops::mesh(Form::ThreeModules, 2),
            &stops
        ),
        [hops::of_two_trusted_proxies_the_outer_one_names_the_client]
    );
    trials!(
        trials,
        "",
        Shared::new("services that fail", resilience::faulty, &stops),
        [
            resilience::retries_hide_failures_and_stop_at_their_limit,
            resilience::a_try_is_given_up_after_two_seconds_and_all_of_them_after_five,
            resilience::a_failing_pod_is_left_out_and_comes_back,
            resilience::the_breaker_opens_at_its_limits_and_closes,
        ]
    );
    trials!(
        trials,
        "",
        Shared::new("faults on purpose", resilience::faults, &stops),
        [resilience::faults_come_as_often_as_configured]
    );
    trials!(
        trials,
        "",
        Shared::new("a local issuer", tokens::mesh, &stops),
        [
            tokens::a_token_is_taken_and_says_who_somebody_is,
            tokens::a_thousand_forged_tokens_win_nothing,
            tokens::carts_and_orders_are_for_their_customers_alone,
        ]
    );
    trials!(
        trials,
        "",
        Shared::new("a log to replay", simulate::mesh, &stops),
        [simulate::a_replay_of_the_gateway_s_log_refuses_what_the_gateway_refused]
    );
    let postgres = "databases::two_replicas_share_a_postgresql_and_the_next_run_finds_their_data";
    trials.push(Trial::ignorable_test(postgres, || {
        let Some(server) = databases::server() else {
            return Ok(Completion::ignored_with(databases::WITHOUT));
        };
        databases::two_replicas_share_a_postgresql(&server)
            .map(|()| Completion::Completed)
            .map_err(|error| format!("{error:#}").into())
    }));
    for (name, test) in prometheus::TESTS {
        trials.push(Trial::ignorable_test(format!("prometheus::{name}"), || {
            let Some(program) = prometheus::program() else {
                return Ok(Completion::ignored_with(prometheus::WITHOUT));
            };
            test(&program)
                .map(|()| Completion::Completed)
                .map_err(|error| format!("{error:#}").into())
        }));
    }
    for (module, tests) in [
        ("demo", demo::TESTS),
        ("prometheus", prometheus::WITHOUT_ONE),
        ("tokens", tokens::TESTS),
        ("in_flight", in_flight::TESTS),
        ("settled", settled::TESTS),
        ("total", total::TESTS),
        ("shares", shares::TESTS),
        ("sizes", sizes::TESTS),
        ("lifecycle", lifecycle::TESTS),
        ("bench", bench::TESTS),
        ("values", values::TESTS),
    ] {
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
