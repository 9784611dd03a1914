//! Which of its stats a proxy exports on a cluster.
//!
//! Envoy counts thousands of things, and Istio has it keep only what Istio itself needs, its own metrics, and those of Wasm
//! filters; pods can ask for more by annotations. Local proxies keep all stats, because the local mesh looks at some that no
//! cluster has. So what a cluster exports is one expression for names, with which a proxy can be asked for it:
//! `/stats/prometheus?filter=`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error;

use super::workload::Workload;
use crate::api::Regex;
use crate::problem::Problem;
use crate::source::{Source, join};

pub(crate) const PREFIXES: &str = "sidecar.istio.io/statsInclusionPrefixes";
pub(crate) const SUFFIXES: &str = "sidecar.istio.io/statsInclusionSuffixes";
pub(crate) const EXPRESSIONS: &str = "sidecar.istio.io/statsInclusionRegexps";

/// What Istio has every proxy keep, in its order: its own metrics, what readiness is told by, and everything of Wasm
/// filters (`wasmcustom.…`) and of Wasm itself (`wasm.…`).
const ISTIO_PREFIXES: [&str; 8] = [
    "reporter=",
    "cluster_manager",
    "listener_manager",
    "server",
    "cluster.xds-grpc",
    "wasm",
    "component",
    "istio",
];

/// What access rules decided, in earnest and in dry runs.
const ISTIO_SUFFIXES: [&str; 4] = [
    "rbac.allowed",
    "rbac.denied",
    "shadow_allowed",
    "shadow_denied",
];

/// Of routes with a `statPrefix`.
const ISTIO_EXPRESSIONS: [&str; 1] = [r"vhost\..*\.route\..*"];

/// In an annotation it stands for the addresses of the pod.
const POD_IP: &str = "{pod_ip}";

/// All pods of a local mesh have it.
const ADDRESS: &str = "127.0.0.1";

/// The stats that a proxy exports: those with one of these beginnings or ends, and those that one of the expressions
/// describes as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedStats {
    /// Beginnings of names.
    pub prefixes: Vec<String>,
    /// Ends of names.
    pub suffixes: Vec<String>,
    /// Expressions for whole names.
    pub expressions: Vec<String>,
}

impl Workload {
    /// What a proxy of its pods exports on a cluster.
    pub fn exported_stats(&self) -> ExportedStats {
        let list = |annotation: &str, of_istio: &[&str]| {
            let written = listed(&self.annotations, annotation);
            let written = written.map(|item| item.replace(POD_IP, ADDRESS));
            written
                .chain(of_istio.iter().map(|item| (*item).to_owned()))
                .collect()
        };
        ExportedStats {
            prefixes: list(PREFIXES, &ISTIO_PREFIXES),
            suffixes: list(SUFFIXES, &ISTIO_SUFFIXES),
            expressions: list(EXPRESSIONS, &ISTIO_EXPRESSIONS),
        }
    }
}

impl ExportedStats {
    /// One expression (RE2) that is found in the name of every exported stat, and in no other.
    pub fn expression(&self) -> String {
        let either = |items: &[String], write: &dyn Fn(&str) -> String| {
            Vec::from_iter(items.iter().map(|item| write(item))).join("|")
        };
        let literal = |item: &str| regex_syntax::escape(item);
        format!(
            "^(?:{})|(?:{})$|^(?:{})$",
            either(&self.prefixes, &literal),
            either(&self.suffixes, &literal),
            either(&self.expressions, &|item| format!("(?:{item})")),
        )
    }
}

/// The items of an annotation, as Istio splits it.
fn listed<'a>(
    annotations: &'a BTreeMap<String, String>,
    name: &str,
) -> impl Iterator<Item = &'a str> {
    let text = annotations.get(name).map_or("", String::as_str);
    text.split(',').filter(|item| !item.is_empty())
}

/// With an expression that is none, a proxy would not start.
pub(crate) fn check(
    source: &Source,
    annotations: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) {
    for expression in listed(annotations, EXPRESSIONS) {
        let read: Result<Regex, Error> = Regex::deserialize(expression.into_deserializer());
        if let Err(error) = read {
            let field = join("spec.template.metadata.annotations", EXPRESSIONS);
            let mut message = error.to_string();
            if listed(annotations, EXPRESSIONS).count() > 1 {
                message += "; commas stand between expressions, and cannot be in one";
            }
            problems.push(source.invalid(&field, message));
        }
    }
}
