//! The proxy's memory while more and more invented ids come: it may grow until the limiter's table is full, and not beyond.

use std::fmt;

use serde::Serialize;

use super::cases::Traffic;
use super::load::{Client, Requests, Stop};
use super::proxy::{Listener, Proxy, wasm_filter};
use super::report::{Row, mebibytes, table};
use super::tenants;
use super::usage::Process;
use super::{Bench, Progress};
use crate::up::blocking;

const PLUGIN: &str = "tenant-rate-limit";

/// Ids, if nobody says how many.
const IDS: u64 = 10_000_000;

/// How often it is looked at.
const LOOKS: u64 = 10;

/// What was seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Flood {
    ids: u64,
    /// How many of them the limiter may tell apart.
    individually: u64,
    memory_before_bytes: u64,
    memory_after_bytes: u64,
    grown_bytes: i64,
    /// Of the second half of all ids alone.
    grown_in_second_half_bytes: i64,
    looks: Vec<Look>,
}

/// How it was after some ids.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Look {
    ids: u64,
    memory_bytes: u64,
    /// Of the ids since the last look.
    admitted: u64,
    refused: u64,
}

/// Lets them come. The configuration is the shipped one with the largest table, unless the command line says otherwise.
pub(crate) async fn measure(bench: &Bench<'_>) -> anyhow::Result<Flood> {
    let module = &bench.module(PLUGIN)?.path;
    let (configuration, individually) = tenants::configuration(bench, false)?;
    let configuration = configuration.to_string();
    let filter = wasm_filter(PLUGIN, module, PLUGIN, &configuration);
    let mut proxy = Proxy::start(
        bench.keeper,
        &bench.envoy,
        &bench.folder,
        "flood",
        bench.workers,
        &[Listener::new(PLUGIN, Some(filter))],
    )
    .await?;
    let ids = bench.ids.unwrap_or(IDS);
    let run = Run {
        process: proxy.process.clone(),
        client: Client::connect(proxy.address(PLUGIN)?, bench.connections())?,
        ids,
        individually,
        warm_up: bench.requests,
        stop: bench.stop.clone(),
    };
    let flood = proxy.during(blocking(move || run.run())).await?;
    proxy.require_health().await?;
    proxy.stop().await;
    Ok(flood)
}

struct Run {
    process: Process,
    client: Client,
    ids: u64,
    individually: u64,
    warm_up: u64,
    stop: Stop,
}

impl Run {
    const PART: u64 = 10_000;

    fn run(mut self) -> anyhow::Result<Flood> {
        // One listed tenant, admitted and refused: what a VM needs for any tenant is there before the first invented one.
        let mut listed = Traffic::Acme.requests(1);
        self.client.send(&mut listed, self.warm_up, &self.stop)?;
        let progress = Progress::new("Letting invented ids come");
        let before = self.process.resident()?;
        let mut requests: Requests = Traffic::Everybody.requests(u64::MAX);
        let mut looks: Vec<Look> = Vec::new();
        let mut sent = 0;
        for look in 1..=LOOKS {
            let until = self.ids * look / LOOKS;
            let (mut admitted, mut refused) = (0, 0);
            while sent < until {
                let part = (until - sent).min(Self::PART);
                let answers = self.client.send(&mut requests, part, &self.stop)?;
                admitted += answers.admitted;
                refused += answers.refused;
                sent += answers.admitted + answers.refused;
                progress.at(sent, self.ids);
            }
            looks.push(Look {
                ids: sent,
                memory_bytes: self.process.resident()?,
                admitted,
                refused,
            });
        }
        let at = |look: usize| looks.get(look).map_or(before, |look| look.memory_bytes);
        let (half, after) = (at(looks.len() / 2 - 1), at(looks.len() - 1));
        Ok(Flood {
            ids: sent,
            individually: self.individually,
            memory_before_bytes: before,
            memory_after_bytes: after,
            grown_bytes: after.cast_signed() - before.cast_signed(),
            grown_in_second_half_bytes: after.cast_signed() - half.cast_signed(),
            looks,
        })
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![Row([
            "ids".to_owned(),
            "memory".to_owned(),
            "admitted".to_owned(),
            "refused".to_owned(),
        ])];
        let memory = |bytes: u64| mebibytes(bytes.cast_signed());
        rows.push(Row([
            "0".to_owned(),
            memory(self.memory_before_bytes),
            String::new(),
            String::new(),
        ]));
        rows.extend(self.looks.iter().map(|look| {
            Row([
                look.ids.to_string(),
                memory(look.memory_bytes),
                look.admitted.to_string(),
                look.refused.to_string(),
            ])
        }));
        writeln!(
            f,
            "tenant-rate-limit, which tells {} tenants apart, and invented ids, a request each",
            self.individually
        )?;
        f.write_str(&table(&rows))?;
        writeln!(
            f,
            "The proxy's memory grew by {}, of which {} in the second half.",
            mebibytes(self.grown_bytes),
            mebibytes(self.grown_in_second_half_bytes)
        )
    }
}
