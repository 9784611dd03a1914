//! Edits of the manifests while the mesh serves.
//!
//! All tests edit the same manifests, so one runs at a time; each begins with the manifests as the mesh was started with.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::{Mutex, MutexGuard};
use tollgate_tests::{Finding, Form, LocalMesh, Manifests, Options, Outcome, Target};

use crate::client::{Client, is_v2};
use crate::load::{Load, TENANT};

const PRODUCTS: &str = "istio/routing/product-service.yaml";
const USERS: &str = "istio/routing/user-service.yaml";
const ROUTING: &str = "istio/routing/kustomization.yaml";
const LIMITER: &str = "wasm-plugins/tenant-rate-limit/plugin.yaml";
const METRICS: &str = "wasm-plugins/business-metrics/plugin.yaml";
const PEERS: &str = "istio/security/peer-authentication.yaml";
const GATEWAY: &str = "istio/ingress/ingressgateway.yaml";

const ACCESS: &str = "istio/security/anybody.yaml";

/// Every file that a test edits.
const EDITED: [&str; 7] = [PRODUCTS, ROUTING, LIMITER, METRICS, PEERS, GATEWAY, ACCESS];

/// Whom the shop lets in by their identity, also without one: nobody has any where mutual TLS is given up.
const ANYBODY: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: anybody, namespace: ecommerce}
spec: {rules: [{}]}
";

/// The shop, with a tenant whose limits are out of reach.
pub(crate) fn mesh(form: Form) -> Result<LocalMesh> {
    let manifests = manifests(form)?;
    manifests.write(ACCESS, ANYBODY)?;
    manifests.replace(
        "istio/security/kustomization.yaml",
        "resources:\n",
        "resources:\n- anybody.yaml\n",
    )?;
    LocalMesh::start(manifests, Options::default())
}

/// The same, with the shop's access rules.
pub(crate) fn manifests(form: Form) -> Result<Manifests> {
    let manifests = Manifests::of(form)?;
    let (limiter, indent) = form.limiter();
    for (field, entry) in [
        (
            "tiers",
            "unlimited: {limits: [{name: rate, requests: 100000, per: 1s, burst: 100000}]}"
                .to_owned(),
        ),
        ("tenants", format!("{TENANT}: {{tier: unlimited}}")),
    ] {
        manifests.replace(
            limiter,
            &format!("\n{indent}{field}:\n"),
            &format!("\n{indent}{field}:\n{indent}  {entry}\n"),
        )?;
    }
    Ok(manifests)
}

/// One test at a time, and what the manifests said before the first.
static TURN: Mutex<()> = Mutex::const_new(());
static BEFORE: OnceLock<Vec<String>> = OnceLock::new();

/// A test's turn.
struct Turn {
    _turn: MutexGuard<'static, ()>,
    /// What Envoys had refused before.
    rejected: Rejections,
}

/// How often, with the names of workload and stat.
type Rejections = Vec<(String, String, u64)>;

impl Turn {
    /// No Envoy of the mesh has refused anything.
    async fn nothing_was_rejected(&self, mesh: &LocalMesh) -> Result<()> {
        let rejected = rejections(mesh).await?;
        ensure!(
            rejected == self.rejected,
            "{rejected:?} after {:?}",
            self.rejected
        );
        Ok(())
    }
}

/// Waits for its turn, and puts back what the test before it left.
async fn turn(mesh: &LocalMesh) -> Result<Turn> {
    let turn = TURN.lock().await;
    let manifests = mesh.manifests();
    let now: Vec<String> = EDITED
        .iter()
        .map(|file| manifests.read(file))
        .collect::<Result<_>>()?;
    if BEFORE.get().is_none() {
        let rejected = rejections(mesh).await?;
        ensure!(rejected.is_empty(), "before any edit: {rejected:?}");
    }
    let before = BEFORE.get_or_init(|| now.clone());
    if *before != now {
        for (file, text) in EDITED.iter().zip(before) {
            manifests.write(file, text)?;
        }
        while !matches!(mesh.outcome()?, Outcome::Applied(_)) {}
    }
    Ok(Turn {
        _turn: turn,
        rejected: rejections(mesh).await?,
    })
}

/// The edit must be applied.
pub(crate) fn applied(mesh: &LocalMesh) -> Result<Duration> {
    match mesh.outcome()? {
        Outcome::Applied(after) => Ok(after),
        Outcome::Refused(finding) => bail!("a good edit was refused: {finding:?}"),
    }
}

/// The edit must be refused.
pub(crate) fn refused(mesh: &LocalMesh) -> Result<Finding> {
    match mesh.outcome()? {
        Outcome::Refused(finding) => Ok(finding),
        Outcome::Applied(_) => bail!("a bad edit was applied"),
    }
}

/// Where a text is, as a finding says it.
pub(crate) fn place(mesh: &LocalMesh, file: &str, text: &str) -> Result<(String, u64)> {
    let lines = mesh.manifests().read(file)?;
    let line = lines.lines().position(|line| line.contains(text));
    let line = 1 + line.with_context(|| format!("{text:?} is not in {file}"))?;
    let file = mesh.manifests().file(file).display().to_string();
    Ok((file, u64::try_from(line)?))
}

fn edit(mesh: &LocalMesh, file: &str, change: impl FnOnce(String) -> String) -> Result<()> {
    let before = mesh.manifests().read(file)?;
    let after = change(before.clone());
    ensure!(before != after, "nothing is edited in {file}");
    mesh.manifests().write(file, &after)
}

/// Everybody but VIPs to this many percent to version 1.
fn weights(text: String, v1: u32) -> String {
    text.replace("weight: 90", &format!("weight: {v1}"))
        .replace("weight: 10\n", &format!("weight: {}\n", 100 - v1))
}

/// What the Envoys of the mesh have refused.
async fn rejections(mesh: &LocalMesh) -> Result<Rejections> {
    let mut refused = Rejections::new();
    for workload in mesh.workloads() {
        for part in [".update_rejected", ".update_failure", ".config_fail"] {
            let counts = mesh.envoy_stats(&workload.name, part).await?;
            let counts = counts.into_iter().filter(|(_, count)| *count > 0);
            refused.extend(counts.map(|(stat, count)| (workload.name.clone(), stat, count)));
        }
    }
    Ok(refused)
}

pub(crate) async fn weights_change_within_two_seconds_and_no_request_fails(
    mesh: &LocalMesh,
) -> Result<()> {
    let turn = turn(mesh).await?;
    let load = Load::start(mesh).await?;
    let begin = Instant::now();
    edit(mesh, PRODUCTS, |text| weights(text, 0))?;
    let told = applied(mesh)?;
    load.until_visits(100, "got version 2", |visit| visit.v2)
        .await?;
    let visits = load.visits();
    let last = visits
        .iter()
        .filter(|visit| !visit.v2)
        .map(|v| v.begun)
        .max();
    let after = last.unwrap_or(begin).saturating_duration_since(begin);
    eprintln!("weights: effective after {after:?}, told after {told:?}");
    // The promise is two seconds on an idle machine; this one runs other tests as well.
    ensure!(
        after < Duration::from_secs(10),
        "the edit took effect after {after:?}"
    );
    load.end("weights").await?;
    turn.nothing_was_rejected(mesh).await
}

pub(crate) async fn a_subset_and_its_route_come_and_go_in_one_edit_each(
    mesh: &LocalMesh,
) -> Result<()> {
    let turn = turn(mesh).await?;
    let load = Load::start(mesh).await?;
    let before = mesh.manifests().read(PRODUCTS)?;
    edit(mesh, PRODUCTS, |text| with_canary(&text))?;
    let told = applied(mesh)?;
    load.until_visits(100, "of canaries got version 2", |visit| {
        visit.v2 || !visit.canary
    })
    .await?;
    let cluster = "outbound|3001|canary|";
    let known = mesh.envoy_stats("ingressgateway", cluster).await?;
    ensure!(!known.is_empty(), "there is no cluster for the subset");

    mesh.manifests().write(PRODUCTS, &before)?;
    let told_again = applied(mesh)?;
    eprintln!("subset: told after {told:?} and {told_again:?}");
    // One in ten gets version 2 without the route.
    load.more(200).await?;
    let canaries = load.visits().into_iter().rev().filter(|v| v.canary);
    ensure!(
        canaries.take(60).any(|visit| !visit.v2),
        "canaries still go to version 2"
    );
    // The cluster goes when nobody can be on the way to it any more.
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        load.more(100).await?;
        let left = mesh.envoy_stats("ingressgateway", cluster).await?;
        if left.is_empty() {
            break;
        }
        ensure!(Instant::now() < deadline, "the cluster of the subset stays");
    }
    load.end("subset").await?;
    turn.nothing_was_rejected(mesh).await
}

/// A subset, and a route to it for who asks for it, at the gateway and between services.
fn with_canary(text: &str) -> String {
    let route = "  http:\n  - match:\n    - headers:\n        x-canary: {exact: 'yes'}\n    route:\n    - destination: {host: \
                 product-service, subset: canary, port: {number: 3001}}\n";
    format!(
        "{}  - name: canary\n    labels:\n      version: v2\n",
        text.replace("  http:\n", route)
    )
}

pub(crate) async fn what_is_broken_is_refused_and_mending_it_applies(
    mesh: &LocalMesh,
) -> Result<()> {
    let turn = turn(mesh).await?;
    let load = Load::start(mesh).await?;
    let before = mesh.manifests().read(PRODUCTS)?;

    // No YAML.
    mesh.manifests()
        .write(PRODUCTS, &format!("{before}  - {{\n"))?;
    let finding = refused(mesh)?;
    let (file, _) = place(mesh, PRODUCTS, "product-service")?;
    ensure!(
        finding.file == file && finding.line >= u64::try_from(before.lines().count())?,
        "{finding:?}"
    );
    load.more(50).await?;
    mesh.manifests().write(PRODUCTS, &before)?;
    applied(mesh)?;

    // A subset that nobody defines.
    mesh.manifests()
        .write(PRODUCTS, &before.replacen("subset: v2", "subset: v3", 1))?;
    let finding = refused(mesh)?;
    let (_, line) = place(mesh, PRODUCTS, "subset: v3")?;
    ensure!(finding.line == line, "{line} is wrong, not {finding:?}");
    ensure!(
        finding.field == "spec.http[0].route[0].destination.subset"
            && finding.reason.contains("v3"),
        "{finding:?}"
    );
    load.more(50).await?;

    // The next edit mends it, and is written as some editors do: the file is empty for a moment.
    let path = mesh.manifests().file(PRODUCTS);
    std::fs::write(&path, "")?;
    load.more(10).await?;
    std::fs::write(&path, weights(before, 0))?;
    applied(mesh)?;
    load.until_visits(50, "got version 2", |visit| visit.v2)
        .await?;
    load.end("broken").await?;
    turn.nothing_was_rejected(mesh).await
}

pub(crate) async fn what_only_an_envoy_refuses_is_undone_under_load(
    mesh: &LocalMesh,
) -> Result<()> {
    let turn = turn(mesh).await?;
    let load = Load::start(mesh).await?;
    let before = mesh.manifests().read(PRODUCTS)?;
    let (ingress, within) = before
        .split_once("\n---\n")
        .context("the rules for calls between services are gone")?;

    // When the sidecars turn out to refuse their routes, some take plain requests already and others send them: RE2
    // repeats at most 1000 times.
    for _ in 0..3 {
        let bad = with_canary(within).replace("{exact: 'yes'}", "{regex: 'y{1001}'}");
        mesh.manifests()
            .write(PRODUCTS, &format!("{ingress}\n---\n{bad}"))?;
        mesh.manifests()
            .replace(PEERS, "mode: STRICT", "mode: DISABLE")?;
        let finding = refused(mesh)?;
        ensure!(
            finding
                .reason
                .contains("more: their Envoys refused the routes http_proxy: ")
                && finding.reason.contains("{1001}"),
            "{finding:?}"
        );
        load.more(100).await?;

        // The next edit is good, and mends only what was wrong.
        mesh.manifests().write(
            PRODUCTS,
            &format!("{ingress}\n---\n{}", with_canary(within)),
        )?;
        applied(mesh)?;
        load.more(100).await?;
        mesh.manifests().write(PRODUCTS, &before)?;
        mesh.manifests()
            .replace(PEERS, "mode: DISABLE", "mode: STRICT")?;
        applied(mesh)?;
    }
    load.end("refused by Envoys").await?;
    ensure!(
        turn.nothing_was_rejected(mesh).await.is_err(),
        "Envoys do not count what they refuse, so nothing here can tell"
    );
    Ok(())
}

pub(crate) async fn what_needs_a_restart_says_so_and_changes_nothing(
    mesh: &LocalMesh,
) -> Result<()> {
    let turn = turn(mesh).await?;
    let (gateway, products) = (
        mesh.manifests().read(GATEWAY)?,
        mesh.manifests().read(PRODUCTS)?,
    );
    for (from, to, field) in [
        ("replicas: 1", "replicas: 2", "spec.replicas"),
        (
            "extraStatTags: tenant,",
            "extraStatTags: shop,tenant,",
            "spec.template.metadata.annotations[\"sidecar.istio.io/extraStatTags\"]",
        ),
        ("targetPort: 8080", "targetPort: 8081", "spec.ports"),
    ] {
        // In one edit with something that needs none.
        mesh.manifests()
            .write(PRODUCTS, &weights(products.clone(), 0))?;
        mesh.manifests().replace(GATEWAY, from, to)?;
        let finding = refused(mesh)?;
        ensure!(
            finding.field == field && finding.reason.contains("restart `tollgate up`"),
            "{finding:?}"
        );
        if !field.ends_with("ports") {
            let (file, line) = place(mesh, GATEWAY, to)?;
            ensure!(
                (finding.file.as_str(), finding.line) == (file.as_str(), line),
                "{finding:?}"
            );
        }
        let client = Client::of(mesh)?.bearing(mesh.bearer("erin", TENANT)?);
        let mut v1 = 0;
        for _ in 0..50 {
            let answer = client.get("/products", &[]).await?;
            ensure!(answer.status == 200, "{answer:?}");
            v1 += u32::from(!is_v2(&answer.body));
        }
        ensure!(v1 > 0, "a part of a refused edit was applied");
        mesh.manifests().write(PRODUCTS, &products)?;
        mesh.manifests().write(GATEWAY, &gateway)?;
        applied(mesh)?;
    }
    turn.nothing_was_rejected(mesh).await
}

pub(crate) async fn mutual_tls_is_given_up_and_taken_up_under_load(mesh: &LocalMesh) -> Result<()> {
    let turn = turn(mesh).await?;
    let load = Load::start(mesh).await?;
    for (from, to) in [
        ("STRICT", "DISABLE"),
        ("DISABLE", "STRICT"),
        ("STRICT", "PERMISSIVE"),
        ("PERMISSIVE", "DISABLE"),
        ("DISABLE", "PERMISSIVE"),
        ("PERMISSIVE", "STRICT"),
    ] {
        mesh.manifests()
            .replace(PEERS, &format!("mode: {from}"), &format!("mode: {to}"))?;
        let told = applied(mesh)?;
        eprintln!("mutual TLS {from} to {to}: told after {told:?}");
        load.more(150).await?;
    }
    load.end("mutual TLS").await?;
    turn.nothing_was_rejected(mesh).await
}

/// How long each kind of edit takes, there and back, and how many times as long as the one that is made before it, of a route's timeout: whatever else the machine
/// does, it does to both. docs/local-mesh.md has a table of what this prints.
pub(crate) async fn every_kind_of_edit_is_applied_in_time_under_load(
    mesh: &LocalMesh,
) -> Result<()> {
    type Change = fn(&str) -> String;
    let kinds: [(&str, &str, Change); 9] = [
        ("weights of a route", PRODUCTS, |text| {
            weights(text.to_owned(), 50)
        }),
        ("a subset and its route", PRODUCTS, with_canary),
        ("a policy of a service", PRODUCTS, |text| {
            text.replace("LEAST_REQUEST", "ROUND_ROBIN")
        }),
        ("another file", ROUTING, |text| {
            text.replace("resources:\n", "resources:\n- extra.yaml\n")
        }),
        ("the limits of a tier", LIMITER, |text| {
            text.replace("requests: 100,", "requests: 150,")
        }),
        ("another plugin", METRICS, |text| format!("{text}{COUNTS}")),
        ("an access rule of all services", ACCESS, |text| {
            text.replace("[{}]", "[{}, {to: [{operation: {methods: [GET]}}]}]")
        }),
        ("mutual TLS, STRICT and PERMISSIVE", PEERS, |text| {
            text.replace("STRICT", "PERMISSIVE")
        }),
        ("mutual TLS, STRICT and DISABLE", PEERS, |text| {
            text.replace("STRICT", "DISABLE")
        }),
    ];
    let turn = turn(mesh).await?;
    mesh.manifests().write("istio/routing/extra.yaml", EXTRA)?;
    let load = Load::start(mesh).await?;
    let mut lesser = true;
    let mut longest = (Duration::ZERO, "");
    for (kind, file, change) in kinds {
        let before = mesh.manifests().read(file)?;
        let mut times = Vec::new();
        for text in [change(&before), before] {
            let (from, to) = if lesser { (5, 6) } else { (6, 5) };
            lesser = !lesser;
            mesh.manifests().replace_all(
                USERS,
                &format!("timeout: {from}s"),
                &format!("timeout: {to}s"),
            )?;
            let reference = applied(mesh)?;
            edit(mesh, file, |_| text)?;
            let told = applied(mesh).with_context(|| kind.to_owned())?;
            // The promise is two seconds on an idle machine with two cores; this one runs other tests as well.
            ensure!(told < Duration::from_secs(10), "{kind}: {told:?}");
            times.push((told, told.as_secs_f32() / reference.as_secs_f32()));
            longest = longest.max((told, kind));
            load.more(50).await.with_context(|| kind.to_owned())?;
        }
        let [(there, ratio), (back, ratio_back)] = times[..] else {
            bail!("{} times", times.len());
        };
        // Or what that is where others use the machine, too: an edit of a timeout takes 0.4 s on an idle one.
        let in_time = |(told, ratio): &(Duration, f32)| told.as_secs_f32() < 2.0 || *ratio < 5.0;
        ensure!(
            times.iter().any(in_time),
            "{kind}: {there:?} and {back:?}, {ratio:.1} and {ratio_back:.1} times an edit of a timeout"
        );
        eprintln!(
            "edit: {kind:33} {there:>6.0?} and back {back:>6.0?}: {ratio:.1} and {ratio_back:.1} times that of a timeout"
        );
    }
    eprintln!("edit: the longest is {}, {:?}", longest.1, longest.0);
    load.end("every kind of edit").await?;
    turn.nothing_was_rejected(mesh).await
}

pub(crate) async fn two_hundred_random_edits_fail_no_request(mesh: &LocalMesh) -> Result<()> {
    const EDITS: u32 = 200;
    let turn = turn(mesh).await?;
    let before: Vec<String> = [PRODUCTS, ROUTING, LIMITER, METRICS, PEERS]
        .iter()
        .map(|file| mesh.manifests().read(file))
        .collect::<Result<_>>()?;
    let load = Load::start(mesh).await?;
    let mut random = Random(0x5eed_0f70_1194);
    let mut shape = Shape::default();
    let (mut slowest, mut sum) = (Duration::ZERO, Duration::ZERO);
    let begin = Instant::now();
    for number in 1..=EDITS {
        let last = number == EDITS;
        let next = if last {
            // What is served in the end can then be told from everything before it.
            Shape {
                v1: 0,
                canary: true,
                ..Shape::default()
            }
        } else {
            shape.edited(&mut random)
        };
        next.write(mesh, &before)
            .with_context(|| format!("edit {number}: {next:?}"))?;
        let told = applied(mesh).with_context(|| format!("edit {number}: {shape:?} → {next:?}"))?;
        slowest = slowest.max(told);
        sum += told;
        // Whoever fails should fail near the edit that did it.
        load.more(1)
            .await
            .with_context(|| format!("edit {number}: {shape:?} → {next:?}"))?;
        shape = next;
    }
    eprintln!(
        "random edits: {EDITS} in {:.1} s, on average {:?}, at most {slowest:?}",
        begin.elapsed().as_secs_f32(),
        sum / EDITS
    );
    load.until_visits(200, "got version 2", |visit| visit.v2)
        .await?;
    load.end("random edits").await?;
    turn.nothing_was_rejected(mesh).await
}

/// What the manifests say, in as far as random edits change it.
#[derive(Clone, Debug, PartialEq)]
struct Shape {
    /// Percent to version 1.
    v1: u32,
    /// A subset and a route to it, in a place that moves it to the front.
    canary: bool,
    /// Subsets that nothing names.
    subsets: u32,
    /// Routes for a header's value, which nobody sends.
    routes: u32,
    timeout: u32,
    /// Requests a second of some tier.
    limit: u32,
    /// A VirtualService of its own, in a file of its own.
    extra: bool,
    /// A second plugin that counts at the gateway.
    counts: bool,
    mode: &'static str,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            v1: 90,
            canary: false,
            subsets: 0,
            routes: 0,
            timeout: 5,
            limit: 100,
            extra: false,
            counts: false,
            mode: "STRICT",
        }
    }
}

impl Shape {
    /// Another shape, one or two things away.
    fn edited(&self, random: &mut Random) -> Self {
        let mut next = self.clone();
        let wanted = 1 + random.below(2);
        let mut changes = 0;
        while changes < wanted || next == *self {
            match random.below(40) {
                0..=9 => next.v1 = random.below(101),
                10..=14 => next.canary = !next.canary,
                15..=18 => next.subsets = random.below(4),
                19..=23 => next.routes = random.below(6),
                24..=27 => next.timeout = 3 + random.below(10),
                28..=32 => next.limit = 100 + random.below(100),
                33..=35 => next.extra = !next.extra,
                36..=37 => next.counts = !next.counts,
                _ => next.mode = ["STRICT", "PERMISSIVE", "DISABLE"][random.below(3) as usize],
            }
            changes += 1;
        }
        next
    }

    /// Writes what differs from what is there, what others name first and what names others last.
    fn write(&self, mesh: &LocalMesh, before: &[String]) -> Result<()> {
        let [products, routing, limiter, metrics, peers] = before else {
            bail!("{} files", before.len());
        };
        let manifests = mesh.manifests();
        let put = |file: &str, text: String| {
            if manifests.read(file)? != text {
                manifests.write(file, &text)?;
            }
            anyhow::Ok(())
        };
        let mut text = weights(products.clone(), self.v1)
            .replace("timeout: 5s", &format!("timeout: {}s", self.timeout));
        for number in 0..self.routes {
            let route = format!(
                "  http:\n  - match:\n    - headers:\n        x-nobody: {{exact: '{number}'}}\n    route:\n    - destination: \
                 {{host: product-service, subset: v1, port: {{number: 3001}}}}\n"
            );
            text = text.replace("  http:\n", &route);
        }
        if self.canary {
            text = with_canary(&text);
        }
        for number in 0..self.subsets {
            text.push_str(&format!(
                "  - name: unused-{number}\n    labels:\n      version: v1\n"
            ));
        }
        put(PRODUCTS, text)?;
        put(
            LIMITER,
            limiter.replace("requests: 100,", &format!("requests: {},", self.limit)),
        )?;
        put(
            METRICS,
            if self.counts {
                format!("{metrics}{COUNTS}")
            } else {
                metrics.clone()
            },
        )?;
        put(
            PEERS,
            peers.replace("mode: STRICT", &format!("mode: {}", self.mode)),
        )?;
        if self.extra {
            manifests.write("istio/routing/extra.yaml", EXTRA)?;
            put(
                ROUTING,
                routing.replace("resources:\n", "resources:\n- extra.yaml\n"),
            )
        } else {
            put(ROUTING, routing.clone())
        }
    }
}

/// A path that nobody asks for.
const EXTRA: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: extra, namespace: ecommerce}
spec:
  hosts: ['*']
  gateways: [ecommerce-gateway]
  http:
  - match:
    - uri: {prefix: /extra}
    route:
    - destination: {host: user-service, port: {number: 3004}}
";

/// A plugin of a module that is there already.
const COUNTS: &str = "\
---
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: counts, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  url: oci://ghcr.io/tollgate/business-metrics:0.1.0
  phase: STATS
  failStrategy: FAIL_OPEN
  pluginConfig:
    labels: {status: {from: status}}
    metrics: [{name: shop_answers_total, labels: [status]}]
";

/// Numbers that are the same in every run (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % u64::from(end)) as u32
    }
}
