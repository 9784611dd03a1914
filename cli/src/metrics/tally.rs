//! What several proxies have counted, put together: by metric, then by workload and labels.

use std::collections::{BTreeMap, BTreeSet};

use super::declared::Declared;
use super::exposition::{Exposition, Labels, Metric, Value};

/// The label that says which workload has counted; no metric's own label has its place.
pub(crate) const WORKLOAD: &str = "workload";

/// Beginnings of the names that Envoy, Istio and their programs count under by themselves.
const NOT_OURS: [&str; 5] = ["envoy_", "istio_", "go_", "process_", "promhttp_"];

/// What is to be seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Names; a `*` stands for anything. All if there are none.
    pub(crate) names: Vec<String>,
    /// Of each label that is named here, one of its values.
    pub(crate) labels: BTreeMap<String, Vec<String>>,
    /// The labels that stay apart; all if there are none.
    pub(crate) by: Vec<String>,
}

/// A metric, counted or only declared.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tallied {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) help: Option<String>,
    pub(crate) scale: u64,
    pub(crate) unit: Option<String>,
    pub(crate) series: BTreeMap<Labels, Value>,
}

/// Whether it is called as what Envoy, Istio and their programs count. A filter's own may be called so, too: who knows of each name that it is a
/// filter's does not ask.
pub(crate) fn is_not_ours(name: &str) -> bool {
    NOT_OURS.iter().any(|begin| name.starts_with(begin))
}

/// All metrics in these answers that are not to be left out, each with the workload that gave it; the declared ones first, in their order.
pub(crate) fn tally(
    answers: &[(String, Exposition)],
    declared: &[Declared],
    leave_out: impl Fn(&str) -> bool,
) -> Vec<Tallied> {
    let mut all: Vec<Tallied> = declared
        .iter()
        .map(|metric| Tallied {
            name: metric.name.clone(),
            kind: metric.kind.clone(),
            help: metric.help.clone(),
            scale: metric.scale.unwrap_or(1),
            unit: metric.unit.clone(),
            series: BTreeMap::new(),
        })
        .collect();
    for (workload, exposition) in answers {
        let ours = exposition.iter().filter(|(name, _)| {
            declared.iter().any(|metric| metric.name == **name) || !leave_out(name)
        });
        for (name, Metric { kind, series }) in ours {
            let position = all.iter().position(|metric| metric.name == *name);
            let position = position.unwrap_or_else(|| {
                all.push(Tallied {
                    name: name.clone(),
                    kind: kind.clone(),
                    help: None,
                    scale: 1,
                    unit: None,
                    series: BTreeMap::new(),
                });
                all.len() - 1
            });
            for (labels, value) in series {
                let mut labels = labels.clone();
                if !workload.is_empty() {
                    labels.insert(WORKLOAD.to_owned(), workload.clone());
                }
                add(&mut all[position].series, labels, value);
            }
        }
    }
    all
}

fn add(series: &mut BTreeMap<Labels, Value>, labels: Labels, value: &Value) {
    match series.get_mut(&labels) {
        Some(sum) => sum.add(value),
        None => _ = series.insert(labels, value.clone()),
    }
}

impl Wanted {
    /// Whether a metric is called as what is not a filter's, and is not asked for by such a name either.
    pub(crate) fn leaves_out(&self, name: &str) -> bool {
        let mut asked = self.names.iter();
        is_not_ours(name) && !asked.any(|asked| is_not_ours(asked) && matches(asked, name))
    }

    /// What of it is to be seen, or why it cannot be what was meant.
    pub(crate) fn of(&self, all: Vec<Tallied>) -> Result<Vec<Tallied>, Unknown> {
        for name in &self.names {
            if !all.iter().any(|metric| matches(name, &metric.name)) {
                let names = all.iter().map(|metric| metric.name.clone()).collect();
                return Err(Unknown::new("metric", name, names));
            }
        }
        let named = |metric: &Tallied| {
            self.names.is_empty() || self.names.iter().any(|name| matches(name, &metric.name))
        };
        let all: Vec<Tallied> = all.into_iter().filter(named).collect();
        let known: BTreeSet<String> = all
            .iter()
            .flat_map(|metric| metric.series.keys().flat_map(Labels::keys))
            .cloned()
            .collect();
        for label in self.labels.keys().chain(&self.by) {
            // Before anything is counted nobody knows the labels.
            if !known.is_empty() && !known.contains(label) {
                return Err(Unknown::new("label", label, known.into_iter().collect()));
            }
        }
        let filtered = all.into_iter().map(|metric| {
            let mut series = BTreeMap::new();
            for (mut labels, value) in metric.series {
                let wanted = |(label, values): (&String, &Vec<String>)| {
                    labels
                        .get(label)
                        .is_some_and(|value| values.contains(value))
                };
                if !self.labels.iter().all(wanted) {
                    continue;
                }
                if !self.by.is_empty() {
                    labels.retain(|label, _| self.by.contains(label));
                }
                add(&mut series, labels, &value);
            }
            Tallied { series, ..metric }
        });
        // Of what cannot have the labels that were asked for, nothing is to be said.
        Ok(filtered
            .filter(|metric| self.labels.is_empty() || !metric.series.is_empty())
            .collect())
    }
}

/// A name that nothing has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// Of what: `metric`, `label`.
    pub(crate) what: &'static str,
    pub(crate) name: String,
    /// The names that there are.
    pub(crate) known: Vec<String>,
}

impl Unknown {
    fn new(what: &'static str, name: &str, known: Vec<String>) -> Self {
        Self {
            what,
            name: name.to_owned(),
            known,
        }
    }
}

/// Whether a name is meant by one in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(behind) = name.strip_prefix(begin) else {
        return false;
    };
    (0..=behind.len())
        .filter(|at| behind.is_char_boundary(*at))
        .any(|at| matches(rest, &behind[at..]))
}

#[cfg(test)]
mod tests {
    use super::super::exposition::parse;
    use super::*;

    fn all() -> Vec<Tallied> {
        let answer = |workload: &str, text: &str| (workload.to_owned(), parse(text).unwrap());
        let answers = [
            answer(
                "gateway",
                "# TYPE orders_total counter\norders_total{tenant=\"acme\",status=\"201\"} 2\n\
                 orders_total{tenant=\"acme\",status=\"422\"} 1\nenvoy_server_live{} 1\n",
            ),
            answer(
                "gateway",
                "orders_total{tenant=\"acme\",status=\"201\"} 3\n",
            ),
            answer(
                "cart",
                "orders_total{tenant=\"globex\",status=\"201\"} 5\nother{} 1\n",
            ),
        ];
        let declared = ["refused_total", "orders_total"].map(|name| Declared {
            name: name.to_owned(),
            kind: "counter".to_owned(),
            help: Some(format!("what {name} is")),
            scale: None,
            unit: None,
        });
        tally(&answers, &declared, is_not_ours)
    }

    /// `name{labels} value` of everything.
    fn shown(all: &[Tallied]) -> Vec<String> {
        let series = |metric: &Tallied| {
            let name = metric.name.clone();
            let lines = metric.series.iter().map(move |(labels, value)| {
                let labels = Vec::from_iter(labels.values().map(String::as_str)).join(",");
                format!("{name}{{{labels}}} {value:?}")
            });
            lines.collect::<Vec<_>>()
        };
        all.iter().flat_map(series).collect()
    }

    fn wanted(names: &[&str], labels: &[(&str, &str)], by: &[&str]) -> Wanted {
        let own = |text: &&str| (*text).to_owned();
        let mut wanted = Wanted {
            names: names.iter().map(own).collect(),
            by: by.iter().map(own).collect(),
            ..Wanted::default()
        };
        for (label, value) in labels {
            wanted
                .labels
                .entry((*label).to_owned())
                .or_default()
                .push((*value).to_owned());
        }
        wanted
    }

    #[test]
    fn the_pods_of_a_workload_are_summed_and_what_is_envoy_s_own_is_left_out() {
        let names: Vec<String> = all().into_iter().map(|metric| metric.name).collect();
        assert_eq!(names, ["refused_total", "orders_total", "other"]);
        assert_eq!(
            shown(&all()),
            [
                "orders_total{201,acme,gateway} Number(5.0)",
                "orders_total{201,globex,cart} Number(5.0)",
                "orders_total{422,acme,gateway} Number(1.0)",
                "other{cart} Number(1.0)",
            ]
        );
    }

    #[test]
    fn a_filter_s_metric_may_be_called_like_one_of_envoy_s() {
        let text = "process_orders_total{} 3\ngo_live_total{} 2\nenvoy_server_live{} 1\n";
        let answers = [("cart".to_owned(), parse(text).unwrap())];
        let names = |declared: &[Declared], leave_out: &dyn Fn(&str) -> bool| {
            let all = tally(&answers, declared, leave_out).into_iter();
            all.map(|metric| metric.name).collect::<Vec<_>>()
        };
        let declared = [Declared {
            name: "process_orders_total".to_owned(),
            kind: "counter".to_owned(),
            help: None,
            scale: None,
            unit: None,
        }];
        // A running mesh is asked for what filters count, and for nothing else.
        assert_eq!(
            names(&declared, &|_| false),
            ["process_orders_total", "envoy_server_live", "go_live_total"]
        );
        // What is declared is a filter's.
        assert_eq!(names(&declared, &is_not_ours), ["process_orders_total"]);
        assert_eq!(names(&[], &is_not_ours), [""; 0]);
        // Nobody knows what an Envoy elsewhere was told to count, but who asks for a name means it.
        for (asked, seen) in [
            (&[][..], &[][..]),
            (&["*_total"], &[]),
            (&["go_live_total"], &["go_live_total"]),
            (&["process_*", "nothing"], &["process_orders_total"]),
        ] {
            let wanted = wanted(asked, &[], &[]);
            assert_eq!(
                names(&[], &|name| wanted.leaves_out(name)),
                seen,
                "{asked:?}"
            );
        }
    }

    #[test]
    fn names_and_labels_choose_and_by_sums() {
        let seen = |wanted: Wanted| shown(&wanted.of(all()).unwrap());
        assert_eq!(
            seen(wanted(&["oth*"], &[], &[])),
            ["other{cart} Number(1.0)"]
        );
        assert_eq!(
            seen(wanted(
                &[],
                &[("tenant", "acme"), ("status", "201"), ("status", "500")],
                &[]
            )),
            ["orders_total{201,acme,gateway} Number(5.0)"]
        );
        assert_eq!(
            seen(wanted(&["orders_total"], &[], &["tenant"])),
            [
                "orders_total{acme} Number(6.0)",
                "orders_total{globex} Number(5.0)"
            ]
        );
        assert_eq!(
            seen(wanted(
                &["orders_total"],
                &[("workload", "cart")],
                &["status"]
            )),
            ["orders_total{201} Number(5.0)"]
        );
    }

    #[test]
    fn what_nothing_is_called_is_told_with_what_there_is() {
        assert_eq!(
            wanted(&["orders*", "order_total"], &[], &[]).of(all()),
            Err(Unknown {
                what: "metric",
                name: "order_total".to_owned(),
                known: ["refused_total", "orders_total", "other"]
                    .map(str::to_owned)
                    .to_vec(),
            })
        );
        assert_eq!(
            wanted(&["other"], &[], &["tenant"]).of(all()).unwrap_err(),
            Unknown {
                what: "label",
                name: "tenant".to_owned(),
                known: vec!["workload".to_owned()],
            }
        );
        // Nothing is counted yet, so nobody can tell.
        assert!(
            wanted(&["refused_total"], &[], &["tenant"])
                .of(all())
                .is_ok()
        );
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, same) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("*b*d", "abcd", true),
            ("*b*d", "abc", false),
            ("*", "", true),
            ("é*", "éé", true),
        ] {
            assert_eq!(matches(pattern, name), same, "{pattern} {name}");
        }
    }
}
