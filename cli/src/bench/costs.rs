//! CPU per request of every case, of every module's floor, and of no filter at all, measured in turn on one Envoy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

use super::cases::{Case, Filter, Traffic, Wasm};
use super::floor;
use super::load::{Client, Requests, Stop};
use super::proxy::{Listener, Proxy, wasm_filter};
use super::record::{Interface, recording};
use super::report::{CaseReport, Costs, ratio};
use super::statistics::Summary;
use super::trace::{self, Argument, Request};
use super::usage::Process;
use super::{Bench, Progress};
use crate::up::blocking;

/// Requests of a case that its floor is made from, at most.
const TRACED: u64 = 2_000;

/// Tenants of [`Traffic::Everybody`]: so many that the limits of the shipped configuration, 10 requests at once and 5 a second, are never
/// reached, and fewer than it tells apart.
fn tenants(requests: u64) -> u64 {
    (requests / 2).clamp(100, 9_000)
}

/// Measures these cases, and those that they are compared with.
pub(crate) async fn measure(bench: &Bench<'_>, cases: &[Case]) -> anyhow::Result<Costs> {
    let mut all: BTreeSet<Case> = cases.iter().copied().collect();
    all.extend([Case::NoFilter, Case::EmptySdkFilter]);
    let mut filters = BTreeMap::new();
    for case in all {
        filters.insert(case, bench.shipped.filter(case)?);
    }
    let modules = modules(bench, &filters)?;

    let progress = Progress::new("Recording what the modules ask of the proxy");
    let traces = record(bench, "record", &filters, &modules).await?;
    let mut floors = BTreeMap::new();
    for (case, traced) in &traces {
        let what = || format!("cannot make the floor of {}", case.name());
        let text = floor::text(&traced.interface, &traced.requests).with_context(what)?;
        let module = wat::parse_str(&text).with_context(what)?;
        floors.insert(*case, module);
    }
    progress.at(1, 1);
    let progress = Progress::new("Checking that their floors ask for the same");
    let played = record(bench, "check", &filters, &floors).await?;
    for (case, traced) in &traces {
        let floor = played
            .get(case)
            .with_context(|| format!("the floor of {} was not recorded", case.name()))?;
        check(traced, floor)
            .with_context(|| format!("the floor of {} is not what it should be", case.name()))?;
    }
    progress.at(1, 1);

    let measured = compare(bench, &filters, &floors).await?;
    report(bench, &filters, &traces, &measured)
}

/// The bytes of every module.
pub(super) fn modules(
    bench: &Bench<'_>,
    filters: &BTreeMap<Case, Filter>,
) -> anyhow::Result<BTreeMap<Case, Vec<u8>>> {
    let mut modules = BTreeMap::new();
    for (case, filter) in filters {
        if let Filter::Wasm(wasm) = filter {
            let path = &bench.module(&wasm.module)?.path;
            let bytes =
                std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            modules.insert(*case, bytes);
        }
    }
    Ok(modules)
}

/// What a module did with some requests.
#[derive(Debug)]
struct Traced {
    interface: Interface,
    requests: Vec<Request>,
}

/// Has these modules tell what they ask of a proxy, in the place of the cases' own.
async fn record(
    bench: &Bench<'_>,
    name: &str,
    filters: &BTreeMap<Case, Filter>,
    modules: &BTreeMap<Case, Vec<u8>>,
) -> anyhow::Result<BTreeMap<Case, Traced>> {
    let mut interfaces = BTreeMap::new();
    let mut listeners = Vec::new();
    for (case, bytes) in modules {
        let Some(Filter::Wasm(wasm)) = filters.get(case) else {
            continue;
        };
        let (module, interface) = recording(bytes, &case.name())
            .with_context(|| format!("cannot make {} tell what it does", case.name()))?;
        let file = write_module(bench, *case, name, &module)?;
        listeners.push(wasm_listener(&case.name(), &file, wasm).taking(case.traffic()));
        interfaces.insert(case.name(), interface);
    }
    let mut proxy = Proxy::start(
        bench.keeper,
        &bench.envoy,
        &bench.folder,
        name,
        bench.workers,
        &listeners,
    )
    .await?;
    let tenants = tenants(bench.requests);
    let traced = tenants.clamp(200, TRACED);
    let mut loads = Vec::new();
    for case in modules.keys() {
        let client = Client::connect(proxy.address(&case.name())?, bench.connections())?;
        loads.push((client, case.traffic().requests(tenants)));
    }
    let stop = bench.stop.clone();
    let sent = blocking(move || {
        for (client, requests) in &mut loads {
            // Everybody has been there once before what counts.
            client.send(requests, tenants + 500 + traced, &stop)?;
        }
        Ok(())
    });
    proxy.during(sent).await?;
    proxy.require_health().await?;
    let log = proxy.log.clone();
    // What it has logged is in the file when it is gone.
    proxy.stop().await;
    let read = interfaces.clone();
    let mut traces = blocking(move || {
        let file = File::open(&log).with_context(|| format!("cannot open {}", log.display()))?;
        let traces = trace::read(BufReader::new(file), &read)?;
        let _ = std::fs::remove_file(&log);
        Ok(traces)
    })
    .await?;
    let mut result = BTreeMap::new();
    for case in modules.keys() {
        let (Some(mut requests), Some(interface)) =
            (traces.remove(&case.name()), interfaces.remove(&case.name()))
        else {
            bail!("{} was not recorded", case.name());
        };
        ensure!(
            requests.len() as u64 >= traced,
            "{} told of {} requests and got more",
            case.name(),
            requests.len()
        );
        requests.drain(..requests.len() - traced as usize);
        result.insert(
            *case,
            Traced {
                interface,
                requests,
            },
        );
    }
    Ok(result)
}

/// Refuses a floor that does anything else than its module, except for how much the proxy returned: a shared value may have grown
/// a little from one turn to the next.
fn check(module: &Traced, floor: &Traced) -> anyhow::Result<()> {
    let outlines = |traced: &Traced| -> BTreeSet<Vec<String>> {
        let requests = traced.requests.iter();
        requests
            .map(|request| floor::outline(&traced.interface, request))
            .collect()
    };
    let known = outlines(module);
    if let Some(other) = outlines(floor)
        .iter()
        .find(|outline| !known.contains(*outline))
    {
        bail!("it does what the module never did:\n{}", other.join("\n"));
    }
    for (what, of) in [
        ("calls", calls as fn(&Traced) -> f64),
        ("returned bytes", returned),
    ] {
        let (module, floor) = (of(module), of(floor));
        ensure!(
            (module - floor).abs() <= 0.02 * module,
            "{floor:.2} {what} a request where the module has {module:.2}"
        );
    }
    Ok(())
}

fn calls(traced: &Traced) -> f64 {
    let calls: usize = traced.requests.iter().map(|r| r.calls().count()).sum();
    calls as f64 / traced.requests.len() as f64
}

fn returned(traced: &Traced) -> f64 {
    let arguments = traced
        .requests
        .iter()
        .flat_map(Request::calls)
        .flat_map(|call| &call.arguments);
    let bytes: f64 = arguments
        .map(|argument| match argument {
            Argument::Returned(length) => f64::from(*length),
            _ => 0.0,
        })
        .sum();
    bytes / traced.requests.len() as f64
}

pub(super) fn write_module(
    bench: &Bench<'_>,
    case: Case,
    suffix: &str,
    module: &[u8],
) -> anyhow::Result<PathBuf> {
    let file = bench
        .folder
        .join(format!("{}.{suffix}.wasm", case.name().replace('/', "-")));
    std::fs::write(&file, module).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

pub(super) fn wasm_listener(name: &str, file: &std::path::Path, wasm: &Wasm) -> Listener {
    let filter = wasm_filter(name, file, &wasm.plugin, &wasm.configuration);
    Listener::new(name, Some(filter))
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Nothing(Traffic),
    Case(Case),
    Floor(Case),
}

impl Subject {
    fn listener(self) -> String {
        match self {
            Self::Nothing(traffic) if traffic.is_plain() => Case::NoFilter.name(),
            Self::Nothing(traffic) => format!("{}.{traffic:?}", Case::NoFilter.name()),
            Self::Case(case) => case.name(),
            Self::Floor(case) => format!("{}.floor", case.name()),
        }
    }

    fn traffic(self) -> Traffic {
        match self {
            Self::Nothing(traffic) => traffic,
            Self::Case(case) | Self::Floor(case) => case.traffic(),
        }
    }

    fn may_refuse(self) -> bool {
        matches!(self, Self::Case(case) | Self::Floor(case) if case.may_refuse())
    }
}

/// Microseconds of CPU per request of each subject, round by round.
type Measured = BTreeMap<Subject, Vec<f64>>;

async fn compare(
    bench: &Bench<'_>,
    filters: &BTreeMap<Case, Filter>,
    floors: &BTreeMap<Case, Vec<u8>>,
) -> anyhow::Result<Measured> {
    let mut listeners = Vec::new();
    // A case, its floor, and what both are compared with follow each other.
    let mut subjects: Vec<Subject> = Vec::new();
    for (case, filter) in filters {
        let traffic = case.traffic();
        let nothing = Subject::Nothing(traffic);
        if !subjects.contains(&nothing) {
            subjects.push(nothing);
            if !traffic.is_plain() {
                listeners.push(Listener::new(nothing.listener(), None).taking(traffic));
            }
        }
        match filter {
            Filter::None => listeners.push(Listener::new(case.name(), None)),
            Filter::Native {
                filter,
                rate_limits,
            } => {
                let mut listener = Listener::new(case.name(), Some(filter.clone()));
                listener.rate_limits = rate_limits.clone();
                listeners.push(listener);
                subjects.push(Subject::Case(*case));
            }
            Filter::Wasm(wasm) => {
                let module = bench.module(&wasm.module)?;
                let listener = wasm_listener(&case.name(), &module.path, wasm);
                listeners.push(listener.taking(traffic));
                subjects.push(Subject::Case(*case));
                if let Some(floor) = floors.get(case) {
                    let file = write_module(bench, *case, "floor", floor)?;
                    let name = Subject::Floor(*case).listener();
                    listeners.push(wasm_listener(&name, &file, wasm).taking(traffic));
                    subjects.push(Subject::Floor(*case));
                }
            }
        }
    }
    let mut proxy = Proxy::start(
        bench.keeper,
        &bench.envoy,
        &bench.folder,
        "compare",
        bench.workers,
        &listeners,
    )
    .await?;
    let tenants = tenants(bench.requests);
    let mut stands = Vec::new();
    for subject in subjects {
        stands.push(Stand {
            subject,
            client: Client::connect(proxy.address(&subject.listener())?, bench.connections())?,
            requests: subject.traffic().requests(tenants),
            measured: Vec::new(),
        });
    }
    let rounds = Rounds {
        process: proxy.process.clone(),
        rounds: bench.rounds,
        requests: bench.requests,
        stop: bench.stop.clone(),
    };
    let measured = proxy.during(blocking(move || rounds.run(stands))).await?;
    proxy.require_health().await?;
    proxy.stop().await;
    Ok(measured)
}

/// A subject with what it takes to measure it.
struct Stand {
    subject: Subject,
    client: Client,
    requests: Requests,
    measured: Vec<f64>,
}

impl Stand {
    fn send(&mut self, count: u64, stop: &Stop) -> anyhow::Result<u64> {
        let name = self.subject.listener();
        let answers = self
            .client
            .send(&mut self.requests, count, stop)
            .with_context(|| format!("cannot measure {name}"))?;
        ensure!(
            answers.refused == 0 || self.subject.may_refuse(),
            "{} of {count} requests to {name} were refused: they came faster than its limits allow, so the figures would be \
             those of something else; use fewer --requests",
            answers.refused
        );
        Ok(answers.admitted + answers.refused)
    }
}

/// Measures all in turn, again and again, so that what the machine does besides falls on all alike.
struct Rounds {
    process: Process,
    rounds: u32,
    requests: u64,
    stop: Stop,
}

impl Rounds {
    fn run(&self, mut stands: Vec<Stand>) -> anyhow::Result<Measured> {
        let progress = Progress::new("Measuring");
        // The proxy compiles what runs often a second time, better.
        for stand in &mut stands {
            stand.send(2 * self.requests, &self.stop)?;
        }
        let all = u64::from(self.rounds) * stands.len() as u64;
        for round in 0..self.rounds as usize {
            for position in 0..stands.len() {
                // Each time another one is the first.
                let number = (round + position) % stands.len();
                if let Some(stand) = stands.get_mut(number) {
                    self.one(stand)?;
                }
                progress.at((round * stands.len() + position) as u64, all);
            }
        }
        Ok(stands
            .into_iter()
            .map(|stand| (stand.subject, stand.measured))
            .collect())
    }

    fn one(&self, stand: &mut Stand) -> anyhow::Result<()> {
        // Its code and data are in the caches again.
        stand.send(self.requests / 10, &self.stop)?;
        let used = self
            .process
            .cpu_per_request(|| stand.send(self.requests, &self.stop))?;
        stand.measured.push(used);
        Ok(())
    }
}

/// What a filter adds, round by round.
fn added(measured: &Measured, subject: Subject) -> anyhow::Result<Summary> {
    let of = |subject: Subject| {
        measured
            .get(&subject)
            .with_context(|| format!("{} was not measured", subject.listener()))
    };
    let with = of(subject)?;
    let without = of(Subject::Nothing(subject.traffic()))?;
    let differences: Vec<f64> = with
        .iter()
        .zip(without)
        .map(|(with, without)| with - without)
        .collect();
    Summary::of(&differences).context("nothing was measured")
}

fn report(
    bench: &Bench<'_>,
    filters: &BTreeMap<Case, Filter>,
    traces: &BTreeMap<Case, Traced>,
    measured: &Measured,
) -> anyhow::Result<Costs> {
    let baseline = measured
        .get(&Subject::Nothing(Traffic::Acme))
        .and_then(|rounds| Summary::of(rounds))
        .context("no filter was not measured")?;
    let empty = added(measured, Subject::Case(Case::EmptySdkFilter))?.median;
    let mut cases = Vec::new();
    for (case, filter) in filters {
        let name = case.name();
        let Filter::None = filter else {
            let summary = added(measured, Subject::Case(*case))?;
            let mut report = CaseReport::new(name, &summary);
            report.ratio_to_empty_sdk_filter = ratio(summary.median, empty);
            if let (Filter::Wasm(wasm), Some(traced)) = (filter, traces.get(case)) {
                let floor = added(measured, Subject::Floor(*case))?;
                report.floor(&floor);
                report.host_calls(host_calls(traced));
                report.module_bytes = Some(bench.module(&wasm.module)?.size as u64);
            }
            cases.push(report);
            continue;
        };
        cases.push(CaseReport::baseline(name));
    }
    Ok(Costs::new(cases, baseline, bench.rounds, bench.requests))
}

/// Calls per request, by function.
fn host_calls(traced: &Traced) -> BTreeMap<String, f64> {
    let mut calls: BTreeMap<String, f64> = BTreeMap::new();
    for call in traced.requests.iter().flat_map(Request::calls) {
        if let Some((_, name, _)) = traced.interface.functions.get(call.function) {
            *calls.entry(name.clone()).or_default() += 1.0;
        }
    }
    for count in calls.values_mut() {
        *count /= traced.requests.len() as f64;
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::super::trace::tests::{interface, requests};
    use super::*;

    #[test]
    fn a_floor_that_does_something_else_is_refused() {
        let module = Traced {
            interface: interface(),
            requests: requests(),
        };
        let mut floor = Traced {
            interface: interface(),
            requests: requests(),
        };
        assert!(check(&module, &floor).is_ok());
        // Its read finds nothing.
        floor.requests[1].phases[1].calls[0].status = 1;
        assert_eq!(
            check(&module, &floor).unwrap_err().to_string(),
            "it does what the module never did:\nproxy_on_context_create -> 0\nproxy_on_request_headers -> 0\n  \
             proxy_get_shared_data(2 bytes, _, _) -> 1\n  proxy_set_shared_data(2 bytes, 8 bytes, _) -> 0\n  \
             proxy_increment_metric(0 hits, _) -> 0\nproxy_on_delete -> 0"
        );
        // It plays the cheap request only.
        floor.requests = vec![requests()[0].clone()];
        assert_eq!(
            check(&module, &floor).unwrap_err().to_string(),
            "0.00 calls a request where the module has 1.50"
        );
    }

    #[test]
    fn what_a_filter_adds_is_compared_round_by_round() {
        let measured = Measured::from([
            (Subject::Nothing(Traffic::Acme), vec![10.0, 20.0, 30.0]),
            (Subject::Case(Case::Lua), vec![13.0, 23.0, 34.0]),
        ]);
        let added = added(&measured, Subject::Case(Case::Lua)).unwrap();
        assert_eq!((added.median, added.spread()), (3.0, 0.5));
    }
}
