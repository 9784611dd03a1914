//! What the fields of a log are to a request.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::Value;
use tollgate_common::header;
use tollgate_host::same_name;

use super::record::{self, Part};
use super::{Not, Told};
use crate::simulate::{
    self,
    time::{self, Form},
};

/// What the command line says of fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    /// Headers, by name in lower case, with the field that has each.
    pub headers: Vec<(String, String)>,
    /// Claims: the names of the objects around each and its own, and the field.
    pub claims: Vec<(Vec<String>, String)>,
    /// The field with the SPIFFE id of the peer.
    pub peer: Option<String>,
    /// The field with the moment at which a request began.
    pub time: Option<String>,
    /// The names of headers that the limiter may ask for; see [`Fields::wants`].
    pub(crate) wanted: BTreeSet<Vec<u8>>,
}

/// What a field is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// When the request began.
    Time(Form),
    /// How long it took, in milliseconds.
    Duration,
    /// What was answered.
    Status,
    /// Why: `%RESPONSE_CODE_DETAILS%`.
    Details,
    /// A header.
    Header(String),
    /// `GET /path HTTP/1.1`.
    RequestLine,
    /// A claim, by its number.
    Claim(usize),
    /// The identity of the peer.
    Peer,
}

/// An option of the command line that names a field, as it is written there, and the field.
pub(crate) type Asked = (String, String);

impl Fields {
    /// Keeps, of all headers, those that are named in these configurations, wherever in them: what a configuration does not name, its filter does not
    /// look at.
    pub(crate) fn want(&mut self, configuration: &Value) {
        match configuration {
            Value::String(text) => {
                self.wanted.insert(folded(text.as_bytes()));
            }
            Value::Array(elements) => elements.iter().for_each(|element| self.want(element)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    // This source does not name the header that it reads.
                    if name == "passedOn" {
                        self.wanted.insert(folded(header::TENANT_ID.as_bytes()));
                    }
                    self.wanted.insert(folded(name.as_bytes()));
                    self.want(value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Whether the limiter may look at a header.
    pub(crate) fn wants(&self, name: &[u8]) -> bool {
        name.starts_with(b":")
            || matches!(name, b"cookie" | b"content-type")
            || self.wanted.contains(&folded(name))
    }

    /// The headers that the limiter may look at and that begin with `x-`.
    pub(crate) fn named(&self) -> impl Iterator<Item = String> {
        let wanted = self.wanted.iter().filter(|name| name.starts_with(b"x-"));
        wanted.map(|name| String::from_utf8_lossy(name).into_owned())
    }

    /// What a field is by the command line, of which one may be several things.
    pub(crate) fn asked(&self) -> Vec<(Asked, Target)> {
        let headers = self.headers.iter().map(|(name, field)| {
            let option = format!("--header {name}={field}");
            ((option, field.clone()), Target::Header(name.clone()))
        });
        let claims = self
            .claims
            .iter()
            .enumerate()
            .map(|(number, (path, field))| {
                let option = format!("--claim {}={field}", simulate::claim_name(path));
                ((option, field.clone()), Target::Claim(number))
            });
        let peer = self
            .peer
            .iter()
            .map(|field| ((format!("--peer {field}"), field.clone()), Target::Peer));
        let time = self.time.iter().map(|field| {
            (
                (format!("--time {field}"), field.clone()),
                Target::Time(Form::Rfc3339),
            )
        });
        headers.chain(claims).chain(peer).chain(time).collect()
    }

    /// Whether what a format itself says of its fields is overruled by the command line.
    pub(crate) fn overrules(&self, target: &Target) -> bool {
        match target {
            Target::Header(name) => self.headers.iter().any(|(other, _)| other == name),
            Target::Peer => self.peer.is_some(),
            Target::Time(_) => self.time.is_some(),
            _ => false,
        }
    }
}

/// In the one spelling of all those that are the same header to some server.
fn folded(name: &[u8]) -> Vec<u8> {
    let fold = |byte: &u8| match same_name(&[*byte], b"-") {
        true => b'-',
        false => byte.to_ascii_lowercase(),
    };
    name.iter().map(fold).collect()
}

/// Of a request that could be anywhere in the order.
pub(super) const NOT_TIMED: Not =
    Not::Readable(Cow::Borrowed("does not say when the request began"));

/// A line as it is read, until it is known whether it is a request.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    time: Option<u64>,
    told: Told,
    has_method: bool,
    has_path: bool,
    passed: bool,
}

impl Draft {
    /// Takes the value of a field, whose part of the request goes into the arena. What is not there says nothing.
    pub(crate) fn take(
        &mut self,
        target: &Target,
        value: &[u8],
        arena: &mut Vec<u8>,
    ) -> Result<(), Not> {
        if matches!(value, b"" | b"-") {
            return Ok(());
        }
        match target {
            Target::Time(form) => {
                let moment = form.read(value).or_else(|| time::of_number(value));
                let moment = moment.ok_or_else(|| wrong(value, "is no moment"))?;
                self.time = Some(moment);
            }
            Target::Duration => self.told.duration = milliseconds(value),
            Target::Status => {
                let status = time::number(value).and_then(|status| status.try_into().ok());
                self.told.status = status.ok_or_else(|| wrong(value, "is no status"))?;
            }
            // Envoy's JWT filter stands before the limiter. What it refuses is charged to nobody.
            Target::Details => self.passed |= value.starts_with(b"jwt_authn_access_denied"),
            Target::Header(name) => self.header(name.as_bytes(), value, arena),
            Target::RequestLine => {
                let mut words = value.split(|byte| *byte == b' ');
                let (method, path) = (words.next().unwrap_or_default(), words.next());
                let path = path.ok_or_else(|| wrong(value, "is no request"))?;
                self.header(b":method", method, arena);
                self.header(b":path", path, arena);
            }
            Target::Claim(number) => record::push(arena, Part::Claim(*number, value)),
            Target::Peer => record::push(arena, Part::Peer(value)),
        }
        Ok(())
    }

    /// Takes a header.
    pub(crate) fn header(&mut self, name: &[u8], value: &[u8], arena: &mut Vec<u8>) {
        match name {
            b":method" => self.has_method = true,
            b":path" => {
                self.has_path = true;
                if let Some((authority, path)) = of_url(value) {
                    record::push(arena, Part::Header(b":authority", authority));
                    record::push(arena, Part::Header(name, path));
                    return;
                }
            }
            _ => {}
        }
        record::push(arena, Part::Header(name, value));
    }

    /// What the line says, once all fields are taken.
    pub(crate) fn finish(self) -> Result<Told, Not> {
        match (self.time, self.has_method || self.has_path) {
            (Some(_), false) => Err(Not::Request),
            (Some(_), true) if self.passed => Err(Not::Passed),
            (Some(time), true) => Ok(Told { time, ..self.told }),
            (None, _) => Err(NOT_TIMED),
        }
    }
}

/// The host and the path of a URL, for logs that have the whole of it.
pub(crate) fn of_url(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = value
        .strip_prefix(b"http://")
        .or_else(|| value.strip_prefix(b"https://"))?;
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    let (authority, path) = rest.split_at(end.unwrap_or(rest.len()));
    let path = path.split(|byte| *byte == b'#').next().unwrap_or_default();
    Some((authority, if path.is_empty() { b"/" } else { path }))
}

/// A length of time in whole milliseconds, as far as it is one.
fn milliseconds(value: &[u8]) -> u32 {
    let text = std::str::from_utf8(value).unwrap_or_default();
    // Saturates, and is 0 for what is no number.
    text.parse::<f64>().map_or(0, |number| number as u32)
}

/// What is wrong with a value, which may be of any length.
pub(crate) fn wrong(value: &[u8], why: &str) -> Not {
    const SHOWN: usize = 60;
    let text = String::from_utf8_lossy(&value[..value.len().min(SHOWN)]);
    let more = if value.len() > SHOWN { "…" } else { "" };
    Not::Readable(format!("{text:?}{more} {why}").into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn headers_that_a_configuration_names_are_kept_in_every_spelling() {
        let mut fields = Fields::default();
        fields.want(&json!({"tenant": {"from": [{"header": "X-Tenant-Id"}]}, "routes": [{"match": {"headers": {"x-plan": {"exact": "a"}}}}]}));
        for (name, wanted) in [
            (":path", true),
            ("cookie", true),
            ("x-tenant-id", true),
            ("x_tenant_id", true),
            ("x-plan", true),
            ("user-agent", false),
        ] {
            assert_eq!(fields.wants(name.as_bytes()), wanted, "{name}");
        }
    }

    #[test]
    fn a_url_has_a_host_and_a_path() {
        for (url, expected) in [
            ("http://shop/a?b#c", Some(("shop", "/a?b"))),
            ("https://shop:8443", Some(("shop:8443", "/"))),
            ("/a", None),
            ("ftp://shop/a", None),
        ] {
            let expected =
                expected.map(|(host, path): (&str, &str)| (host.as_bytes(), path.as_bytes()));
            assert_eq!(of_url(url.as_bytes()), expected, "{url}");
        }
    }
}
