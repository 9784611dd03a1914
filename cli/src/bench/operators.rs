//! How many WebAssembly operators each module executes for a request: what it does, without the noise of the machine that does it.
//!
//! [`counting`](mod@super::counting) makes the modules count. They run in a real Envoy, which gets the same requests in the same order each time, one after the other on one connection, so
//! the figures are the same each time, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::BufReader;

use anyhow::Context;
use serde::Serialize;

use super::cases::{Case, Filter};
use super::costs::{modules, wasm_listener, write_module};
use super::counting::{self, Counts, Span, counting};
use super::load::Client;
use super::proxy::Proxy;
use super::report::{aligned, ratio, thousandths};
use super::{Bench, Progress};
use crate::up::blocking;

/// Tenants of the limiter's cases. Each comes once in [`SPAN`], and once before: a quarter of a second later by the clock of modules that count, so less often than it may.
const TENANTS: u64 = 1_000;

/// Half of the requests after the first of every tenant come before what counts, so what is only done now and then is done in the middle.
const SPAN: Span = Span {
    before: TENANTS + TENANTS / 2,
    counted: TENANTS,
};

/// As long as Envoy's own, which would be another one each time.
const REQUEST_ID: (&str, &str) = ("x-request-id", "8d7a2f4e-3c1b-4f60-9a5d-6e2b7c801f93");

/// Counts for these cases, and for the empty filter that they are compared with. `functions` is how many functions of each are shown.
pub(crate) async fn measure(
    bench: &Bench<'_>,
    cases: &[Case],
    functions: usize,
) -> anyhow::Result<Operators> {
    let mut all: BTreeSet<Case> = cases.iter().copied().collect();
    all.insert(Case::EmptySdkFilter);
    let mut filters = BTreeMap::new();
    for case in all {
        filters.insert(case, bench.shipped.filter(case)?);
    }

    let progress = Progress::new("Counting what the modules execute");
    let mut names = BTreeMap::new();
    let mut listeners = Vec::new();
    for (case, bytes) in modules(bench, &filters)? {
        let Some(Filter::Wasm(wasm)) = filters.get(&case) else {
            continue;
        };
        let (module, its_names) = counting(&bytes, &case.name(), SPAN)
            .with_context(|| format!("cannot make {} count", case.name()))?;
        let file = write_module(bench, case, "count", &module)?;
        let listener = wasm_listener(&case.name(), &file, wasm);
        listeners.push(listener.taking(case.traffic()));
        names.insert(case.name(), its_names);
    }
    let mut proxy = Proxy::start(
        bench.keeper,
        &bench.envoy,
        &bench.folder,
        "count",
        1,
        &listeners,
    )
    .await?;
    let mut loads = Vec::new();
    for case in filters.keys() {
        // One connection: the next request begins when the one before is over.
        let client = Client::connect(proxy.address(&case.name())?, 1)?;
        let (name, id) = REQUEST_ID;
        loads.push((client, case.traffic().requests(TENANTS).with(name, id)));
    }
    let stop = bench.stop.clone();
    let sent = blocking(move || {
        for (client, requests) in &mut loads {
            // One more: the one before is over when it is answered.
            client.send(requests, SPAN.before + SPAN.counted + 1, &stop)?;
        }
        Ok(())
    });
    proxy.during(sent).await?;
    proxy.require_health().await?;
    let log = proxy.log.clone();
    // What it has logged is in the file when it is gone.
    proxy.stop().await;
    let mut counts = blocking(move || {
        let file = File::open(&log).with_context(|| format!("cannot open {}", log.display()))?;
        let counts = counting::read(BufReader::new(file), &names, SPAN)?;
        let _ = std::fs::remove_file(&log);
        Ok(counts)
    })
    .await?;
    progress.at(1, 1);

    let mut reports = Vec::new();
    for case in filters.keys() {
        let counted = counts
            .remove(&case.name())
            .with_context(|| format!("{} told of too few requests", case.name()))?;
        reports.push(CaseOperators::new(case.name(), &counted, functions));
    }
    Ok(Operators::new(reports))
}

/// What every module executes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Operators {
    cases: Vec<CaseOperators>,
    requests: u64,
}

/// What a module executes for a request, on average.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct CaseOperators {
    name: String,
    operators_per_request: f64,
    ratio_to_empty_sdk_filter: Option<f64>,
    /// Of the cheapest request, and of the dearest.
    least: u64,
    most: u64,
    /// By callback.
    callbacks: BTreeMap<String, f64>,
    /// Of the functions that execute most, the dearest first. What was inlined counts for the function that it was inlined in.
    functions: Vec<Function>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Function {
    name: String,
    operators_per_request: f64,
}

impl CaseOperators {
    fn new(name: String, counts: &Counts, functions: usize) -> Self {
        let requests = counts.requests.len().max(1) as f64;
        let average = |sum: u64| thousandths(sum as f64 / requests);
        let totals: Vec<u64> = counts.requests.iter().map(|r| r.values().sum()).collect();
        let mut callbacks: BTreeMap<&str, u64> = BTreeMap::new();
        for (callback, executed) in counts.requests.iter().flatten() {
            *callbacks.entry(callback).or_default() += executed;
        }
        let mut dearest: Vec<(&String, u64)> = counts
            .functions
            .iter()
            .map(|(name, executed)| (name, *executed))
            .filter(|(_, executed)| *executed > 0)
            .collect();
        dearest.sort_by_key(|(name, executed)| (std::cmp::Reverse(*executed), *name));
        let dearest = dearest.into_iter().take(functions);
        Self {
            name,
            operators_per_request: average(totals.iter().sum()),
            ratio_to_empty_sdk_filter: None,
            least: totals.iter().copied().min().unwrap_or_default(),
            most: totals.iter().copied().max().unwrap_or_default(),
            callbacks: callbacks
                .into_iter()
                .map(|(callback, sum)| (callback.to_owned(), average(sum)))
                .collect(),
            functions: dearest
                .map(|(name, executed)| Function {
                    name: name.clone(),
                    operators_per_request: average(executed),
                })
                .collect(),
        }
    }
}

impl Operators {
    fn new(mut cases: Vec<CaseOperators>) -> Self {
        let empty = Case::EmptySdkFilter.name();
        let empty = cases.iter().find(|case| case.name == empty);
        if let Some(empty) = empty.map(|case| case.operators_per_request) {
            for case in &mut cases {
                case.ratio_to_empty_sdk_filter = ratio(case.operators_per_request, empty);
            }
        }
        Self {
            cases,
            requests: SPAN.counted,
        }
    }
}

/// In the order in which a proxy calls them; others come after these.
const ORDER: [&str; 9] = [
    "proxy_on_context_create",
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    "proxy_on_log",
    "proxy_on_delete",
];

impl fmt::Display for Operators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used: BTreeSet<&str> = self
            .cases
            .iter()
            .flat_map(|case| case.callbacks.keys().map(String::as_str))
            .collect();
        let others = used.iter().filter(|name| !ORDER.contains(name));
        let callbacks: Vec<&str> = ORDER
            .iter()
            .filter(|name| used.contains(*name))
            .chain(others)
            .copied()
            .collect();
        let short = |name: &str| {
            let name = name.strip_prefix("proxy_on_").unwrap_or(name);
            name.replace('_', " ")
        };
        let heads = ["case", "operators", "× empty", "least", "most"].map(str::to_owned);
        let mut rows = vec![heads.to_vec()];
        if let Some(heads) = rows.first_mut() {
            heads.extend(callbacks.iter().map(|name| short(name)));
        }
        rows.extend(self.cases.iter().map(|case| {
            let ratio = case.ratio_to_empty_sdk_filter;
            let mut row = vec![
                case.name.clone(),
                format!("{:.0}", case.operators_per_request),
                ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
                case.least.to_string(),
                case.most.to_string(),
            ];
            row.extend(callbacks.iter().map(|name| {
                let executed = case.callbacks.get(*name);
                executed.map_or_else(String::new, |executed| format!("{executed:.0}"))
            }));
            row
        }));
        writeln!(
            f,
            "WebAssembly operators per request, without those that only move locals and constants"
        )?;
        f.write_str(&aligned(&rows))?;
        writeln!(
            f,
            "Averages of {} requests; least and most are those of single ones.",
            self.requests
        )?;
        for case in self.cases.iter().filter(|case| !case.functions.is_empty()) {
            writeln!(f, "\n{}", case.name)?;
            for function in &case.functions {
                let Function {
                    name,
                    operators_per_request,
                } = function;
                writeln!(f, "  {operators_per_request:>8.1}  {name}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn operators() -> Operators {
        let request = |create: u64, headers: u64| {
            BTreeMap::from([
                ("proxy_on_context_create".to_owned(), create),
                ("proxy_on_request_headers".to_owned(), headers),
            ])
        };
        let counts = |requests: Vec<BTreeMap<String, u64>>| Counts {
            functions: BTreeMap::from([
                ("small".to_owned(), 1),
                ("large".to_owned(), 99),
                ("idle".to_owned(), 0),
            ]),
            requests,
        };
        let empty = counts(vec![request(100, 20), request(100, 20)]);
        let filter = counts(vec![request(100, 500), request(101, 520)]);
        Operators::new(vec![
            CaseOperators::new("empty-sdk-filter".to_owned(), &empty, 0),
            CaseOperators::new("user-classifier".to_owned(), &filter, 5),
        ])
    }

    #[test]
    fn people_get_a_table_and_the_functions_that_they_asked_for() {
        assert_eq!(
            operators().to_string(),
            "WebAssembly operators per request, without those that only move locals and constants\n\
             case              operators  × empty  least  most  context create  request headers\n\
             empty-sdk-filter        120     1.00    120   120             100               20\n\
             user-classifier         610     5.09    600   621             100              510\n\
             Averages of 1000 requests; least and most are those of single ones.\n\
             \n\
             user-classifier\n      49.5  large\n       0.5  small\n"
        );
    }

    #[test]
    fn programs_get_these_fields() {
        assert_eq!(
            serde_json::to_value(operators()).unwrap()["cases"][1],
            json!({
                "name": "user-classifier", "operatorsPerRequest": 610.5, "ratioToEmptySdkFilter": 5.088, "least": 600, "most": 621,
                "callbacks": { "proxy_on_context_create": 100.5, "proxy_on_request_headers": 510.0 },
                "functions": [
                    { "name": "large", "operatorsPerRequest": 49.5 },
                    { "name": "small", "operatorsPerRequest": 0.5 },
                ],
            })
        );
    }
}
