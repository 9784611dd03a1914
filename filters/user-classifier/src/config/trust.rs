//! Whose word counts at a sidecar, and of which headers.

use tollgate_common::header::{self, TENANT_ID, TENANT_TIER};
use tollgate_common::{Problems, StringMatch};

use super::written::TrustConfig;
use super::{MAX_OUTPUTS, bounded, outputs, same};

/// Those whose word counts. The headers that they may say beside the type and the tenant are added to those that rules `set` here.
pub(super) fn trust(
    trust: TrustConfig,
    type_header: Option<&str>,
    set: &mut Vec<String>,
    problems: &mut Problems,
) -> Option<Vec<StringMatch>> {
    let path = "trust.headers";
    let by_rules = set.len();
    let mut listed: Vec<String> = Vec::new();
    for (i, name) in trust.headers.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let Some(name) = problems.take(header::name(name, &path)) else {
            continue;
        };
        let of_rules = set.iter().take(by_rules).find(|set| same(set, &name));
        let why = if type_header.is_some_and(|header| same(header, &name)) {
            "has the type, which is kept without being listed: take it out".to_owned()
        } else if same(&name, TENANT_ID) || same(&name, TENANT_TIER) {
            "is kept without being listed: take it out".to_owned()
        } else if outputs::is_taken(&name) {
            "has a meaning of its own, which no filter may take away: take it out".to_owned()
        } else if let Some(other) = listed.iter().find(|other| same(other, &name)) {
            match *other == name {
                true => "is there twice, take one out".to_owned(),
                false => {
                    format!("and \"{other}\" are one header to some servers, take one out")
                }
            }
        } else if let Some(other) = of_rules.filter(|other| **other != name) {
            format!(
                "and \"{other}\", which a rule sets, are one header to some servers: write it in one way"
            )
        } else {
            if of_rules.is_none() {
                set.push(name.clone());
            }
            listed.push(name);
            continue;
        };
        problems.tell(path, format!("\"{name}\" {why}"));
    }
    let bounded = bounded(
        set.len(),
        MAX_OUTPUTS,
        path,
        "headers with those that rules set",
        problems,
    );
    let peers = tollgate_common::peers(trust.peers, "trust.peers", problems)?;
    (listed.len() == trust.headers.len() && bounded.is_some()).then_some(peers)
}
