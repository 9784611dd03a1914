//! How the local mesh starts, refuses and ends.

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tollgate_tests::{LocalMesh, Manifests, Options, Signal, Target, exchange, tollgate};

use crate::shared::block_on;

type Test = fn() -> Result<()>;

/// These start meshes of their own.
pub(crate) const TESTS: &[(&str, Test)] = &[
    (
        "two_meshes_run_beside_each_other_and_each_leaves_nothing_behind",
        two_meshes_leave_nothing_behind,
    ),
    (
        "what_is_killed_is_told_and_the_rest_serves_and_ends_cleanly",
        what_is_killed_is_told,
    ),
    (
        "a_bad_manifest_is_refused_with_file_line_and_field",
        a_bad_manifest_is_refused,
    ),
    (
        "a_bad_plugin_configuration_is_refused_with_file_line_and_field",
        a_bad_plugin_configuration_is_refused,
    ),
    (
        "a_label_that_the_pods_do_not_list_is_refused_with_what_to_write",
        a_label_that_the_pods_do_not_list_is_refused,
    ),
];

fn two_meshes_leave_nothing_behind() -> Result<()> {
    let mut first = LocalMesh::start(Manifests::shipped()?, Options::default())?;
    let mut second = LocalMesh::start(Manifests::shipped()?, Options::default())?;
    for mesh in [&first, &second] {
        let gateway = mesh.gateway_address()?;
        let answer = block_on(exchange(gateway, "/products", &[]))?;
        ensure!(answer.status == 200, "{answer:?}");
        let running = mesh.processes()?;
        // An Envoy a pod, and a service a pod but the gateway's.
        let expected = mesh.workloads().len() * 2 - 1;
        ensure!(
            running.len() >= expected,
            "{expected} processes expected, these found: {running:?}"
        );
    }
    // A terminal that closes, in the middle of an edit.
    first.manifests().replace(
        "istio/security/peer-authentication.yaml",
        "STRICT",
        "DISABLE",
    )?;
    let status = first.end_by(Signal::HUP)?;
    ensure!(status.success(), "`up` ended with {status} after SIGHUP");
    first.nothing_left()?;
    let answer = block_on(exchange(second.gateway_address()?, "/products", &[]))?;
    ensure!(
        answer.status == 200,
        "the second mesh suffers from the end of the first: {answer:?}"
    );
    // No chance to clean up.
    second.end_by(Signal::KILL)?;
    second.nothing_left()
}

fn what_is_killed_is_told() -> Result<()> {
    let mut mesh = LocalMesh::start(Manifests::shipped()?, Options::default())?;
    let gateway = mesh.gateway_address()?;
    let status = |path: &str| anyhow::Ok(block_on(exchange(gateway, path, &[]))?.status);
    let pod = |name: &str| {
        let pods = mesh.pods(name);
        let pod = pods.first().with_context(|| format!("no pod of {name}"))?;
        anyhow::Ok(pod.pod.clone())
    };
    for (workload, process, path) in [
        ("user-service", "service", "/users/alice"),
        ("cart-service", "envoy", "/cart/alice"),
    ] {
        ensure!(status(path)? == 200, "{path} is not served");
        let pod = pod(workload)?;
        let victim = mesh.process(&pod, &format!("{process}.log"))?;
        victim.kill()?;
        let event = mesh.await_event("exited", Duration::from_secs(30))?;
        ensure!(
            event["pod"] == pod.as_str()
                && event["process"] == process
                && event["signal"] == Signal::KILL.as_raw()
                && event.get("code").is_none()
                && event["log"].as_str() == victim.log.to_str()
                && event["lastLines"].is_array(),
            "{victim:?} was killed, and this is told: {event:#}"
        );
        // Nothing is started in its place, and nothing else suffers.
        ensure!(status(path)? == 503, "{path} is served by nobody");
        ensure!(status("/products")? == 200, "{pod} took others with it");
    }
    let events = mesh.stop_after_exits()?;
    let exits = events.iter().filter(|event| event["event"] == "exited");
    ensure!(
        exits.count() == 2,
        "more ended than was killed: {events:#?}"
    );
    mesh.nothing_left()
}

/// Runs `tollgate up` on manifests that it must refuse; what it says on standard error.
fn refusal(manifests: &Manifests) -> Result<String> {
    let output = Command::new(tollgate()?)
        .arg("up")
        .args(
            manifests
                .paths()
                .iter()
                .flat_map(|path| [OsStr::new("--manifests"), path.as_os_str()]),
        )
        .output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(
        output.status.code() == Some(1),
        "exit code {:?}: {said}",
        output.status.code()
    );
    Ok(said)
}

fn a_bad_manifest_is_refused() -> Result<()> {
    let manifests = Manifests::shipped()?;
    let file = "istio/security/peer-authentication.yaml";
    manifests.replace(file, "STRICT", "STRIKT")?;
    let said = refusal(&manifests)?;
    let path = manifests.file(file);
    let text = std::fs::read_to_string(&path)?;
    let line = 1 + text
        .lines()
        .position(|l| l.contains("STRIKT"))
        .context("the edit is gone")?;
    let expected = format!("{}:{line}: spec.mtls.mode: ", path.display());
    ensure!(
        said.contains(&expected) && said.contains("STRICT"),
        "{expected:?} is not in: {said}"
    );
    Ok(())
}

fn a_bad_plugin_configuration_is_refused() -> Result<()> {
    let manifests = Manifests::shipped()?;
    let file = "wasm-plugins/user-classifier/plugin.yaml";
    manifests.replace(
        file,
        "    default: standard\n",
        "    default: standard\n    defualt: standard\n",
    )?;
    let said = refusal(&manifests)?;
    let path = manifests.file(file);
    let text = std::fs::read_to_string(&path)?;
    let line = 1 + text
        .lines()
        .position(|l| l.contains("defualt"))
        .context("the edit is gone")?;
    let expected = format!("{}:{line}: spec.pluginConfig.defualt: ", path.display());
    ensure!(said.contains(&expected), "{expected:?} is not in: {said}");
    Ok(())
}

fn a_label_that_the_pods_do_not_list_is_refused() -> Result<()> {
    let manifests = Manifests::shipped()?;
    manifests.replace(
        "istio/ingress/ingressgateway.yaml",
        "extraStatTags: tenant,tier,user_type,",
        "extraStatTags: tenant,user_type,",
    )?;
    let said = refusal(&manifests)?;
    // Each plugin that would count by it.
    for (plugin, field) in [
        ("business-metrics", "labels.tier"),
        ("tenant-rate-limit", "metrics.refused"),
    ] {
        let path = manifests.file(&format!("wasm-plugins/{plugin}/plugin.yaml"));
        let path = path.display().to_string();
        let expected = format!(
            ": spec.pluginConfig.{field}: the proxies of istio-system/ingressgateway know no label \"tier\", and would have it in the metric's \
             name; write sidecar.istio.io/extraStatTags: tenant,user_type,route,status,limit,reason,tier in the annotations of its pods"
        );
        let mut lines = said.lines();
        ensure!(
            lines.any(|line| line.contains(&path) && line.ends_with(&expected)),
            "{expected:?} is not told of {path}: {said}"
        );
    }
    Ok(())
}
