//! Identities of workloads (SPIFFE ids), and templates for them.

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
        Ok(Self { parts, open })
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
