//! What rules say beside their type: headers, filter state, cookies.

use std::rc::Rc;

use tollgate_common::config::below;
use tollgate_common::header::{self, TENANT_ID, TENANT_TIER};
use tollgate_common::{NAME_RULE, UniqueMap, is_name, refusal};

use super::conditions::{Conditions, token};
use super::written::{KeyConfig, OutputsConfig, StickyConfig};
use super::{MAX_KEYS, MAX_LENGTH, MAX_OUTPUTS, bounded, same};
use crate::classifier::Outputs;
use crate::condition::{Condition, Subject};
use crate::sticky::{Key, Sticky};
use tollgate_common::Problems;

/// What the names of all our properties begin with.
const PROPERTY: &str = "tollgate.";

/// Headers that say how a message is carried, or that have an owner already.
const TAKEN: [&str; 11] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "keep-alive",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a header, in lower case, is one of those.
pub(super) fn is_taken(name: &str) -> bool {
    TAKEN.contains(&name)
}

pub(super) fn outputs(
    outputs: &OutputsConfig,
    path: &str,
    type_header: Option<&str>,
    problems: &mut Problems,
) -> Option<Outputs> {
    let headers = |written: &UniqueMap<String>, field: &str, problems: &mut Problems| {
        let path = format!("{path}.{field}");
        let mut named: Vec<(String, String)> = Vec::with_capacity(written.len());
        for (name, value) in written.iter() {
            let path = below(&path, name);
            let Some(name) = problems.take(header::name(name, &path)) else {
                continue;
            };
            let why = if type_header.is_some_and(|header| same(header, &name)) {
                "has the type already, take it out"
            } else if same(&name, TENANT_ID) || same(&name, TENANT_TIER) {
                "is the tenant-rate-limit filter's own, choose another"
            } else if is_taken(&name) {
                "has a meaning of its own, choose another"
            } else if named.iter().any(|(other, _)| same(other, &name)) {
                "is there twice, take one out"
            } else {
                of_value(value, &path, problems);
                named.push((name, value.clone()));
                continue;
            };
            problems.tell(path, format!("\"{name}\" {why}"));
        }
        let bounded = bounded(written.len(), MAX_OUTPUTS, &path, "headers", problems);
        (named.len() == written.len())
            .then_some(named)
            .filter(|_| bounded.is_some())
    };
    let request = headers(&outputs.request_headers, "requestHeaders", problems);
    let response = headers(&outputs.response_headers, "responseHeaders", problems);
    let of_state = format!("{path}.filterState");
    bounded(
        outputs.filter_state.len(),
        MAX_OUTPUTS,
        &of_state,
        "properties",
        problems,
    )?;
    let mut state = Vec::with_capacity(outputs.filter_state.len());
    for (name, value) in outputs.filter_state.iter() {
        let path = below(&of_state, name);
        let property = format!("{PROPERTY}{name}");
        if !is_name(name) {
            problems.tell(
                path,
                format!("{name:?} is not a property's name, {NAME_RULE}"),
            );
        } else if property == refusal::PROPERTY {
            problems.tell(
                path,
                format!("\"{name}\" is the tenant-rate-limit filter's own, choose another"),
            );
        } else {
            of_value(value, &path, problems);
            state.push((property, value.clone()));
        }
    }
    let (request, response) = (request?, response?);
    let sets_nothing = [
        ("requestHeaders", &outputs.request_headers),
        ("responseHeaders", &outputs.response_headers),
        ("filterState", &outputs.filter_state),
    ]
    .iter()
    .all(|(field, written)| written.is_empty() && problems.as_written(path, field));
    if sets_nothing {
        return problems.refuse(
            path,
            "sets nothing, write requestHeaders, responseHeaders or filterState",
        );
    }
    (state.len() == outputs.filter_state.len()).then_some(Outputs {
        request,
        response,
        state,
    })
}

/// Whether a rule may set a header to this value.
pub fn is_value(value: &[u8]) -> bool {
    let visible = |byte: &u8| *byte == b' ' || byte.is_ascii_graphic();
    (1..=MAX_LENGTH).contains(&value.len())
        && value.trim_ascii() == value
        && value.iter().all(visible)
}

fn of_value(value: &str, path: &str, problems: &mut Problems) {
    if !is_value(value.as_bytes()) {
        problems.tell(
            path,
            format!("{value:?} can't be set, write 1 to {MAX_LENGTH} visible ASCII characters"),
        );
    }
}

/// What is known of a variable of the module's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// It is this.
    Is(String),
    /// It is there, but not what it is: that only the proxy knows.
    Elsewhere,
    /// It is not there.
    Missing,
}

/// A variable of the environment that this runs in. Elsewhere than in a proxy nobody knows it, and a configuration is checked as if it were there.
pub fn own(name: &str) -> Variable {
    if cfg!(not(target_os = "wasi")) {
        return Variable::Elsewhere;
    }
    std::env::var(name).map_or(Variable::Missing, Variable::Is)
}

pub(super) fn keys(
    written: Vec<KeyConfig>,
    environment: &dyn Fn(&str) -> Variable,
    problems: &mut Problems,
) -> Option<Rc<[Key]>> {
    let path = "stickyKeys";
    bounded(written.len(), MAX_KEYS, path, "keys", problems)?;
    let count = written.len();
    let mut keys: Vec<Key> = Vec::with_capacity(count);
    for (i, key) in written.into_iter().enumerate() {
        let path = format!("{path}[{i}]");
        let KeyConfig { id, secret, env } = key;
        if !is_name(&id) {
            problems.tell(
                format!("{path}.id"),
                format!("{id:?} is not a key's name, {NAME_RULE}"),
            );
        } else if keys.iter().any(|key| key.id == id) {
            problems.tell(
                format!("{path}.id"),
                format!("\"{id}\" is there twice, take one out"),
            );
        }
        let (secret, field) = match (secret, env) {
            (Some(secret), None) => (Some(secret), "secret"),
            (None, Some(name)) => (
                variable(&name, environment, &format!("{path}.env"), problems),
                "env",
            ),
            _ => {
                problems.tell(path, "has not exactly one of secret and env, write one");
                continue;
            }
        };
        let Some(secret) = secret else { continue };
        if !(32..=MAX_LENGTH).contains(&secret.len()) {
            // Not the secret itself.
            problems.tell(
                format!("{path}.{field}"),
                format!(
                    "a secret of {} bytes is given, write 32 to {MAX_LENGTH}, for example what `openssl rand -base64 32` prints",
                    secret.len()
                ),
            );
        }
        keys.push(Key {
            id,
            secret: secret.into_bytes(),
        });
    }
    (keys.len() == count).then(|| keys.into())
}

/// The secret in the module's environment.
fn variable(
    name: &str,
    environment: &dyn Fn(&str) -> Variable,
    path: &str,
    problems: &mut Problems,
) -> Option<String> {
    match environment(name) {
        Variable::Is(secret) => Some(secret),
        Variable::Elsewhere => Some("no proxy, no secret: this one signs nothing".to_owned()),
        Variable::Missing => problems.refuse(
            path,
            format!(
                "the module's environment has no {name:?}, name it in the plugin's vmConfig.env"
            ),
        ),
    }
}

pub(super) fn sticky(
    written: StickyConfig,
    path: &str,
    user_type: &str,
    condition: &Condition,
    keys: Option<&Rc<[Key]>>,
    conditions: &mut Conditions<'_>,
    problems: &mut Problems,
) -> Option<Sticky> {
    let StickyConfig {
        cookie,
        lifetime,
        secure,
    } = written;
    let cookie = token(cookie, &format!("{path}.cookie"), "cookie", problems);
    let seconds = lifetime.nanoseconds() / 1_000_000_000;
    if seconds < 60 || lifetime.nanoseconds() % 1_000_000_000 != 0 {
        problems.tell(
            format!("{path}.for"),
            format!(
                "\"{lifetime}\" is not whole seconds, at least a minute; write for example \"30d\""
            ),
        );
    }
    if keys.is_some_and(|keys| keys.is_empty()) {
        problems.tell(path, "needs a key to sign with, write one in `stickyKeys`");
    }
    let shares = condition.shares();
    let [share] = shares.as_slice() else {
        return problems.refuse(
            path,
            format!(
                "needs one `percent` in the rule's `when`, there are {}",
                shares.len()
            ),
        );
    };
    if !condition.is_helped_by_shares() {
        return problems.refuse(
            path,
            "needs a `percent` that is not within `not`: the cookie keeps in whom it has",
        );
    }
    let cookie = cookie?;
    let of = match conditions.subjects.get(share.of)? {
        Subject::Claim(path) => format!("claim {}", path.join("\u{1}")),
        Subject::Tenant => "tenant".to_owned(),
        Subject::Cookie(name) if *name == cookie => {
            return problems.refuse(
                format!("{path}.cookie"),
                format!("\"{cookie}\" is the key of the share, choose another name"),
            );
        }
        Subject::Cookie(name) => format!("cookie {name}"),
        Subject::Header(name) => format!("header {name}"),
        _ => return None,
    };
    Some(Sticky {
        purpose: format!("{user_type}\0{}\0{of}", share.salt),
        subject: conditions
            .subjects
            .position(Subject::Cookie(cookie.clone())),
        cookie,
        lifetime: seconds,
        secure,
        keys: Rc::clone(keys?),
    })
}
