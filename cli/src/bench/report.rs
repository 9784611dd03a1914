//! How the figures are told: a table for people, a document for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use super::flood::Flood;
use super::operators::Operators;
use super::statistics::Summary;
use super::tenants::Tenants;
use super::values::Values;
use crate::envoy::Envoy;

/// Above this, what Envoy needs without any filter differs so much from round to round that small figures mean nothing.
const NOISY: f64 = 0.10;

/// All that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    envoy: String,
    workers: u32,
    pub(crate) costs: Option<Costs>,
    pub(crate) operators: Option<Operators>,
    pub(crate) tenants: Option<Tenants>,
    pub(crate) flood: Option<Flood>,
    pub(crate) values: Option<Values>,
}

impl Report {
    pub(crate) fn new(envoy: &Envoy, workers: u32) -> Self {
        Self {
            envoy: envoy.version.to_string(),
            workers,
            costs: None,
            operators: None,
            tenants: None,
            flood: None,
            values: None,
        }
    }
}

impl Serialize for Report {
    /// `cases` is there whatever was measured; the rest only with what it is about.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut report = serializer.serialize_struct("Report", 8)?;
        let cases = self.costs.as_ref().map_or(&[][..], |costs| &costs.cases);
        report.serialize_field("cases", cases)?;
        report.serialize_field("envoy", &self.envoy)?;
        report.serialize_field("workers", &self.workers)?;
        if let Some(costs) = &self.costs {
            report.serialize_field("noFilter", &costs.baseline())?;
        }
        if let Some(operators) = &self.operators {
            report.serialize_field("operators", operators)?;
        }
        if let Some(tenants) = &self.tenants {
            report.serialize_field("tenants", tenants)?;
        }
        if let Some(flood) = &self.flood {
            report.serialize_field("flood", flood)?;
        }
        if let Some(values) = &self.values {
            report.serialize_field("values", values)?;
        }
        report.end()
    }
}

/// What every case costs.
#[derive(Debug)]
pub(crate) struct Costs {
    pub(crate) cases: Vec<CaseReport>,
    no_filter: Summary,
    rounds: u32,
    requests: u64,
}

/// What Envoy needs for a request without a filter.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Baseline {
    cpu_micros: f64,
    spread_cpu_micros: f64,
    /// The spread, as a part of the whole.
    noise: f64,
    noisy: bool,
    rounds: u32,
    requests_per_round: u64,
}

impl Costs {
    pub(crate) fn new(
        cases: Vec<CaseReport>,
        no_filter: Summary,
        rounds: u32,
        requests: u64,
    ) -> Self {
        Self {
            cases,
            no_filter,
            rounds,
            requests,
        }
    }

    fn noise(&self) -> f64 {
        self.no_filter.spread() / self.no_filter.median
    }

    fn baseline(&self) -> Baseline {
        Baseline {
            cpu_micros: thousandths(self.no_filter.median),
            spread_cpu_micros: thousandths(self.no_filter.spread()),
            noise: thousandths(self.noise()),
            noisy: self.noise() > NOISY,
            rounds: self.rounds,
            requests_per_round: self.requests,
        }
    }
}

/// What one case costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CaseReport {
    name: String,
    /// What the filter adds to a request's CPU time: the median of all rounds.
    added_cpu_micros: f64,
    /// Between the quartiles of the rounds.
    spread_cpu_micros: f64,
    pub(crate) ratio_to_floor: Option<f64>,
    pub(crate) ratio_to_empty_sdk_filter: Option<f64>,
    host_calls_per_request: Option<f64>,
    /// Those of the host calls that write shared data, for which all workers take turns.
    shared_data_writes_per_request: Option<f64>,
    pub(crate) module_bytes: Option<u64>,
    /// What the floor adds.
    floor_cpu_micros: Option<f64>,
    floor_spread_cpu_micros: Option<f64>,
    /// The host calls of a request by function.
    host_calls: BTreeMap<String, f64>,
}

impl CaseReport {
    pub(crate) fn new(name: String, added: &Summary) -> Self {
        Self {
            name,
            added_cpu_micros: thousandths(added.median),
            spread_cpu_micros: thousandths(added.spread()),
            ratio_to_floor: None,
            ratio_to_empty_sdk_filter: None,
            host_calls_per_request: None,
            shared_data_writes_per_request: None,
            module_bytes: None,
            floor_cpu_micros: None,
            floor_spread_cpu_micros: None,
            host_calls: BTreeMap::new(),
        }
    }

    /// That which all others are compared with: it adds nothing to itself.
    pub(crate) fn baseline(name: String) -> Self {
        let nothing = Summary {
            median: 0.0,
            first_quartile: 0.0,
            third_quartile: 0.0,
        };
        Self::new(name, &nothing)
    }

    /// What the module asks of the proxy for a request, by function.
    pub(crate) fn host_calls(&mut self, calls: BTreeMap<String, f64>) {
        // The sum of nothing is -0.0.
        self.host_calls_per_request = Some(thousandths(calls.values().fold(0.0, |a, b| a + b)));
        let writes = calls.get("proxy_set_shared_data").copied();
        self.shared_data_writes_per_request = Some(thousandths(writes.unwrap_or_default()));
        self.host_calls = calls
            .into_iter()
            .map(|(name, count)| (name, thousandths(count)))
            .collect();
    }

    /// What the module's floor adds.
    pub(crate) fn floor(&mut self, floor: &Summary) {
        self.ratio_to_floor = ratio(self.added_cpu_micros, floor.median);
        self.floor_cpu_micros = Some(thousandths(floor.median));
        self.floor_spread_cpu_micros = Some(thousandths(floor.spread()));
    }
}

/// More digits would be noise.
pub(crate) fn thousandths(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// None of what is lost in noise: nothing costs nothing, or less.
pub(crate) fn ratio(of: f64, to: f64) -> Option<f64> {
    (to > 0.0).then(|| thousandths(of / to))
}

/// Bytes for people.
pub(crate) fn mebibytes(bytes: i64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1024.0 / 1024.0)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Envoy {}, {} worker{}",
            self.envoy,
            self.workers,
            if self.workers == 1 { "" } else { "s" }
        )?;
        if let Some(costs) = &self.costs {
            write!(f, "\n{costs}")?;
        }
        if let Some(operators) = &self.operators {
            write!(f, "\n{operators}")?;
        }
        if let Some(tenants) = &self.tenants {
            write!(f, "\n{tenants}")?;
        }
        if let Some(flood) = &self.flood {
            write!(f, "\n{flood}")?;
        }
        if let Some(values) = &self.values {
            write!(f, "\n{values}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![Row([
            "case".to_owned(),
            "adds".to_owned(),
            "±".to_owned(),
            "its floor".to_owned(),
            "× floor".to_owned(),
            "× empty".to_owned(),
            "host calls".to_owned(),
            "writes".to_owned(),
            "module".to_owned(),
        ])];
        rows.extend(self.cases.iter().map(CaseReport::row));
        writeln!(
            f,
            "CPU per request, in microseconds; without a filter {:.2} ± {:.2}",
            self.no_filter.median,
            self.no_filter.spread() / 2.0
        )?;
        f.write_str(&table(&rows))?;
        writeln!(
            f,
            "Medians of {} rounds of {} requests each; ± is half of the distance between the quartiles; writes are those of shared data.",
            self.rounds, self.requests
        )?;
        if self.noise() > NOISY {
            writeln!(
                f,
                "The machine is too noisy: without a filter the rounds differ by {:.0} %, more than {:.0} %. Do not trust small \
                 differences; end what else runs, or use more --rounds.",
                self.noise() * 100.0,
                NOISY * 100.0
            )?;
        }
        Ok(())
    }
}

impl CaseReport {
    fn row(&self) -> Row<9> {
        let number = |number: Option<f64>| number.map_or_else(String::new, |n| format!("{n:.2}"));
        Row([
            self.name.clone(),
            format!("{:.2}", self.added_cpu_micros),
            format!("{:.2}", self.spread_cpu_micros / 2.0),
            number(self.floor_cpu_micros),
            number(self.ratio_to_floor),
            number(self.ratio_to_empty_sdk_filter),
            number(self.host_calls_per_request),
            number(self.shared_data_writes_per_request),
            self.module_bytes.map_or_else(String::new, |bytes| {
                format!("{:.1} kB", bytes as f64 / 1000.0)
            }),
        ])
    }
}

/// A line of a table.
pub(crate) struct Row<const N: usize>(pub(crate) [String; N]);

/// Names to the left, figures to the right.
pub(crate) fn table<const N: usize>(rows: &[Row<N>]) -> String {
    let rows: Vec<&[String]> = rows.iter().map(|Row(cells)| &cells[..]).collect();
    aligned(&rows)
}

/// The same for tables whose number of columns is not known before.
pub(crate) fn aligned<R: AsRef<[String]>>(rows: &[R]) -> String {
    let mut text = String::new();
    for cells in rows {
        for (column, cell) in cells.as_ref().iter().enumerate() {
            let width = rows
                .iter()
                .filter_map(|cells| cells.as_ref().get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default();
            text += &match column {
                0 => format!("{cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn summary(median: f64, spread: f64) -> Summary {
        Summary {
            median,
            first_quartile: median - spread / 2.0,
            third_quartile: median + spread / 2.0,
        }
    }

    fn report(spread: f64) -> Report {
        let mut case = CaseReport::new("user-classifier".to_owned(), &summary(4.0, 0.5));
        case.floor(&summary(3.2, 0.25));
        case.ratio_to_empty_sdk_filter = ratio(4.0, 2.0);
        case.host_calls(BTreeMap::from([
            ("proxy_get_header_map_pairs".to_owned(), 1.9),
            ("proxy_set_shared_data".to_owned(), 0.1),
        ]));
        case.module_bytes = Some(123_456);
        let cases = vec![CaseReport::baseline("no-filter".to_owned()), case];
        Report {
            envoy: "1.40.0".to_owned(),
            workers: 1,
            costs: Some(Costs::new(cases, summary(20.0, spread), 15, 4000)),
            operators: None,
            tenants: None,
            flood: None,
            values: None,
        }
    }

    #[test]
    fn programs_get_these_fields() {
        assert_eq!(
            serde_json::to_value(report(1.0)).unwrap(),
            json!({
                "cases": [
                    {
                        "name": "no-filter", "addedCpuMicros": 0.0, "spreadCpuMicros": 0.0, "ratioToFloor": null,
                        "ratioToEmptySdkFilter": null, "hostCallsPerRequest": null,
                        "sharedDataWritesPerRequest": null, "moduleBytes": null, "floorCpuMicros": null, "floorSpreadCpuMicros": null, "hostCalls": {},
                    },
                    {
                        "name": "user-classifier", "addedCpuMicros": 4.0, "spreadCpuMicros": 0.5, "ratioToFloor": 1.25,
                        "ratioToEmptySdkFilter": 2.0, "hostCallsPerRequest": 2.0, "sharedDataWritesPerRequest": 0.1,
                        "moduleBytes": 123_456, "floorCpuMicros": 3.2, "floorSpreadCpuMicros": 0.25,
                        "hostCalls": { "proxy_get_header_map_pairs": 1.9, "proxy_set_shared_data": 0.1 },
                    },
                ],
                "envoy": "1.40.0",
                "workers": 1,
                "noFilter": {
                    "cpuMicros": 20.0, "spreadCpuMicros": 1.0, "noise": 0.05, "noisy": false, "rounds": 15,
                    "requestsPerRound": 4000,
                },
            })
        );
    }

    #[test]
    fn people_get_a_table() {
        assert_eq!(
            report(1.0).to_string(),
            "Envoy 1.40.0, 1 worker\n\n\
             CPU per request, in microseconds; without a filter 20.00 ± 0.50\n\
             case             adds     ±  its floor  × floor  × empty  host calls  writes    module\n\
             no-filter        0.00  0.00\n\
             user-classifier  4.00  0.25       3.20     1.25     2.00        2.00    0.10  123.5 kB\n\
             Medians of 15 rounds of 4000 requests each; ± is half of the distance between the quartiles; writes are \
             those of shared data.\n"
        );
    }

    #[test]
    fn a_noisy_machine_is_told() {
        let text = report(2.4).to_string();
        assert!(
            text.ends_with(
                "The machine is too noisy: without a filter the rounds differ by 12 %, more than 10 %. Do not trust small \
                 differences; end what else runs, or use more --rounds.\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_ratio_to_what_is_lost_in_noise_is_none() {
        assert_eq!(ratio(1.0, 0.0), None);
        assert_eq!(ratio(1.0, -0.1), None);
        assert_eq!(ratio(1.0, 3.0), Some(0.333));
    }
}
