//! `tollgate bench`: what the filters cost, measured on a real Envoy.
//!
//! [`cases`] says what is compared, with the [`rules`] that the classifier is given beside those that ship. [`record`] makes the modules tell what they ask of the proxy, [`trace`] reads what they told (with what it
//! knows of the [`abi`]), and [`floor`] makes the module that asks for the same and does nothing else. Then [`costs`] measures all of them in turn
//! on one [`proxy`]: [`load`] sends the requests, [`usage`] says what the proxy used for them, [`statistics`] what that means, [`report`] how it is
//! told. [`tenants`] and [`flood`] measure the limiter's memory besides, [`values`] that of the metrics. [`operators`] measures no time: it has the
//! modules [count](counting) what they execute.

pub(crate) mod abi;
mod cases;
mod costs;
mod counting;
mod flood;
pub(crate) mod floor;
mod load;
mod operators;
mod proxy;
pub(crate) mod record;
mod report;
mod rules;
mod statistics;
mod tenants;
pub(crate) mod trace;
mod usage;
mod values;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use crate::args::{BenchArgs, BenchFormat};
use crate::build::prune::Names;
use crate::build::{self, Module};
use crate::console::say;
use crate::envoy::{Envoy, Wanted};
use crate::up::blocking;
use crate::up::signals::Signals;
use crate::workspace::Workspace;

pub use cases::Case;
use cases::Shipped;
use load::Stop;
use proxy::Keeper;
use report::Report;

/// What is wrong with arguments together: only modules execute operators.
pub(crate) fn contradiction(args: &BenchArgs) -> Option<String> {
    let with_modules = Case::with_modules();
    let without = args.cases.iter().find(|case| !with_modules.contains(case));
    let without = without.filter(|_| args.operators)?.name();
    let names: Vec<String> = with_modules.into_iter().map(Case::name).collect();
    Some(format!(
        "--operators counts what one module executes, and '{without}' is not a case of one; name some of: {}",
        names.join(", ")
    ))
}

/// Measures and says what came of it.
pub async fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    if !args.operators {
        usage::require()?;
    }
    let mut signals = Signals::catch()?;
    let keeper = Keeper::new()?;
    let stop = Stop::default();
    let format = args.format;
    let report = tokio::select! {
        report = bench(args, &keeper, &stop) => report,
        signal = signals.next() => Err(anyhow!("interrupted: {signal}")),
    };
    stop.ask();
    build::stop();
    keeper.stop(async { _ = signals.next().await }).await;
    let report = report?;
    let text = match format {
        BenchFormat::Text => report.to_string(),
        BenchFormat::Json => format!("{}\n", serde_json::to_string_pretty(&report)?),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// What all parts of the bench work with.
struct Bench<'a> {
    keeper: &'a Keeper,
    stop: &'a Stop,
    envoy: Envoy,
    modules: Vec<Module>,
    shipped: Shipped,
    /// For what the proxies need; gone when the bench is.
    folder: PathBuf,
    workers: u32,
    rounds: u32,
    requests: u64,
    ids: Option<u64>,
    individually: Option<u64>,
}

impl Bench<'_> {
    fn module(&self, name: &str) -> anyhow::Result<&Module> {
        self.modules
            .iter()
            .find(|module| module.name == name)
            .with_context(|| format!("there is no module {name}"))
    }

    /// Connections to a listener: enough for each worker to have some each time it is woken.
    fn connections(&self) -> usize {
        16 * self.workers as usize
    }
}

async fn bench(args: BenchArgs, keeper: &Keeper, stop: &Stop) -> anyhow::Result<Report> {
    let wanted = Wanted::new(args.envoy);
    let names = if args.operators {
        Names::Kept
    } else {
        Names::Dropped
    };
    let (envoy, workspace, modules) = blocking(move || {
        let workspace = Workspace::current()?;
        say("Building the filters");
        let modules = build::modules_and_comparisons(&workspace, names)?;
        Ok((Envoy::locate(&wanted)?, workspace, modules))
    })
    .await?;
    let shipped = Shipped::read(&workspace)?;
    let parent = workspace.target_directory().join("tollgate");
    std::fs::create_dir_all(&parent)
        .with_context(|| format!("cannot make {}", parent.display()))?;
    let folder = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(&parent)
        .with_context(|| format!("cannot make a folder in {}", parent.display()))?;
    say(format_args!(
        "Measuring on Envoy {} with {} worker{}",
        envoy.version,
        args.workers,
        if args.workers == 1 { "" } else { "s" }
    ));
    let mut report = Report::new(&envoy, args.workers);
    let bench = Bench {
        keeper,
        stop,
        envoy,
        modules,
        shipped,
        folder: folder.path().to_owned(),
        workers: args.workers,
        rounds: args.rounds,
        requests: args.requests,
        ids: args.ids,
        individually: args.individually,
    };
    if args.operators {
        let cases = if args.cases.is_empty() {
            Case::with_modules()
        } else {
            args.cases
        };
        let functions = args.functions.unwrap_or_default() as usize;
        report.operators = Some(operators::measure(&bench, &cases, functions).await?);
        return Ok(report);
    }
    let cases: BTreeSet<Case> = if args.cases.is_empty() {
        Case::by_default().into_iter().collect()
    } else {
        args.cases.into_iter().collect()
    };
    let costs: Vec<Case> = cases
        .iter()
        .copied()
        .filter(|case| case.is_cost())
        .collect();
    if !costs.is_empty() {
        report.costs = Some(costs::measure(&bench, &costs).await?);
    }
    if cases.contains(&Case::Tenants) {
        report.tenants = Some(tenants::measure(&bench).await?);
    }
    if cases.contains(&Case::Flood) {
        report.flood = Some(flood::measure(&bench).await?);
    }
    if cases.contains(&Case::Values) {
        report.values = Some(values::measure(&bench).await?);
    }
    Ok(report)
}

/// Says now and then how far something is.
#[derive(Debug)]
struct Progress {
    what: &'static str,
    last: Mutex<Instant>,
}

impl Progress {
    const PAUSE: Duration = Duration::from_secs(5);

    fn new(what: &'static str) -> Self {
        say(what);
        Self {
            what,
            last: Mutex::new(Instant::now()),
        }
    }

    fn at(&self, done: u64, all: u64) {
        let Ok(mut last) = self.last.lock() else {
            return;
        };
        if last.elapsed() >= Self::PAUSE {
            *last = Instant::now();
            say(format_args!("{}: {} %", self.what, done * 100 / all.max(1)));
        }
    }
}
