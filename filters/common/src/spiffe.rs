//! Identities of workloads (SPIFFE ids): templates for them, and conditions that name those whose word counts.

use std::collections::HashSet;

use crate::{ConfigError, Problems, StringMatch, at_most, refuse};

/// How many conditions a list of peers may have.
pub const MAX_PEERS: usize = 256;

/// How many parts a template may have, its trust domain among them.
const MAX_PARTS: usize = 32;

/// The longest SPIFFE id, by its standard.
const LONGEST: usize = 2048;

const SCHEME: &str = "spiffe://";

/// The parameter of all templates.
const TENANT: &str = "{tenant}";

/// What a template looks like, for messages.
const EXAMPLE: &str = "\"spiffe://cluster.local/ns/{tenant}/sa/*\"";

/// A SPIFFE id with `{tenant}` in the place of one part or a part of one: `spiffe://cluster.local/ns/{tenant}/sa/*`. `*` is any one part of the path,
/// `**` at the end any number of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTemplate {
    /// As it is written.
    text: Box<str>,
    /// The trust domain, and then the path.
    parts: Vec<Part>,
    /// Whether more parts may follow.
    open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    Any,
    Tenant { before: Box<str>, after: Box<str> },
}

impl PeerTemplate {
    /// Reads a template; the error says what is wrong and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("\"{text}\" is not a template of SPIFFE ids, write for example {EXAMPLE}");
        let inner = text.strip_prefix(SCHEME).ok_or_else(wrong)?;
        let (inner, open) = match inner.strip_suffix("/**") {
            Some(inner) => (inner, true),
            None => (inner, false),
        };
        let parts = inner.split('/').map(part).collect::<Option<Vec<_>>>();
        let parts = parts.ok_or_else(wrong)?;
        if parts.first() == Some(&Part::Any) {
            return Err(format!(
                "\"{text}\" would believe every trust domain, write the name of one, for example {EXAMPLE}"
            ));
        }
        let tenants = parts
            .iter()
            .filter(|part| matches!(part, Part::Tenant { .. }));
        if tenants.count() != 1 || parts.len() > MAX_PARTS || text.len() > LONGEST {
            return Err(format!(
                "\"{text}\" has not one {TENANT} among at most {MAX_PARTS} parts, write for example {EXAMPLE}"
            ));
        }
        Ok(Self {
            text: text.into(),
            parts,
            open,
        })
    }

    /// The template as it is written.
    pub fn written(&self) -> &str {
        &self.text
    }

    /// What stands in the place of `{tenant}`. `None` for an id of another form. Ids are compared byte by byte: they have one spelling.
    pub fn read<'a>(&self, id: &'a [u8]) -> Option<&'a [u8]> {
        let mut given = id
            .strip_prefix(SCHEME.as_bytes())?
            .split(|byte| *byte == b'/');
        let mut tenant = None;
        for part in &self.parts {
            let given = given.next()?;
            match part {
                Part::Literal(literal) if literal.as_bytes() != given => return None,
                Part::Literal(_) | Part::Any => {}
                Part::Tenant { before, after } => {
                    let rest = given.strip_prefix(before.as_bytes())?;
                    tenant = Some(rest.strip_suffix(after.as_bytes())?);
                }
            }
        }
        if self.open || given.next().is_none() {
            tenant
        } else {
            None
        }
    }
}

fn part(text: &str) -> Option<Part> {
    let literal = |text: &str| {
        let of_id = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        text.bytes().all(of_id).then(|| Box::from(text))
    };
    match text.split_once(TENANT) {
        Some((before, after)) => Some(Part::Tenant {
            before: literal(before)?,
            after: literal(after)?,
        }),
        None if text == "*" => Some(Part::Any),
        None if matches!(text, "" | "." | "..") => None,
        None => literal(text).map(Part::Literal),
    }
}

/// Those whose word counts, from the conditions at `path`.
pub fn peers(
    written: Vec<StringMatch>,
    path: &str,
    problems: &mut Problems,
) -> Option<Vec<StringMatch>> {
    if written.is_empty() {
        return problems.refuse(path, "is empty and trusts nobody, list identities");
    }
    problems.take(at_most(written.len(), MAX_PEERS, path, "identities"))?;
    let mut known = HashSet::new();
    let mut sound = true;
    for (i, peer) in written.iter().enumerate() {
        let path = format!("{path}[{i}]");
        sound &= problems.take(names_peers(peer, &path)).is_some();
        if !known.insert(format!("{peer:?}")) {
            sound = false;
            let text = peer.written();
            problems.tell(path, format!("{text:?} is there twice, take one out"));
        }
    }
    sound.then_some(written)
}

/// Whether a condition on identities holds for those alone whom its author can have meant: those of a trust domain that it names, and none whose name
/// only begins like theirs.
pub fn names_peers(condition: &StringMatch, path: &str) -> Result<(), ConfigError> {
    let text = condition.written();
    let (key, has_domain) = match condition {
        StringMatch::Exact(_) => ("exact", is_identity(text)),
        StringMatch::Prefix(_) => ("prefix", is_identity(text)),
        StringMatch::Regex(_) => ("regex", is_identity_regex(text)),
        StringMatch::Suffix(_) => {
            return refuse(
                format!("{path}.suffix"),
                format!(
                    "{text:?} would hold for identities of every trust domain, write exact, prefix or regex"
                ),
            );
        }
    };
    let path = format!("{path}.{key}");
    if !has_domain {
        return refuse(
            path,
            format!(
                "{text:?} does not begin with the trust domain of those who are meant, write for example \
                 \"spiffe://cluster.local/ns/ecommerce/sa/cart-service\""
            ),
        );
    }
    match condition {
        StringMatch::Prefix(_) if !text.ends_with('/') => refuse(
            path,
            format!(
                "{text:?} would hold for every identity whose name goes on from there, write \"{text}/\" or exact"
            ),
        ),
        StringMatch::Regex(_) if is_alternatives(text) => refuse(
            path,
            format!(
                "{text:?} has alternatives that may begin with anything, put them in parentheses or write a condition for each"
            ),
        ),
        _ => Ok(()),
    }
}

/// Whether a text can begin a SPIFFE identity of a certain trust domain.
pub fn is_identity(text: &str) -> bool {
    let rest = text.strip_prefix(SCHEME);
    rest.and_then(|rest| rest.split_once('/'))
        .is_some_and(|(domain, _)| is_domain(domain))
}

/// The same of a regular expression, in which points may be escaped, and the slash behind the domain must be there once.
fn is_identity_regex(text: &str) -> bool {
    let rest = text.strip_prefix(SCHEME);
    rest.and_then(|rest| rest.split_once('/'))
        .is_some_and(|(domain, rest)| {
            is_domain(&domain.replace("\\.", ".")) && !rest.starts_with(['?', '*', '+', '{'])
        })
}

fn is_domain(text: &str) -> bool {
    let of_domain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !text.is_empty() && text.bytes().all(of_domain)
}

/// Whether a regular expression has alternatives that are not within a group: only the first begins with what it begins with.
fn is_alternatives(regex: &str) -> bool {
    let (mut depth, mut in_class, mut escaped) = (0_u32, false, false);
    for byte in regex.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'[' => in_class = true,
            b']' => in_class = false,
            _ if in_class => {}
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b'|' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_condition_on_peers_names_a_trust_domain_and_ends_where_a_name_does() {
        const INSTEAD: &str = "does not begin with the trust domain of those who are meant, write for example \
                               \"spiffe://cluster.local/ns/ecommerce/sa/cart-service\"";
        let told =
            |condition: &StringMatch| names_peers(condition, "at").map_err(|e| e.to_string());
        let exact = |text: &str| StringMatch::Exact(text.to_owned());
        let prefix = |text: &str| StringMatch::Prefix(text.to_owned());
        let regex = |text: &str| StringMatch::regex(text).unwrap();
        for right in [
            exact("spiffe://cluster.local/ns/a/sa/b"),
            prefix("spiffe://cluster.local/"),
            prefix("spiffe://cluster.local/ns/a/sa/"),
            regex(r"spiffe://cluster\.local/ns/(a|b)/sa/[x|]"),
            regex("spiffe://cluster.local/ns/a/sa/.*"),
            regex(r"spiffe://a/ns/\|"),
        ] {
            assert_eq!(told(&right), Ok(()), "{right:?}");
        }
        for (wrong, key, text) in [
            (exact("cart-service"), "exact", "cart-service"),
            (
                exact("spiffe://cluster.local"),
                "exact",
                "spiffe://cluster.local",
            ),
            (prefix("spiffe://"), "prefix", "spiffe://"),
            (prefix("spiffe://cluster"), "prefix", "spiffe://cluster"),
            (regex(".+"), "regex", ".+"),
            (regex("spiffe://.*/ns/a"), "regex", "spiffe://.*/ns/a"),
            (
                regex("spiffe://[a-z.]+/ns/a"),
                "regex",
                "spiffe://[a-z.]+/ns/a",
            ),
            // None of these begins with one domain and a slash.
            (regex("spiffe://a/?.*"), "regex", "spiffe://a/?.*"),
            (regex("spiffe://a/{0}.*"), "regex", "spiffe://a/{0}.*"),
            (regex("spiffe://a/*b"), "regex", "spiffe://a/*b"),
        ] {
            assert_eq!(told(&wrong), Err(format!("at.{key}: {text:?} {INSTEAD}")));
        }
        for (wrong, expected) in [
            (
                StringMatch::Suffix("/sa/cart".to_owned()),
                "at.suffix: \"/sa/cart\" would hold for identities of every trust domain, write exact, prefix or regex",
            ),
            (
                prefix("spiffe://cluster.local/ns/shop"),
                "at.prefix: \"spiffe://cluster.local/ns/shop\" would hold for every identity whose name goes on from there, write \
                 \"spiffe://cluster.local/ns/shop/\" or exact",
            ),
            (
                regex("spiffe://cluster.local/ns/(a|b)/sa/x|.*"),
                "at.regex: \"spiffe://cluster.local/ns/(a|b)/sa/x|.*\" has alternatives that may begin with anything, put them in \
                 parentheses or write a condition for each",
            ),
        ] {
            assert_eq!(told(&wrong), Err(expected.to_owned()));
        }
    }

    #[test]
    fn templates_name_a_tenant() {
        for (template, id, expected) in [
            (
                "spiffe://cluster.local/ns/{tenant}/sa/*",
                "spiffe://cluster.local/ns/acme/sa/cart",
                Some("acme"),
            ),
            (
                "spiffe://cluster.local/ns/{tenant}/sa/*",
                "spiffe://cluster.local/ns//sa/cart",
                Some(""),
            ),
            (
                "spiffe://cluster.local/ns/{tenant}/sa/*",
                "spiffe://cluster.local/ns/acme/sa/cart/x",
                None,
            ),
            (
                "spiffe://cluster.local/ns/{tenant}/sa/*",
                "spiffe://cluster.local/ns/acme/sa",
                None,
            ),
            (
                "spiffe://cluster.local/ns/{tenant}/sa/*",
                "spiffe://cluster.local/ns/acme/sb/cart",
                None,
            ),
            (
                "spiffe://cluster.local/ns/{tenant}/sa/*",
                "spiffe://other.local/ns/acme/sa/cart",
                None,
            ),
            (
                "spiffe://cluster.local/ns/{tenant}/sa/*",
                "spiffe://cluster.local.evil/ns/acme/sa/cart",
                None,
            ),
            (
                "spiffe://cluster.local/ns/{tenant}/sa/*",
                "SPIFFE://cluster.local/ns/acme/sa/cart",
                None,
            ),
            (
                "spiffe://cluster.local/ns/{tenant}/sa/*",
                "https://cluster.local/ns/acme/sa/cart",
                None,
            ),
            ("spiffe://cluster.local/ns/{tenant}/sa/*", "", None),
            (
                "spiffe://cluster.local/ns/shop/sa/{tenant}-app",
                "spiffe://cluster.local/ns/shop/sa/acme-app",
                Some("acme"),
            ),
            (
                "spiffe://cluster.local/ns/shop/sa/{tenant}-app",
                "spiffe://cluster.local/ns/shop/sa/-app",
                Some(""),
            ),
            (
                "spiffe://cluster.local/ns/shop/sa/{tenant}-app",
                "spiffe://cluster.local/ns/shop/sa/app",
                None,
            ),
            (
                "spiffe://{tenant}.example/**",
                "spiffe://acme.example/ns/a/sa/b",
                Some("acme"),
            ),
            (
                "spiffe://{tenant}.example/**",
                "spiffe://acme.example",
                Some("acme"),
            ),
            (
                "spiffe://{tenant}.example/ns/**",
                "spiffe://acme.example/ms/a",
                None,
            ),
            ("spiffe://{tenant}", "spiffe://acme", Some("acme")),
        ] {
            let read = PeerTemplate::parse(template).unwrap();
            let tenant = read
                .read(id.as_bytes())
                .map(|id| std::str::from_utf8(id).unwrap());
            assert_eq!(tenant, expected, "{template} of {id}");
        }
    }

    #[test]
    fn what_is_no_template_says_what_to_write() {
        const EXAMPLE: &str = r#"write for example "spiffe://cluster.local/ns/{tenant}/sa/*""#;
        for text in [
            "",
            "cluster.local/ns/{tenant}/sa/*",
            "spiffe:///ns/{tenant}",
            "spiffe://a//{tenant}",
            "spiffe://a/{tenant}/",
            "spiffe://a/./{tenant}",
            "spiffe://a/../{tenant}",
            "spiffe://a/**/{tenant}",
            "spiffe://a/b*/{tenant}",
            "spiffe://a b/{tenant}",
            "spiffe://a/{tenant}{tenant}",
            "spiffe://a/{tenant}?x",
            "spiffe://a:80/{tenant}",
        ] {
            assert_eq!(
                PeerTemplate::parse(text),
                Err(format!(
                    "\"{text}\" is not a template of SPIFFE ids, {EXAMPLE}"
                ))
            );
        }
        let long = format!("spiffe://a/{{tenant}}{}", "/b".repeat(31));
        for text in ["spiffe://a/ns/b/sa/c", "spiffe://{tenant}/{tenant}", &long] {
            assert_eq!(
                PeerTemplate::parse(text),
                Err(format!(
                    "\"{text}\" has not one {{tenant}} among at most 32 parts, {EXAMPLE}"
                ))
            );
        }
        assert_eq!(
            PeerTemplate::parse("spiffe://*/ns/{tenant}/sa/*"),
            Err("\"spiffe://*/ns/{tenant}/sa/*\" would believe every trust domain, write the name of one, for example \"spiffe://cluster.local/ns/{tenant}/sa/*\"".to_owned())
        );
    }

    proptest! {
        #[test]
        fn what_is_filled_in_is_read_back(id in "[a-zA-Z0-9._-]{0,70}", account in "[a-z-]{0,9}") {
            let template = PeerTemplate::parse("spiffe://a.b/ns/x-{tenant}-y/sa/*").unwrap();
            let peer = format!("spiffe://a.b/ns/x-{id}-y/sa/{account}");
            prop_assert_eq!(template.read(peer.as_bytes()), Some(id.as_bytes()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), text in any::<String>()) {
            let template = PeerTemplate::parse("spiffe://a/{tenant}/**").unwrap();
            let _ = template.read(&[b"spiffe://a/", bytes.as_slice()].concat());
            let _ = template.read(&bytes);
            let _ = PeerTemplate::parse(&text);
            let _ = PeerTemplate::parse(&format!("spiffe://{text}"));
        }
    }
}
