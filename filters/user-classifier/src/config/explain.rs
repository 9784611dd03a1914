//! Whom a proxy tells why.

use tollgate_common::Problems;

use super::conditions::Conditions;
use super::vouching::{Grounds, Tenants};
use super::written::{ExplainConfig, When};
use super::{own_header, same};
use crate::classifier::Rule;
use crate::explain::Explain;

/// The header that asks and answers, unless the configuration names another.
pub const HEADER: &str = "x-explain-user-type";

const OF_HEADER: &str = "explain.header";
const OF_WHEN: &str = "explain.when";

/// What was written, with a header that rules must not look at.
pub(super) struct Named {
    pub(super) header: Option<String>,
    when: When,
}

/// What it stands beside.
pub(super) struct Beside<'a> {
    pub(super) header: Option<&'a str>,
    /// The request headers that rules set, and those that peers are trusted with.
    pub(super) set: &'a [String],
    pub(super) rules: &'a [Rule],
    pub(super) at_gateway: bool,
}

impl Named {
    pub(super) fn of(written: ExplainConfig, problems: &mut Problems) -> Self {
        let ExplainConfig { header, when } = written;
        Self {
            header: own_header(&header, OF_HEADER, HEADER, problems),
            when,
        }
    }

    pub(super) fn compile(
        self,
        beside: &Beside<'_>,
        conditions: &mut Conditions<'_>,
        problems: &mut Problems,
    ) -> Option<Explain> {
        if let Some(header) = &self.header {
            not_taken(header, beside, problems);
        }
        if matches!(&self.when, When::All(conditions) if conditions.is_empty()) {
            return problems.refuse(
                OF_WHEN,
                "is empty and would tell everybody how rules decide, say who may ask",
            );
        }
        let condition = conditions.when(self.when, OF_WHEN, problems)?;
        let grounds = Grounds {
            subjects: &conditions.subjects,
            at_gateway: beside.at_gateway,
            // Whether a client can choose its tenant is the limiter's affair.
            tenants: Tenants::Anyones,
        };
        if problems.as_written("trust", "")
            && problems.intact(OF_WHEN)
            && grounds.missing(&condition).is_some()
        {
            let what = match beside.at_gateway {
                true => "a claim, a peer or a source",
                false => "a claim or a peer",
            };
            problems.tell(
                OF_WHEN,
                format!(
                    "would hold for what clients can write as they like, and tell anybody how rules decide: add a condition on {what}"
                ),
            );
        }
        Some(Explain {
            header: self.header?,
            condition,
        })
    }
}

/// One header says one thing.
fn not_taken(header: &str, beside: &Beside<'_>, problems: &mut Problems) {
    let set = |rule: &Rule| {
        let outputs = &rule.outputs;
        let mut names = outputs.request.iter().chain(&outputs.response);
        names.any(|(name, _)| same(name, header))
    };
    let taken = match beside.rules.iter().position(set) {
        _ if beside.header.is_some_and(|other| same(other, header)) => {
            "has the type already".to_owned()
        }
        Some(rule) => format!("is set by rules[{rule}]"),
        None if beside.set.iter().any(|other| same(other, header)) => {
            "is kept as trusted peers say it".to_owned()
        }
        None => return,
    };
    problems.tell(
        OF_HEADER,
        format!("\"{header}\" {taken}, choose another, for example \"{HEADER}\""),
    );
}
