//! Invented values, of all shapes that are hard to bear, through an Envoy with four workers: as many series as the configuration allows, every request in one of them, and no more
//! memory for the next value than for the last.
//!
//! It is `tollgate bench values` that sends them. That sends 1,000,000 if nobody says otherwise (docs/bench.md has what came of it); here they are as many as a test has time for.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bench::bench;

type Test = fn() -> Result<()>;

pub(crate) const TESTS: &[(&str, Test)] = &[(
    "invented_values_get_no_more_series_and_no_more_memory",
    invented_values_get_no_more_series_and_no_more_memory,
)];

const REQUESTS: u64 = 200_000;

fn invented_values_get_no_more_series_and_no_more_memory() -> Result<()> {
    let output = bench()?
        .args(["values", "--ids", &REQUESTS.to_string()])
        .args(["--workers", "4", "--format", "json"])
        .stderr(Stdio::inherit())
        .output()?;
    // A VM that failed is an error, as is a proxy that sees no claims.
    ensure!(output.status.success(), "it ended with {}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).context("it printed no JSON")?;
    let values = &report["values"];
    ensure!(values["requests"].as_u64() >= Some(REQUESTS), "{values}");
    let most = values["maxSeries"].as_u64().context("no bound")?;
    let looks = values["looks"].as_array().context("no looks")?;
    ensure!(looks.len() == 11, "{values}");
    for look in looks {
        // And one for all that is beyond.
        ensure!(look["series"].as_u64() == Some(most + 1), "{look}");
        ensure!(look["counted"] == look["requests"], "{look}");
    }
    let grown = |field: &str| values[field].as_i64().context("no number");
    // Some 1,000 names in the proxy and in each of five VMs; what a proxy takes for itself meanwhile is a matter of its allocator.
    ensure!(grown("grownForSeriesBytes")? < 16 << 20, "{values}");
    ensure!(grown("grownSinceBytes")? < 8 << 20, "{values}");
    ensure!(grown("grownInSecondHalfBytes")? < 2 << 20, "{values}");
    Ok(())
}
