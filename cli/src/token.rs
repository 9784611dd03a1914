//! `tollgate token`: a token of the local issuer, for trying what a mesh does for whom.

use std::collections::BTreeMap;
use std::env;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context;
use serde_json::{Map, Value, json};
use tollgate_common::tenant::ID_RULE;
use tollgate_common::{Duration, TenantId};

use crate::args::{Claim, TokenArgs, TokenFormat};
use crate::console::{say, shown};
use crate::issuer::{AUDIENCE, Issuer, NAME, OVERLAY, TENANT};
use crate::workspace::root_around;

/// The claims that are not free, with what says them.
const TAKEN: [(&str, &str); 6] = [
    ("iss", "every token is of the local issuer"),
    ("sub", "write --user"),
    ("aud", "write --audience"),
    ("exp", "write --expires"),
    ("iat", "it is the moment at which the token is made"),
    ("jti", "it is made anew for every token"),
];

/// The longest that a user's name may be, in bytes: what OpenID Connect allows of a `sub`.
const LONGEST_USER: usize = 255;

/// Prints a token.
pub(crate) fn run(args: TokenArgs) -> anyhow::Result<ExitCode> {
    let overlay = overlay(args.overlay.clone())?;
    let issuer = Issuer::of_overlay(&overlay)?;
    if issuer.new {
        say(format!(
            "made the local issuer's key: {}; a mesh must be started with it, or follow its manifests, to take its tokens",
            shown(issuer.file.display())
        ));
    }
    let now = SystemTime::UNIX_EPOCH
        .elapsed()
        .context("the clock of this machine is before 1970")?;
    let claims = claims(&args, now.as_secs(), &random()?);
    let token = issuer.key.sign(&claims)?;
    let mut out = std::io::stdout().lock();
    match args.format {
        TokenFormat::Text => writeln!(out, "{token}"),
        TokenFormat::Json => writeln!(out, "{}", json!({"token": token, "claims": claims})),
    }
    .context("cannot write the token")?;
    Ok(ExitCode::SUCCESS)
}

/// The overlay whose issuer signs.
fn overlay(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    match given {
        Some(overlay) => Ok(overlay),
        None => {
            let here = env::current_dir().context("cannot tell the current folder")?;
            Ok(root_around(&here)?.join(OVERLAY))
        }
    }
}

/// What the token says.
fn claims(args: &TokenArgs, now: u64, id: &str) -> Map<String, Value> {
    let seconds = args.expires.nanoseconds() / 1_000_000_000;
    let audience = match args.audience.as_slice() {
        [] => json!(AUDIENCE),
        [one] => json!(one),
        several => json!(several),
    };
    let mut claims = Map::new();
    let mut claim = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    claim("iss", json!(NAME));
    claim("sub", json!(args.user));
    claim("aud", audience);
    claim("iat", json!(now));
    claim("exp", json!(now + seconds));
    claim("jti", json!(id));
    if let Some(tenant) = &args.tenant {
        claim(TENANT, json!(tenant));
    }
    for Claim { name, value } in &args.claim {
        claim(name, value.clone());
    }
    claims
}

/// 128 bits that no other token has, as hexadecimal digits.
fn random() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("the system has no random numbers")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What is wrong with the claims together: of each there can be only one.
pub(crate) fn contradiction(args: &TokenArgs) -> Option<String> {
    let mut seen = BTreeMap::from([(TENANT, "--tenant")]);
    if args.tenant.is_none() {
        seen.clear();
    }
    args.claim.iter().find_map(|claim| {
        let first = seen.insert(&claim.name, "--claim")?;
        Some(format!(
            "--claim {0}=…: {first} says {0} already, and a claim can be there only once",
            claim.name
        ))
    })
}

pub(crate) fn parse_user(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > LONGEST_USER || text.trim() != text || has_control(text) {
        return Err(format!(
            "write 1 to {LONGEST_USER} bytes without spaces around them and without control characters"
        ));
    }
    Ok(text.to_owned())
}

/// As the filters have it: what they would not take for a tenant is a mistake here, and not a tenant of its own there.
pub(crate) fn parse_tenant(text: &str) -> Result<String, String> {
    match TenantId::normalise(text.as_bytes()) {
        Some(id) if id.as_str() == text => Ok(text.to_owned()),
        Some(id) => Err(format!("the filters take it for {id}, write that")),
        None => Err(ID_RULE.to_owned()),
    }
}

pub(crate) fn parse_audience(text: &str) -> Result<String, String> {
    parse_user(text)
}

pub(crate) fn parse_claim(text: &str) -> Result<Claim, String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("write NAME=JSON, e.g. roles='[\"admin\"]', beta=true or plan='\"gold\"'")?;
    if name.is_empty() || name.trim() != name || has_control(name) {
        return Err(format!(
            "{name:?} cannot be the name of a claim, write e.g. roles"
        ));
    }
    if let Some((_, instead)) = TAKEN.iter().find(|(taken, _)| *taken == name) {
        return Err(format!("{name} is not free: {instead}"));
    }
    let value = serde_json::from_str(value).map_err(|_| {
        format!(
            "{value} is not JSON; for a text write it in quotes, e.g. '{name}={}'",
            json!(value)
        )
    })?;
    Ok(Claim {
        name: name.to_owned(),
        value,
    })
}

/// Times in tokens are whole seconds.
pub(crate) fn parse_expires(text: &str) -> Result<Duration, String> {
    let duration = Duration::parse(text)?;
    if duration.nanoseconds() % 1_000_000_000 != 0 {
        return Err(format!(
            "{text:?} is not whole seconds, write e.g. 10s or 1h"
        ));
    }
    Ok(duration)
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn args(given: &[&str]) -> Result<TokenArgs, String> {
        let given = ["tollgate", "token"].iter().chain(given);
        match Cli::try_parse_from(given)
            .map_err(|error| error.to_string())?
            .command
        {
            Command::Token(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    fn said(given: &[&str]) -> Value {
        Value::Object(claims(&args(given).unwrap(), 1_000, "0f"))
    }

    #[test]
    fn a_token_says_who_for_whom_and_how_long() {
        assert_eq!(
            said(&["--user", "alice"]),
            json!({
                "iss": "https://issuer.local.tollgate", "sub": "alice", "aud": "shop", "iat": 1_000, "exp": 4_600, "jti": "0f",
            })
        );
        assert_eq!(
            said(&[
                "--user",
                "bob@example.com",
                "--tenant",
                "acme",
                "--expires",
                "1m30s",
                "--audience",
                "a",
                "--audience",
                "b",
                "--claim",
                "roles=[\"admin\"]",
                "--claim",
                "https://ns/a.b=null",
                "--claim",
                "n= 1.5",
            ]),
            json!({
                "iss": "https://issuer.local.tollgate", "sub": "bob@example.com", "aud": ["a", "b"], "iat": 1_000, "exp": 1_090,
                "jti": "0f", "tenant": "acme", "roles": ["admin"], "https://ns/a.b": null, "n": 1.5,
            })
        );
        // What no tenant of the filters can be, they must be shown all the same.
        assert_eq!(
            said(&["--user", "a", "--claim", "tenant=7"])["tenant"],
            json!(7)
        );
    }

    #[test]
    fn ids_of_tokens_do_not_come_again() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, other);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_to_write() {
        let user = "write 1 to 255 bytes without spaces around them and without control characters";
        let long = "x".repeat(256);
        for wrong in ["", " alice", "alice ", "a\nb", &long] {
            assert_eq!(parse_user(wrong).unwrap_err(), user, "{wrong:?}");
        }
        assert_eq!(
            parse_tenant("a b").unwrap_err(),
            "write 1 to 64 of a-z, 0-9, ., _ and -"
        );
        assert_eq!(
            parse_tenant("ACME").unwrap_err(),
            "the filters take it for acme, write that"
        );
        assert_eq!(
            parse_claim("plan").unwrap_err(),
            "write NAME=JSON, e.g. roles='[\"admin\"]', beta=true or plan='\"gold\"'"
        );
        assert_eq!(
            parse_claim("plan=gold").unwrap_err(),
            "gold is not JSON; for a text write it in quotes, e.g. 'plan=\"gold\"'"
        );
        assert_eq!(
            parse_claim("=1").unwrap_err(),
            "\"\" cannot be the name of a claim, write e.g. roles"
        );
        for (taken, instead) in TAKEN {
            assert_eq!(
                parse_claim(&format!("{taken}=1")).unwrap_err(),
                format!("{taken} is not free: {instead}")
            );
        }
        assert_eq!(
            parse_expires("1500ms").unwrap_err(),
            "\"1500ms\" is not whole seconds, write e.g. 10s or 1h"
        );
        assert_eq!(
            parse_expires("10").unwrap_err(),
            "\"10\" is not a duration, write \"10s\""
        );
    }

    #[test]
    fn a_claim_is_given_once() {
        let told =
            |given: &[&str]| contradiction(&args(&[&["--user", "a"], given].concat()).unwrap());
        assert_eq!(told(&["--claim", "a=1", "--claim", "b=1"]), None);
        assert_eq!(
            told(&["--claim", "a=1", "--claim", "a=1"]).as_deref(),
            Some("--claim a=…: --claim says a already, and a claim can be there only once")
        );
        assert_eq!(
            told(&["--tenant", "acme", "--claim", "tenant=\"b\""]).as_deref(),
            Some(
                "--claim tenant=…: --tenant says tenant already, and a claim can be there only once"
            )
        );
    }
}
