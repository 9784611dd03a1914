//! Which of its stats a proxy exports on a cluster.
//!
//! Envoy counts thousands of things, and Istio has it keep only what Istio itself needs, its own metrics, and those of Wasm
//! filters; pods can ask for more, by `proxyStatsMatcher` in `proxy.istio.io/config` or by annotations of their own. Local proxies keep all stats, because the local mesh looks at some that no
//! cluster has. So what a cluster exports is one expression for names, with which a proxy can be asked for it:
//! `/stats/prometheus?filter=`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error;

use super::proxy_config;
use super::workload::Workload;
use crate::api::Regex;
use crate::api::mesh::ProxyStatsMatcher;
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
        let list = |annotation: &str, configured: &[String], of_istio: &[&str]| {
            // An annotation is in place of what the configuration says of the same, as in Istio.
            let mut written: Vec<&str> = listed(&self.annotations, annotation).collect();
            if written.is_empty() {
                let configured = configured.iter().map(String::as_str);
                written.extend(configured.filter(|item| !item.is_empty()));
            }
            let written = written.iter().map(|item| item.replace(POD_IP, ADDRESS));
            written
                .chain(of_istio.iter().map(|item| (*item).to_owned()))
                .collect()
        };
        let ProxyStatsMatcher {
            inclusion_prefixes,
            inclusion_suffixes,
            inclusion_regexps,
        } = &self.stats;
        let regexps = Vec::from_iter(inclusion_regexps.iter().map(|regex| regex.0.clone()));
        ExportedStats {
            prefixes: list(PREFIXES, inclusion_prefixes, &ISTIO_PREFIXES),
            suffixes: list(SUFFIXES, inclusion_suffixes, &ISTIO_SUFFIXES),
            expressions: list(EXPRESSIONS, &regexps, &ISTIO_EXPRESSIONS),
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

/// With an expression that is none, or with a name of nothing, a proxy would not start.
pub(crate) fn check(
    source: &Source,
    annotations: &BTreeMap<String, String>,
    configured: &ProxyStatsMatcher,
    problems: &mut Vec<Problem>,
) {
    let field = |annotation| join("spec.template.metadata.annotations", annotation);
    for annotation in [PREFIXES, SUFFIXES, EXPRESSIONS] {
        let text = annotations.get(annotation).map_or("", String::as_str);
        if !text.is_empty() && text.split(',').any(str::is_empty) {
            let message =
                format!("{text:?} has nothing before or after a comma, and Envoy would not start");
            problems.push(source.invalid(&field(annotation), message));
        }
    }
    let ProxyStatsMatcher {
        inclusion_prefixes,
        inclusion_suffixes,
        inclusion_regexps,
    } = configured;
    let lists = [
        (
            "inclusionPrefixes",
            inclusion_prefixes.iter().position(String::is_empty),
        ),
        (
            "inclusionSuffixes",
            inclusion_suffixes.iter().position(String::is_empty),
        ),
        (
            "inclusionRegexps",
            inclusion_regexps
                .iter()
                .position(|regex| regex.0.is_empty()),
        ),
    ];
    for (list, empty) in lists {
        if let Some(index) = empty {
            let message = format!(
                "proxyStatsMatcher.{list}[{index}]: \"\" is no name, and Envoy would not start"
            );
            problems.push(source.invalid(&field(proxy_config::ANNOTATION), message));
        }
    }
    for expression in listed(annotations, EXPRESSIONS) {
        let read: Result<Regex, Error> = Regex::deserialize(expression.into_deserializer());
        if let Err(error) = read {
            let mut message = error.to_string();
            if listed(annotations, EXPRESSIONS).count() > 1 {
                message += "; commas stand between expressions, and cannot be in one";
            }
            problems.push(source.invalid(&field(EXPRESSIONS), message));
        }
    }
}
