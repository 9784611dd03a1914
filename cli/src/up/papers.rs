//! What shows the gateway from whom a request is: the shop's customers of `--demo` and the commands that `ready` proposes have it.

use std::path::Path;
use std::sync::Arc;

use tenant_rate_limit::config::{Config as Limits, Source};
use tollgate_common::header::TENANT_ID;

use crate::issuer::{Issuer, TENANT};

/// The header by which the shop's manifests knew a user before there were tokens, and others' may.
pub(super) const USER_HEADER: &str = "x-user-id";

/// What the limiter believes.
#[derive(Clone, Debug)]
pub(crate) enum Papers {
    /// The tenant's id in this header, and the user's in [`USER_HEADER`].
    Headers(String),
    /// A token of the local issuer.
    Token(Arc<Issuer>),
}

impl Papers {
    /// For this limiter in a mesh with this local issuer, if it has one. None if the limiter believes nothing that can be shown here.
    pub(crate) fn of(limits: &Limits, issuer: Option<&Arc<Issuer>>) -> Option<Self> {
        limits.sources.iter().find_map(|source| match source {
            Source::Header(name) => Some(Self::Headers(name.clone())),
            Source::Claim(claim) if claim.names == [TENANT] => {
                issuer.map(|issuer| Self::Token(Arc::clone(issuer)))
            }
            Source::Claim(_)
            | Source::Peer(_)
            | Source::PassedOn(_)
            | Source::Host(_)
            | Source::Path(_)
            | Source::Query(_)
            | Source::Cookie(_) => None,
        })
    }

    /// Where the limiter does not say.
    pub(crate) fn otherwise(issuer: Option<&Arc<Issuer>>) -> Self {
        match issuer {
            // There may be rules on tokens.
            Some(issuer) => Self::Token(Arc::clone(issuer)),
            None => Self::Headers(TENANT_ID.to_owned()),
        }
    }
}

/// A shell's word for the program that runs, as short as it can be said from the current folder.
pub(super) fn this_program() -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "tollgate".into());
    let here = std::env::current_dir().unwrap_or_default();
    let short = program.strip_prefix(&here).unwrap_or(&program);
    word(short)
}

/// A path as a word of a shell's command.
pub(super) fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@%=:,".contains(&byte);
    if text.bytes().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
