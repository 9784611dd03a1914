//! Names of hosts in `:authority`, and templates for them.

/// The host of an authority: without its port, and without the dot that ends a fully qualified name.
pub fn host(authority: &[u8]) -> &[u8] {
    let end = authority.iter().rposition(|byte| *byte == b':');
    let host = match end.map(|at| authority.split_at(at)) {
        Some((host, port)) if port.iter().skip(1).all(u8::is_ascii_digit) => host,
        _ => authority,
    };
    host.strip_suffix(b".").unwrap_or(host)
}

/// A host with `{tenant}` in the place of one label or a part of one: `{tenant}.shop.example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTemplate {
    /// In lower case, as is `after`.
    before: Box<str>,
    after: Box<str>,
}

impl HostTemplate {
    /// Reads a template; the error says what is wrong and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            Err(format!(
                "\"{text}\" is not a template of hosts, write for example \"{{tenant}}.shop.example.com\""
            ))
        };
        let Some((before, after)) = text.split_once("{tenant}") else {
            return wrong();
        };
        let of_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let all = before.bytes().chain(after.bytes());
        if text.len() > 253 || before.len() + after.len() == 0 || !all.clone().all(of_host) {
            return wrong();
        }
        if after.ends_with('.') || before.starts_with('.') || text.contains("..") {
            return wrong();
        }
        Ok(Self {
            before: before.to_ascii_lowercase().into(),
            after: after.to_ascii_lowercase().into(),
        })
    }

    /// What stands in the place of `{tenant}`, of a host as [`host`] returns it. `None` for a host of another form, also
    /// for one with more labels.
    pub fn read<'a>(&self, host: &'a [u8]) -> Option<&'a [u8]> {
        let (before, rest) = host.split_at_checked(self.before.len())?;
        let (tenant, after) = rest.split_at_checked(rest.len().checked_sub(self.after.len())?)?;
        (before.eq_ignore_ascii_case(self.before.as_bytes())
            && after.eq_ignore_ascii_case(self.after.as_bytes())
            && !tenant.contains(&b'.'))
        .then_some(tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_host_has_no_port_and_no_dot_at_its_end() {
        for (authority, expected) in [
            ("shop", "shop"),
            ("shop:8080", "shop"),
            ("shop:", "shop"),
            ("shop.:80", "shop"),
            ("shop:http", "shop:http"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
            (":", ""),
        ] {
            assert_eq!(
                host(authority.as_bytes()),
                expected.as_bytes(),
                "{authority}"
            );
        }
    }

    #[test]
    fn templates_name_a_tenant() {
        let label = HostTemplate::parse("{tenant}.Shop.example.com").unwrap();
        let part = HostTemplate::parse("api-{tenant}.example.com").unwrap();
        for (host, of_label, of_part) in [
            ("acme.shop.example.com", Some("acme"), None),
            ("ACME.SHOP.EXAMPLE.COM", Some("ACME"), None),
            ("a.b.shop.example.com", None, None),
            (".shop.example.com", Some(""), None),
            ("shop.example.com", None, None),
            ("xshop.example.com", None, None),
            ("api-acme.example.com", None, Some("acme")),
            ("api-.example.com", None, Some("")),
            ("api-example.com", None, None),
            ("user@acme.shop.example.com", Some("user@acme"), None),
            ("", None, None),
        ] {
            let text =
                |found: Option<&[u8]>| found.map(|id| String::from_utf8(id.to_vec()).unwrap());
            assert_eq!(
                text(label.read(host.as_bytes())).as_deref(),
                of_label,
                "{host}"
            );
            assert_eq!(
                text(part.read(host.as_bytes())).as_deref(),
                of_part,
                "{host}"
            );
        }
    }

    #[test]
    fn what_is_no_template_says_what_to_write() {
        for text in [
            "",
            "shop.example.com",
            "{tenant}",
            "{tenant}.{tenant}.com",
            "{tenant}.shop:80",
            "*.{tenant}.com",
            "{tenant}.shop.",
            "{tenant}..com",
            ".{tenant}.com",
            "http://{tenant}.com",
        ] {
            assert_eq!(
                HostTemplate::parse(text),
                Err(format!(
                    "\"{text}\" is not a template of hosts, write for example \"{{tenant}}.shop.example.com\""
                ))
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_filled_in_is_read_back(id in "[a-zA-Z0-9_-]{1,70}", port in proptest::option::of(any::<u16>())) {
            let template = HostTemplate::parse("a-{tenant}-b.example.com").unwrap();
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            let authority = format!("A-{id}-b.example.com{port}");
            prop_assert_eq!(template.read(host(authority.as_bytes())), Some(id.as_bytes()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), text in any::<String>()) {
            let template = HostTemplate::parse("{tenant}.b").unwrap();
            let _ = template.read(host(&bytes));
            let _ = HostTemplate::parse(&text);
        }
    }
}
