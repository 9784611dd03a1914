//! Where a tenant's id comes from, and what a usable id is.

use tollgate_common::claims::{self, Leaf};
use tollgate_common::tenant::ID_RULE;
use tollgate_common::{
    ConfigError, HostTemplate, OneOrMany, PathTemplate, PeerTemplate, Problems, StringMatch,
    TenantId, header, peers, refuse,
};

use super::flag;
use super::written::{CaseWritten, IdWritten, MissingWritten, SourceWritten};

/// Sources that a configuration has at most.
pub(super) const MAX_SOURCES: usize = 16;

/// The longest name of a query parameter or a cookie.
pub(super) const LONGEST_NAME: usize = 128;

/// The longest challenge.
pub(super) const LONGEST_CHALLENGE: usize = 256;

/// Where a tenant's id is found.
#[derive(Clone, Debug)]
pub enum Source {
    /// In a claim of a verified token.
    Claim(ClaimPath),
    /// In the identity of the peer.
    Peer(PeerTemplate),
    /// In `x-tenant-id`, if the peer is one of these.
    PassedOn(Vec<StringMatch>),
    /// In a request header (in lower case).
    Header(String),
    /// In the host.
    Host(HostTemplate),
    /// In the path.
    Path(PathTemplate),
    /// In a query parameter.
    Query(String),
    /// In a cookie.
    Cookie(String),
}

/// A source by which clients choose who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByClients {
    /// Its position.
    pub source: usize,
    /// What it is: `the header x-tenant-id`.
    pub what: String,
}

/// The way to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath {
    /// The names of the objects around it, outermost first, and its own.
    pub names: Vec<String>,
    /// The claim by itself, where the proxy shows it so.
    pub leaf: Option<Leaf>,
    /// Whose tokens alone are asked for it; those of all issuers without.
    pub issuer: Option<Box<Issuer>>,
}

/// The issuer of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The claim `iss`.
    pub claim: ClaimPath,
    /// What it has to be.
    pub name: String,
}

/// What a usable id is, beyond what [`TenantId`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRule {
    refuses_upper_case: bool,
    longest: usize,
    /// A bit for each ASCII character.
    characters: u128,
}

/// What becomes of a request without a usable id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is from this tenant.
    Tenant(TenantId),
    /// It is refused.
    Refuse {
        /// 400 or 401.
        status: u32,
        /// `WWW-Authenticate`, of a 401.
        challenge: Option<String>,
    },
}

impl IdRule {
    /// What is wrong in the rule narrows nothing.
    pub(super) fn of(written: &IdWritten, problems: &mut Problems) -> Self {
        const PATH: &str = "tenant.id";
        let longest = usize::try_from(written.longest).unwrap_or(usize::MAX);
        if !(1..=TenantId::LONGEST).contains(&longest) {
            problems.tell(
                format!("{PATH}.longest"),
                format!(
                    "{longest} is out of range, write 1 to {}",
                    TenantId::LONGEST
                ),
            );
        }
        let allowed = characters(written.characters.as_bytes());
        if allowed.is_none() {
            problems.tell(
                format!("{PATH}.characters"),
                format!(
                    "\"{}\" is not a set of characters that ids may have, write some of a-z0-9._- (a - at the end stands for itself)",
                    written.characters
                ),
            );
        }
        let right = longest > 0 && problems.as_written(PATH, "longest");
        Self {
            refuses_upper_case: written.case == CaseWritten::Refuse,
            longest: if right { longest } else { TenantId::LONGEST },
            // What could not be read allows none, so this is what was written.
            characters: match allowed {
                Some(some) if some != ALL => some,
                _ => u128::MAX,
            },
        }
    }

    /// The id that these bytes of a request name; `None` if they are not usable.
    pub fn read(&self, raw: &[u8]) -> Option<TenantId> {
        let id = TenantId::normalise(raw)?;
        let allowed = |byte: &u8| self.characters >> (byte & 0x7f) & 1 == 1;
        (id.as_bytes().len() <= self.longest
            // Mostly all are, and to shift 128 bits takes WebAssembly a function.
            && (self.characters == u128::MAX || id.as_bytes().iter().all(allowed))
            && !(self.refuses_upper_case && raw.iter().any(u8::is_ascii_uppercase)))
        .then_some(id)
    }

    /// The id that a configuration writes at `path`, in the one form in which requests have it.
    pub(super) fn tenant(&self, path: &str, id: &str) -> Result<TenantId, ConfigError> {
        if matches!(id, "other" | "none") {
            return refuse(
                path,
                format!("\"{id}\" is what metrics show in the place of ids, write another id"),
            );
        }
        match TenantId::normalise(id.as_bytes()) {
            Some(tenant) if tenant.as_str() != id => refuse(
                path,
                format!(
                    "no request has the tenant \"{id}\", because ids are trimmed and lowered, write \"{tenant}\""
                ),
            ),
            Some(_) => self.read(id.as_bytes()).map_or_else(
                || {
                    refuse(
                        path,
                        format!("no request has the tenant \"{id}\", because of tenant.id"),
                    )
                },
                Ok,
            ),
            None => refuse(path, format!("\"{id}\" cannot be a tenant's id, {ID_RULE}")),
        }
    }
}

/// The characters that ids may have at all, a bit each. A rule that has them all narrows nothing.
const ALL: u128 = {
    let mut bits = 0;
    let mut byte = 0;
    while byte < 128 {
        if matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-') {
            bits |= 1 << byte;
        }
        byte += 1;
    }
    bits
};

/// A bit for each character in a set such as `a-z0-9_-`.
fn characters(mut set: &[u8]) -> Option<u128> {
    let mut bits = 0_u128;
    while let [first, rest @ ..] = set {
        let last;
        (last, set) = match rest {
            [b'-', last, rest @ ..] => (*last, rest),
            _ => (*first, rest),
        };
        let range = *first..=last;
        let alike = range.clone().all(|byte| byte.is_ascii_lowercase())
            || range.clone().all(|byte| byte.is_ascii_digit())
            || (*first == last && matches!(first, b'.' | b'_' | b'-'));
        if range.is_empty() || !alike {
            return None;
        }
        for byte in range {
            bits |= 1 << byte;
        }
    }
    (bits != 0).then_some(bits)
}

pub(super) fn missing(
    written: &MissingWritten,
    ids: &IdRule,
    problems: &mut Problems,
) -> Option<Missing> {
    const PATH: &str = "tenant.missing";
    let challenge = format!("{PATH}.challenge");
    match (&written.tenant, written.refuse) {
        (Some(_), Some(_)) => problems.refuse(
            PATH,
            "a request cannot be both a tenant's and refused, write tenant or refuse",
        ),
        (tenant, None) => {
            if written.challenge.is_some() && problems.as_written(PATH, "") {
                problems.tell(
                    challenge,
                    "nobody is challenged without a refusal, write refuse: 401 or leave it out",
                );
            }
            let id = tenant.as_deref().unwrap_or("anonymous");
            let tenant = ids.tenant(&format!("{PATH}.tenant"), id);
            problems.take(tenant).map(Missing::Tenant)
        }
        (None, Some(400)) if written.challenge.is_none() => Some(Missing::Refuse {
            status: 400,
            challenge: None,
        }),
        (None, Some(400)) => problems.refuse(
            challenge,
            "only a 401 challenges, write refuse: 401 or leave it out",
        ),
        (None, Some(401)) => {
            let text = written.challenge.as_deref().unwrap_or("Bearer");
            let visible = |byte: u8| matches!(byte, b' '..=b'~');
            if text.trim().is_empty()
                || text.len() > LONGEST_CHALLENGE
                || !text.bytes().all(visible)
            {
                return problems.refuse(
                    challenge,
                    format!(
                        "{text:?} is not a challenge of at most {LONGEST_CHALLENGE} visible characters, write for example \
                         'Bearer realm=\"shop\"'"
                    ),
                );
            }
            Some(Missing::Refuse {
                status: 401,
                challenge: Some(text.trim().to_owned()),
            })
        }
        (None, Some(status)) => problems.refuse(
            format!("{PATH}.refuse"),
            format!("{status} does not say that an id is missing, write 401 or 400"),
        ),
    }
}

/// The sources, and those by which clients choose who they are.
pub(super) fn sources(
    written: &[SourceWritten],
    problems: &mut Problems,
) -> Option<(Vec<Source>, Vec<ByClients>)> {
    const PATH: &str = "tenant.from";
    if written.is_empty() {
        return problems.refuse(
            PATH,
            "there is no source, write e.g. [{header: x-tenant-id}]",
        );
    }
    problems.at_most(written.len(), MAX_SOURCES, PATH, "sources");
    let mut sources = Vec::with_capacity(written.len());
    let mut known = Vec::with_capacity(written.len());
    let mut by_clients = Vec::new();
    for (index, written) in written.iter().enumerate() {
        let path = format!("{PATH}[{index}]");
        let vouched = flag(&path, "vouched", written.vouched, problems);
        let source = source(written, &path, problems);
        let issuer = written.issuer.as_ref();
        if issuer.is_some() && !written.claim.is_given() {
            problems.tell(
                format!("{path}.issuer"),
                "says whose claim is meant, and no claim is asked for, write it beside claim",
            );
        } else if issuer.is_some_and(String::is_empty) {
            problems.tell(
                format!("{path}.issuer"),
                "is empty, write the issuer of the RequestAuthentication that is meant",
            );
        }
        if let Some(source) = &source {
            let text = format!("{source:?}");
            if known.contains(&text) {
                problems.tell(&path, "is looked at twice, keep one");
            }
            known.push(text);
            match source.by_clients() {
                None if vouched == Some(true) => {
                    problems.tell(
                        format!("{path}.vouched"),
                        "is said of what the proxy has verified itself, leave it out",
                    );
                }
                Some(what) if vouched == Some(false) => by_clients.push(ByClients {
                    source: index,
                    what,
                }),
                _ => {}
            }
        }
        sources.push(source);
    }
    let sources: Option<_> = sources.into_iter().collect();
    Some((sources?, by_clients))
}

impl Source {
    /// What it is, if clients write it as they like.
    fn by_clients(&self) -> Option<String> {
        match self {
            Self::Claim(_) | Self::Peer(_) | Self::PassedOn(_) => None,
            Self::Header(name) => Some(format!("the header {name}")),
            Self::Host(_) => Some("the host".to_owned()),
            Self::Path(_) => Some("the path".to_owned()),
            Self::Query(name) => Some(format!("the query parameter {name}")),
            Self::Cookie(name) => Some(format!("the cookie {name}")),
        }
    }
}

fn source(written: &SourceWritten, path: &str, problems: &mut Problems) -> Option<Source> {
    let SourceWritten {
        claim,
        peer,
        passed_on,
        header,
        host,
        path: in_path,
        query,
        cookie,
        issuer,
        vouched: _,
    } = written;
    let texts = [
        ("peer", peer),
        ("header", header),
        ("host", host),
        ("path", in_path),
        ("query", query),
        ("cookie", cookie),
    ];
    let texts = texts
        .iter()
        .filter_map(|(key, value)| Some((*key, value.as_deref()?)));
    let claims = claim.is_given().then_some(("claim", ""));
    let passed = passed_on.is_some().then_some(("passedOn", ""));
    let mut given = claims.into_iter().chain(passed).chain(texts);
    let (key, value) = match (given.next(), given.next()) {
        (Some(only), None) => only,
        (None, _) => {
            return problems.refuse(
                path,
                "says not where to look, write e.g. {header: x-tenant-id}",
            );
        }
        (Some((first, _)), Some((second, _))) => {
            return problems.refuse(
                path,
                format!("looks at {first} and {second}, write a source for each"),
            );
        }
    };
    let path = format!("{path}.{key}");
    if let Some(passed_on) = passed_on {
        let peers = peers(passed_on.peers.clone(), &format!("{path}.peers"), problems);
        return peers.map(Source::PassedOn);
    }
    let source = match key {
        "claim" => claim_path(claim, issuer.as_deref(), &path).map(Source::Claim),
        key => text(key, value, &path),
    };
    problems.take(source)
}

/// A source that is written as a text.
fn text(key: &str, value: &str, path: &str) -> Result<Source, ConfigError> {
    let wrong = |message| ConfigError::new(path, message);
    match key {
        "peer" => PeerTemplate::parse(value).map(Source::Peer).map_err(wrong),
        "header" => {
            let name = header::name(value, path)?;
            if tollgate_host::same_name(name.as_bytes(), header::TENANT_TIER.as_bytes()) {
                return refuse(
                    path,
                    format!("\"{name}\" is what this filter writes, write another header"),
                );
            }
            Ok(Source::Header(name))
        }
        "host" => HostTemplate::parse(value).map(Source::Host).map_err(wrong),
        "path" => PathTemplate::parse(value).map(Source::Path).map_err(wrong),
        "query" => parameter(value, path).map(Source::Query),
        _ => {
            let of_token =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if !(1..=LONGEST_NAME).contains(&value.len()) || !value.bytes().all(of_token) {
                return refuse(
                    path,
                    format!("{value:?} is not a cookie's name, write for example \"tenant\""),
                );
            }
            Ok(Source::Cookie(value.to_owned()))
        }
    }
}

fn claim_path(
    written: &OneOrMany<String>,
    issuer: Option<&str>,
    path: &str,
) -> Result<ClaimPath, ConfigError> {
    let to = |names: Vec<String>, issuer| ClaimPath {
        leaf: Leaf::of(&names),
        names,
        issuer,
    };
    let issuer = issuer.map(|name| {
        Box::new(Issuer {
            claim: to(vec!["iss".to_owned()], None),
            name: name.to_owned(),
        })
    });
    Ok(to(claims::path(written, path, "tenant")?, issuer))
}

/// The name of a query parameter, as it is once decoded.
pub(super) fn parameter(name: &str, path: &str) -> Result<String, ConfigError> {
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~[]".contains(&byte);
    if (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(of_name) {
        return Ok(name.to_owned());
    }
    refuse(
        path,
        format!("{name:?} is not a query parameter's name, write for example \"tenant\""),
    )
}
