//! The buckets of a proxy's histograms.
//!
//! Envoy has one list of buckets for all histograms, meant for milliseconds. An annotation of pods gives others to those whose names begin
//! as it says: `{"wasmcustom": [100, 1000, 10000]}`. Names are those that Envoy has before it takes labels out of them, so of a metric of a Wasm filter
//! its first label comes first, and its own name last.
//!
//! Istio passes over an annotation that it cannot read, and Envoy does not start with numbers that are no buckets: here both
//! are told. So is a beginning that never counts, because Istio sorts them and Envoy takes the first that fits.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::workload::Workload;
use crate::problem::Problem;
use crate::source::{Source, join};

pub(crate) const ANNOTATION: &str = "sidecar.istio.io/statsHistogramBuckets";

/// The buckets of the histograms whose names begin in the same way.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets {
    /// How the names begin.
    pub prefix: String,
    /// The upper bounds; there is one more bucket, for what is above all of them.
    pub bounds: Vec<f64>,
}

/// As written, each name as often as it is there.
#[derive(Debug, Default)]
struct Written(Vec<Buckets>);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lists;

        impl<'de> Visitor<'de> for Lists {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of lists of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Written, A::Error> {
                let mut all = Vec::new();
                while let Some((prefix, bounds)) = map.next_entry()? {
                    all.push(Buckets { prefix, bounds });
                }
                Ok(Written(all))
            }
        }

        deserializer.deserialize_map(Lists)
    }
}

impl Workload {
    /// The buckets that its proxies' histograms have in place of Envoy's own, in the order in which Envoy looks for them.
    pub fn histogram_buckets(&self) -> Vec<Buckets> {
        let written = self.annotations.get(ANNOTATION);
        let written = written.and_then(|text| serde_json::from_str::<Written>(text).ok());
        let mut all = written.unwrap_or_default().0;
        all.sort_by(|one, other| one.prefix.cmp(&other.prefix));
        all
    }
}

pub(crate) fn check(
    source: &Source,
    annotations: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) {
    let Some(text) = annotations.get(ANNOTATION) else {
        return;
    };
    let field = join("spec.template.metadata.annotations", ANNOTATION);
    match serde_json::from_str::<Written>(text) {
        Ok(written) => {
            let wrong = mistakes(&written.0).into_iter();
            problems.extend(wrong.map(|message| source.invalid(&field, message)));
        }
        Err(error) => {
            let message = format!(
                "Istio would pass over it, because it is no JSON of the kind {{\"wasmcustom\": [10, 100, 1000]}}: {error}"
            );
            problems.push(source.invalid(&field, message));
        }
    }
}

fn mistakes(all: &[Buckets]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (index, Buckets { prefix, bounds }) in all.iter().enumerate() {
        if prefix.is_empty() {
            wrong.push("\"\" is the beginning of no name, write one: \"wasmcustom\"".to_owned());
            continue;
        }
        // Of equal ones Istio takes the last.
        if all[..index].iter().any(|earlier| earlier.prefix == *prefix) {
            wrong.push(format!("{prefix:?} is there twice"));
            continue;
        }
        let mut others = all.iter().map(|other| other.prefix.as_str());
        let shorter =
            others.find(|other| !other.is_empty() && other != prefix && prefix.starts_with(other));
        if let Some(shorter) = shorter {
            wrong.push(format!(
                "the buckets of {prefix:?} would never be used, because {shorter:?} comes first and fits as well; write a longer one in place of {shorter:?}"
            ));
        }
        if bounds.is_empty() {
            wrong.push(format!(
                "{prefix:?} has no buckets, write numbers: [10, 100, 1000]"
            ));
        }
        for (index, bound) in bounds.iter().enumerate() {
            if *bound <= 0.0 {
                wrong.push(format!(
                    "{prefix:?}[{index}]: {bound} is no bound of a bucket, write a number above 0"
                ));
            } else if bounds[..index].contains(bound) {
                wrong.push(format!("{prefix:?}[{index}]: {bound} is there twice"));
            }
        }
    }
    wrong
}
