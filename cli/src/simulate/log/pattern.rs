//! Lines of text in which fields follow one another, each up to what comes behind it: Envoy's format strings, and the Common and
//! Combined Log Formats.

use std::borrow::Cow;

use memchr::memmem::Finder;

use super::Not;
use super::Told;
use super::fields::{Draft, Fields, Target};
use crate::simulate::time::Form;

/// How lines are read.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// What is before the first field.
    before: Vec<u8>,
    pieces: Vec<Piece>,
    /// Whether a quote within a field is written as `\"`. Envoy writes it as it is.
    escapes: bool,
}

/// A field and what is behind it.
#[derive(Debug)]
struct Piece {
    /// What it is called in messages and on the command line.
    name: String,
    targets: Vec<Target>,
    /// Never empty but for the last.
    behind: Finder<'static>,
}

impl Pattern {
    /// That of a format string of Envoy.
    pub(crate) fn envoy(format: &str, fields: &Fields) -> Result<Self, String> {
        let mut pattern = Self {
            before: Vec::new(),
            pieces: Vec::new(),
            escapes: false,
        };
        let mut literal = String::new();
        let mut rest = format.trim_end_matches(['\n', '\r']);
        while let Some((before, behind)) = rest.split_once('%') {
            literal.push_str(before);
            if let Some(behind) = behind.strip_prefix('%') {
                literal.push('%');
                rest = behind;
                continue;
            }
            let (operator, behind) = operator(behind).ok_or_else(|| {
                let shown: String = behind.chars().take(40).collect();
                format!("\"%{shown}\" begins no command operator such as %START_TIME% or %REQ(:PATH)%; write %% for a %")
            })?;
            let target = target(&operator)?;
            pattern.add(std::mem::take(&mut literal), operator.name, target, fields)?;
            rest = behind;
        }
        literal.push_str(rest);
        pattern.close(literal);
        pattern.finish(fields)
    }

    /// That of the Common Log Format, or of the Combined one.
    pub(crate) fn common(combined: bool, fields: &Fields) -> Result<Self, String> {
        let header = |name: &str| Some(Target::Header(name.to_owned()));
        let mut pieces = vec![
            ("", "host", None),
            (" ", "ident", None),
            (" ", "user", None),
            (" [", "time", Some(Target::Time(Form::common()))),
            ("] \"", "request", Some(Target::RequestLine)),
            ("\" ", "status", Some(Target::Status)),
            (" ", "bytes", None),
        ];
        if combined {
            pieces.push((" \"", "referer", header("referer")));
            pieces.push(("\" \"", "user-agent", header("user-agent")));
        }
        let mut pattern = Self {
            before: Vec::new(),
            pieces: Vec::new(),
            escapes: true,
        };
        for (before, name, target) in pieces {
            pattern.add(before.to_owned(), name.to_owned(), target, fields)?;
        }
        pattern.close(if combined {
            "\"".to_owned()
        } else {
            String::new()
        });
        pattern.finish(fields)
    }

    fn add(
        &mut self,
        before: String,
        name: String,
        target: Option<Target>,
        fields: &Fields,
    ) -> Result<(), String> {
        if let Some(last) = self.pieces.last()
            && before.is_empty()
        {
            return Err(format!(
                "nothing is between %{}% and %{name}%, so nobody can tell where the one ends; write a space or a quote between them",
                last.name
            ));
        }
        self.close(before);
        let unneeded = |target: &Target| {
            fields.overrules(target)
                || matches!(target, Target::Header(name) if !fields.wants(name.as_bytes()))
        };
        self.pieces.push(Piece {
            name,
            targets: target
                .into_iter()
                .filter(|target| !unneeded(target))
                .collect(),
            behind: Finder::new(b"").into_owned(),
        });
        Ok(())
    }

    /// What is behind the last field, or before the first.
    fn close(&mut self, literal: String) {
        match self.pieces.last_mut() {
            Some(last) => last.behind = Finder::new(literal.as_bytes()).into_owned(),
            None => self.before = literal.into_bytes(),
        }
    }

    /// With what the command line says.
    fn finish(mut self, fields: &Fields) -> Result<Self, String> {
        for ((option, field), target) in fields.asked() {
            let bare = field.trim_matches('%');
            let Some(piece) = self.pieces.iter_mut().find(|piece| piece.name == bare) else {
                let names: Vec<&str> = self
                    .pieces
                    .iter()
                    .map(|piece| piece.name.as_str())
                    .collect();
                return Err(format!(
                    "{option}: there is no field {field:?} in this format, write one of: {}",
                    names.join(", ")
                ));
            };
            piece.targets.push(target);
        }
        let mut targets = self.pieces.iter().flat_map(|piece| &piece.targets);
        if !targets.any(|target| matches!(target, Target::Time(_))) {
            return Err(
                "the format does not say when a request began: it has no %START_TIME%".to_owned(),
            );
        }
        Ok(self)
    }

    /// What a line says, its parts into the arena.
    pub(crate) fn read(&self, line: &[u8], arena: &mut Vec<u8>) -> Result<Told, Not> {
        let misfit =
            |name: &str| Not::Readable(format!("does not fit the format at {name}").into());
        let Some(mut rest) = line.strip_prefix(self.before.as_slice()) else {
            return Err(misfit("its beginning"));
        };
        let mut draft = Draft::default();
        for piece in &self.pieces {
            let behind = piece.behind.needle();
            let end = if behind.is_empty() {
                Some(rest.len())
            } else if self.escapes && behind.first() == Some(&b'"') {
                unescaped(rest, &piece.behind)
            } else {
                match behind {
                    [byte] => memchr::memchr(*byte, rest),
                    _ => piece.behind.find(rest),
                }
            };
            let end = end.ok_or_else(|| misfit(&piece.name))?;
            let value = &rest[..end];
            rest = &rest[end + behind.len()..];
            if piece.targets.is_empty() {
                continue;
            }
            let value = match self.escapes {
                true => plain(value),
                false => Cow::Borrowed(value),
            };
            for target in &piece.targets {
                draft.take(target, &value, arena)?;
            }
        }
        if !rest.is_empty() {
            return Err(misfit("its end"));
        }
        draft.finish()
    }
}

/// Where a closing quote is that no backslash is before.
fn unescaped(text: &[u8], quote: &Finder<'_>) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + quote.find(text.get(from..)?)?;
        let backslashes = text[..at].iter().rev().take_while(|byte| **byte == b'\\');
        if backslashes.count() % 2 == 0 {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Without the escapes of Apache and nginx: `\"`, `\\`, `\x22`.
fn plain(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match (byte, behind) {
            (b'\\', [b'x', a, b, more @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                match (digit(a), digit(b)) {
                    (Some(a), Some(b)) => {
                        plain.push((a * 16 + b) as u8);
                        rest = more;
                    }
                    _ => plain.push(b'\\'),
                }
            }
            (b'\\', [escaped @ (b'"' | b'\\'), more @ ..]) => {
                plain.push(*escaped);
                rest = more;
            }
            (byte, _) => plain.push(*byte),
        }
    }
    Cow::Owned(plain)
}

/// A command operator.
struct Operator {
    /// All of it between the `%`.
    name: String,
    command: String,
    arguments: Option<String>,
}

/// Reads an operator behind its `%`, and what comes behind it.
fn operator(text: &str) -> Option<(Operator, &str)> {
    let of_command = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let length = text.find(|c| !of_command(c))?;
    let (command, mut rest) = text.split_at(length);
    if command.is_empty() {
        return None;
    }
    let mut arguments = None;
    if let Some(inner) = rest.strip_prefix('(') {
        let (inside, behind) = inner.split_once(')')?;
        arguments = Some(inside.to_owned());
        rest = behind;
    }
    if let Some(most) = rest.strip_prefix(':') {
        rest = most.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    let behind = rest.strip_prefix('%')?;
    let operator = Operator {
        name: text[..text.len() - rest.len()].to_owned(),
        command: command.to_owned(),
        arguments,
    };
    Some((operator, behind))
}

/// What an operator writes, as far as it is of interest.
fn target(operator: &Operator) -> Result<Option<Target>, String> {
    let arguments = operator.arguments.as_deref();
    Ok(match (operator.command.as_str(), arguments) {
        ("START_TIME", None | Some("")) => Some(Target::Time(Form::Rfc3339)),
        ("START_TIME", Some(format)) => {
            let form =
                Form::parse(format).map_err(|wrong| format!("%{}%: {wrong}", operator.name))?;
            Some(Target::Time(form))
        }
        ("REQ" | "REQUEST_HEADER", Some(names)) => {
            let mut names = names.split('?').map(str::to_ascii_lowercase);
            let first = names.next().unwrap_or_default();
            let name = match names.next().unwrap_or_default().as_str() {
                // `%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%`: the one before a route rewrote it, which the filter saw, or the one there is.
                name @ (":path" | ":authority" | ":method") => name.to_owned(),
                _ => first,
            };
            Some(Target::Header(if name == "host" {
                ":authority".to_owned()
            } else {
                name
            }))
        }
        ("PATH", _) => Some(Target::Header(":path".to_owned())),
        ("RESPONSE_CODE", None) => Some(Target::Status),
        ("RESPONSE_CODE_DETAILS", None) => Some(Target::Details),
        ("DURATION", None) => Some(Target::Duration),
        ("DOWNSTREAM_PEER_URI_SAN", None) => Some(Target::Peer),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::log::record;
    use crate::simulate::log::record::testing::entry;

    fn read(pattern: &Pattern, line: &str) -> Result<(Told, Vec<(String, String)>), Not> {
        let mut arena = Vec::new();
        let told = pattern.read(line.as_bytes(), &mut arena)?;
        record::end(&mut arena);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let parts = entry(0)
            .parts(&[arena])
            .map(|part| match part {
                record::Part::Header(name, value) => (text(name), text(value)),
                record::Part::Claim(number, value) => (format!("claim {number}"), text(value)),
                record::Part::Peer(value) => ("peer".to_owned(), text(value)),
            })
            .collect();
        Ok((told, parts))
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_format_string_of_envoy_says_where_everything_is() {
        let fields = Fields {
            claims: vec![(
                vec!["tenant".to_owned()],
                "DYNAMIC_METADATA(a:b)".to_owned(),
            )],
            headers: vec![("x-tenant-id".to_owned(), "REQ(X-T):10".to_owned())],
            ..Fields::default()
        };
        let format = "%START_TIME(%s.%3f)% 100%% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %REQ(:METHOD)%|%REQ(HOST)%|%REQ(X-T):10%|%DYNAMIC_METADATA(a:b)%|\
            %DOWNSTREAM_PEER_URI_SAN%|%DURATION%|%RESPONSE_CODE%|%RESPONSE_CODE_DETAILS%|%UPSTREAM_HOST%\n";
        let pattern = Pattern::envoy(format, &fields).unwrap();
        let (told, parts) = read(&pattern, "1795248005.250 100% /a?b=c GET|shop|ACME|acme|spiffe://a/b|17|429|tollgate_rate_limited|-").unwrap();
        assert_eq!(
            told,
            Told {
                time: 1_795_248_005_250_000_000,
                duration: 17,
                status: 429
            }
        );
        assert_eq!(
            parts,
            pairs(&[
                (":path", "/a?b=c"),
                (":method", "GET"),
                (":authority", "shop"),
                ("x-tenant-id", "ACME"),
                ("claim 0", "acme"),
                ("peer", "spiffe://a/b")
            ])
        );
        assert_eq!(
            read(
                &pattern,
                "1795248005.250 100% - -|-|-|-|-|0|400|http1.codec_error|-"
            ),
            Err(Not::Request)
        );
        assert_eq!(
            read(
                &pattern,
                "1795248005.250 100% /a GET|shop|-|-|-|0|401|jwt_authn_access_denied{Jwt_is_expired}|-"
            ),
            Err(Not::Passed)
        );
        for (line, why) in [
            (
                "soon 100% /a GET|shop|-|-|-|0|200|-|-",
                "\"soon\" is no moment",
            ),
            (
                "1795248005.250 100 /a GET|shop|-|-|-|0|200|-|-",
                "does not fit the format at START_TIME(%s.%3f)",
            ),
            (
                "1795248005.250 100% /a GET|shop|-",
                "does not fit the format at REQ(X-T):10",
            ),
            ("", "does not fit the format at START_TIME(%s.%3f)"),
        ] {
            assert_eq!(
                read(&pattern, line),
                Err(Not::Readable(why.to_owned().into())),
                "{line}"
            );
        }
    }

    #[test]
    fn a_format_string_that_cannot_be_read_is_refused_with_what_to_write() {
        let refused = |format: &str, fields: &Fields| Pattern::envoy(format, fields).unwrap_err();
        let none = Fields::default();
        assert_eq!(
            refused("%START_TIME%%REQ(:PATH)%", &none),
            "nothing is between %START_TIME% and %REQ(:PATH)%, so nobody can tell where the one ends; write a space or a quote between them"
        );
        assert_eq!(
            refused("%REQ(:PATH)%", &none),
            "the format does not say when a request began: it has no %START_TIME%"
        );
        assert_eq!(
            refused("%START_TIME% %REQ(:PATH", &none),
            "\"%REQ(:PATH\" begins no command operator such as %START_TIME% or %REQ(:PATH)%; write %% for a %"
        );
        let fields = Fields {
            peer: Some("WHO".to_owned()),
            ..Fields::default()
        };
        assert_eq!(
            refused("%START_TIME% %REQ(:PATH)%", &fields),
            "--peer WHO: there is no field \"WHO\" in this format, write one of: START_TIME, REQ(:PATH)"
        );
    }

    #[test]
    fn the_common_log_formats_are_read_with_their_escapes() {
        let mut fields = Fields {
            claims: vec![(vec!["sub".to_owned()], "user".to_owned())],
            ..Fields::default()
        };
        fields.want(&serde_json::json!(["user-agent"]));
        let pattern = Pattern::common(true, &fields).unwrap();
        let (told, parts) = read(
            &pattern,
            r#"192.0.2.7 - alice [21/Nov/2026:09:00:05 +0100] "GET /a\"b HTTP/1.1" 200 12 "-" "a \"quoted\" \x41gent""#,
        )
        .unwrap();
        assert_eq!(
            told,
            Told {
                time: 1_795_248_005_000_000_000,
                duration: 0,
                status: 200
            }
        );
        assert_eq!(
            parts,
            pairs(&[
                ("claim 0", "alice"),
                (":method", "GET"),
                (":path", "/a\"b"),
                ("user-agent", "a \"quoted\" Agent")
            ])
        );
        let pattern = Pattern::common(false, &fields).unwrap();
        assert_eq!(
            read(
                &pattern,
                r#"192.0.2.7 - - [21/Nov/2026:09:00:05 +0100] "-" 408 -"#
            ),
            Err(Not::Request)
        );
        let (told, _) = read(
            &pattern,
            r#"192.0.2.7 - - [21/Nov/2026:09:00:05 +0100] "GET / HTTP/1.0" 200 5"#,
        )
        .unwrap();
        assert_eq!(told.status, 200);
    }
}
