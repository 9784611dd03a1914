//! The limiter with more and more tenants: CPU per request, and what they take of memory.
//!
//! Each number of tenants has a listener with a VM, and so a table, of its own. First each gets all its tenants once, and the memory that the
//! proxy takes for them is seen; then all are measured in turn.

use std::fmt;

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use super::cases::{Case, Traffic};
use super::load::{Client, Requests, Stop};
use super::proxy::{Listener, Proxy, wasm_filter};
use super::report::{Row, mebibytes, ratio, table, thousandths};
use super::statistics::Summary;
use super::usage::Process;
use super::{Bench, Progress};
use crate::up::blocking;

const STEPS: [u64; 5] = [1, 10, 1_000, 100_000, 1_000_000];

const MOST: u64 = 1_000_000;

const PLUGIN: &str = "tenant-rate-limit";

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Tenants {
    steps: Vec<Step>,
}

/// A number of tenants.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    tenants: u64,
    /// Of all that the proxy does for a request.
    cpu_micros: f64,
    spread_cpu_micros: f64,
    ratio_to_first: Option<f64>,
    /// What the filter adds of it.
    added_cpu_micros: f64,
    added_ratio_to_first: Option<f64>,
    /// The proxy's memory when they had all come, and what had come for them.
    memory_bytes: u64,
    grown_bytes: i64,
}

/// The shipped configuration with the largest table, or one for as many tenants as the command line says; how many that are. And, if so wanted, with
/// limits that one tenant alone does not reach.
pub(crate) fn configuration(bench: &Bench<'_>, unlimited: bool) -> anyhow::Result<(Value, u64)> {
    let mut configuration = bench.shipped.configuration(PLUGIN)?;
    let wrong = "the shipped configuration of tenant-rate-limit has no tenant.unknown with a tier";
    let unknown = configuration
        .pointer_mut("/tenant/unknown")
        .and_then(Value::as_object_mut)
        .context(wrong)?;
    let tier = unknown
        .get("tier")
        .and_then(Value::as_str)
        .context(wrong)?
        .to_owned();
    let limits = configuration
        .pointer_mut(&format!("/tiers/{tier}/limits"))
        .and_then(Value::as_array_mut)
        .with_context(|| format!("the tier {tier} has no limits"))?;
    let largest = tenant_rate_limit::table::largest(limits.len());
    if unlimited {
        for limit in limits {
            for field in ["requests", "burst", "quota"] {
                if limit.get(field).is_some() {
                    limit[field] = json!(1_000_000);
                }
            }
        }
    }
    let individually = bench.individually.unwrap_or(largest);
    configuration["tenant"]["unknown"]["individually"] = json!(individually);
    Ok((configuration, individually))
}

/// Takes the steps.
pub(crate) async fn measure(bench: &Bench<'_>) -> anyhow::Result<Tenants> {
    let module = &bench.module(PLUGIN)?.path;
    let (configuration, _) = configuration(bench, true)?;
    let configuration = configuration.to_string();
    let most = bench.ids.unwrap_or(MOST).min(MOST);
    let steps: Vec<u64> = STEPS.into_iter().filter(|step| *step <= most).collect();
    let mut listeners = vec![Listener::new(Case::NoFilter.name(), None)];
    listeners.extend(steps.iter().map(|step| {
        let name = format!("tenants-{step}");
        let filter = wasm_filter(&name, module, &name, &configuration);
        Listener::new(name, Some(filter))
    }));
    let mut proxy = Proxy::start(
        bench.keeper,
        &bench.envoy,
        &bench.folder,
        "tenants",
        bench.workers,
        &listeners,
    )
    .await?;
    let stand = |listener: &str, tenants: u64| {
        Ok(Stand {
            client: Client::connect(proxy.address(listener)?, bench.connections())?,
            requests: Traffic::Everybody.requests(tenants),
            tenants,
            measured: Vec::new(),
            memory: 0,
            grown: 0,
        })
    };
    let baseline = stand(&Case::NoFilter.name(), MOST)?;
    let stands: anyhow::Result<Vec<Stand>> = steps
        .iter()
        .map(|step| stand(&format!("tenants-{step}"), *step))
        .collect();
    let run = Run {
        process: proxy.process.clone(),
        rounds: bench.rounds,
        requests: bench.requests,
        stop: bench.stop.clone(),
        baseline,
        stands: stands?,
    };
    let tenants = proxy.during(blocking(move || run.run())).await?;
    proxy.require_health().await?;
    proxy.stop().await;
    Ok(tenants)
}

struct Stand {
    client: Client,
    requests: Requests,
    tenants: u64,
    measured: Vec<f64>,
    memory: u64,
    grown: i64,
}

impl Stand {
    fn send(&mut self, count: u64, stop: &Stop) -> anyhow::Result<u64> {
        let answers = self.client.send(&mut self.requests, count, stop)?;
        ensure!(
            answers.refused == 0,
            "{} of {count} requests of {} tenants were refused",
            answers.refused,
            self.tenants
        );
        Ok(answers.admitted)
    }
}

struct Run {
    process: Process,
    rounds: u32,
    requests: u64,
    stop: Stop,
    baseline: Stand,
    stands: Vec<Stand>,
}

impl Run {
    /// How many requests are sent before somebody is told how far it is.
    const PART: u64 = 10_000;

    fn run(mut self) -> anyhow::Result<Tenants> {
        let progress = Progress::new("Letting the tenants come");
        let all: u64 = self.stands.iter().map(|stand| stand.tenants).sum();
        let mut done = 0;
        // What a VM and a connection need before any tenant is nobody's.
        for stand in self.stands.iter_mut().chain([&mut self.baseline]) {
            let mut few = Traffic::Everybody.requests(1);
            std::mem::swap(&mut few, &mut stand.requests);
            stand.send(2 * self.requests, &self.stop)?;
            stand.requests = few;
        }
        for stand in &mut self.stands {
            let before = self.process.resident()?;
            let mut left = stand.tenants;
            while left > 0 {
                let sent = stand.send(left.min(Self::PART), &self.stop)?;
                left = left.saturating_sub(sent);
                done += sent;
                progress.at(done.min(all), all);
            }
            stand.memory = self.process.resident()?;
            stand.grown = stand.memory.cast_signed() - before.cast_signed();
        }
        let progress = Progress::new("Measuring");
        for round in 0..self.rounds as usize {
            progress.at(round as u64, self.rounds.into());
            let count = self.stands.len() + 1;
            for position in 0..count {
                let number = (round + position) % count;
                let stand = match self.stands.get_mut(number) {
                    Some(stand) => stand,
                    None => &mut self.baseline,
                };
                stand.send(self.requests / 10, &self.stop)?;
                let used = self
                    .process
                    .cpu_per_request(|| stand.send(self.requests, &self.stop))?;
                stand.measured.push(used);
            }
        }
        self.tell()
    }

    fn tell(&self) -> anyhow::Result<Tenants> {
        let nothing = "nothing was measured";
        let mut steps: Vec<Step> = Vec::new();
        for stand in &self.stands {
            let all = Summary::of(&stand.measured).context(nothing)?;
            let differences: Vec<f64> = stand
                .measured
                .iter()
                .zip(&self.baseline.measured)
                .map(|(with, without)| with - without)
                .collect();
            let added = Summary::of(&differences).context(nothing)?;
            let (first, first_added) = steps.first().map_or((all.median, added.median), |step| {
                (step.cpu_micros, step.added_cpu_micros)
            });
            steps.push(Step {
                tenants: stand.tenants,
                cpu_micros: thousandths(all.median),
                spread_cpu_micros: thousandths(all.spread()),
                ratio_to_first: ratio(all.median, first),
                added_cpu_micros: thousandths(added.median),
                added_ratio_to_first: ratio(added.median, first_added),
                memory_bytes: stand.memory,
                grown_bytes: stand.grown,
            });
        }
        Ok(Tenants { steps })
    }
}

impl fmt::Display for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![Row([
            "tenants".to_owned(),
            "CPU".to_owned(),
            "±".to_owned(),
            "× first".to_owned(),
            "adds".to_owned(),
            "× first".to_owned(),
            "memory for them".to_owned(),
        ])];
        let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, |n| format!("{n:.2}"));
        rows.extend(self.steps.iter().map(|step| {
            Row([
                step.tenants.to_string(),
                format!("{:.2}", step.cpu_micros),
                format!("{:.2}", step.spread_cpu_micros / 2.0),
                ratio(step.ratio_to_first),
                format!("{:.2}", step.added_cpu_micros),
                ratio(step.added_ratio_to_first),
                mebibytes(step.grown_bytes),
            ])
        }));
        writeln!(
            f,
            "tenant-rate-limit by number of tenants: CPU per request in microseconds, all of it and what the filter adds"
        )?;
        f.write_str(&table(&rows))
    }
}
