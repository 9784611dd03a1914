//! The formats of access logs, and which one a log is in.

use std::fmt;

use super::fields::Fields;
use super::har;
use super::object::Object;
use super::pattern::Pattern;
use super::{Not, Told};

/// Envoy's own default.
const ENVOY: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \
    %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
    \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"";

/// Istio's default.
const ISTIO: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \
    %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% \
    %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
    \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% \
    %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%";

/// How a log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// Envoy's default.
    Envoy,
    /// Istio's default.
    Istio,
    /// A JSON object a line.
    Json,
    /// The Common Log Format.
    Common,
    /// The Combined Log Format.
    Combined,
    /// One HAR document.
    Har,
    /// A format string of Envoy.
    Own(String),
}

impl Format {
    /// Reads what `--log-format` says.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "envoy" => Self::Envoy,
            "istio" => Self::Istio,
            "json" => Self::Json,
            "common" => Self::Common,
            "combined" => Self::Combined,
            "har" => Self::Har,
            format if format.contains('%') => {
                // What is wrong with it by itself.
                Pattern::envoy(format, &Fields::default())?;
                Self::Own(format.to_owned())
            }
            _ => {
                return Err(
                    "write envoy, istio, json, common, combined, har, or a format string of Envoy such as \
                     '[%START_TIME%] %REQ(:METHOD)% %REQ(:PATH)%'"
                        .to_owned(),
                );
            }
        })
    }

    /// Whether it is one document, whose entries are no lines.
    pub(crate) fn is_document(&self) -> bool {
        *self == Self::Har
    }

    /// The word for it, as on the command line.
    pub(crate) fn word(&self) -> &str {
        match self {
            Self::Envoy => "envoy",
            Self::Istio => "istio",
            Self::Json => "json",
            Self::Common => "common",
            Self::Combined => "combined",
            Self::Har => "har",
            Self::Own(_) => "own",
        }
    }

    /// The format in which most of these lines are; of several the first of the ones above. `None` if none of them fits any.
    pub(crate) fn of(text: &[u8], fields: &Fields) -> Option<Self> {
        if har::is_har(text) {
            return Some(Self::Har);
        }
        // A field that the command line names need not be there in each of them.
        let lines = || text.split(|byte| *byte == b'\n').take(100);
        let bare = Fields::default();
        let fits = |format: &Self| {
            let Ok(reader) = Reader::new(format, fields).or_else(|_| Reader::new(format, &bare))
            else {
                return 0;
            };
            let mut arena = Vec::new();
            let read = |line: &&[u8]| {
                arena.clear();
                !matches!(
                    reader.read(trimmed(line), &mut arena),
                    Err(Not::Readable(_))
                )
            };
            lines()
                .filter(|line| !trimmed(line).is_empty())
                .filter(read)
                .count()
        };
        let formats = [
            Self::Json,
            Self::Istio,
            Self::Envoy,
            Self::Combined,
            Self::Common,
        ];
        let best = formats
            .into_iter()
            .rev()
            .max_by_key(|format| fits(format))?;
        (fits(&best) > 0).then_some(best)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Envoy => "Envoy's default format",
            Self::Istio => "Istio's default format",
            Self::Json => "JSON",
            Self::Common => "the Common Log Format",
            Self::Combined => "the Combined Log Format",
            Self::Har => "HAR",
            Self::Own(_) => "the given format",
        })
    }
}

/// A line without its end.
pub(crate) fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Reads the lines of a format.
#[derive(Debug)]
pub(crate) enum Reader {
    Text(Pattern),
    Object(Box<Object>),
}

impl Reader {
    /// For a format that has lines.
    pub(crate) fn new(format: &Format, fields: &Fields) -> Result<Self, String> {
        Ok(match format {
            Format::Envoy => Self::Text(Pattern::envoy(ENVOY, fields)?),
            Format::Istio => Self::Text(Pattern::envoy(ISTIO, fields)?),
            Format::Own(format) => Self::Text(Pattern::envoy(format, fields)?),
            Format::Common => Self::Text(Pattern::common(false, fields)?),
            Format::Combined => Self::Text(Pattern::common(true, fields)?),
            Format::Json | Format::Har => Self::Object(Box::new(Object::new(fields))),
        })
    }

    /// What a line says.
    pub(crate) fn read(&self, line: &[u8], arena: &mut Vec<u8>) -> Result<Told, Not> {
        match self {
            Self::Text(pattern) => pattern.read(line, arena),
            Self::Object(object) => object.read(line, arena),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) const LINES: [(Format, &str); 5] = [
        (
            Format::Envoy,
            r#"[2026-11-21T08:00:05.250Z] "GET /a HTTP/1.1" 200 - 0 60 6 5 "-" "curl/8" "0b1e" "shop" "10.0.0.1:80""#,
        ),
        (
            Format::Istio,
            r#"[2026-11-21T08:00:05.250Z] "GET /a HTTP/1.1" 200 - via_upstream - "-" 0 60 6 5 "10.0.0.9" "curl/8" "0b1e" "shop" "10.0.0.1:80" outbound|80||a 10.0.0.2:1 10.0.0.2:8080 10.0.0.9:5 - -"#,
        ),
        (
            Format::Json,
            r#"{"start_time":"2026-11-21T08:00:05.250Z","method":"GET","path":"/a","authority":"shop"}"#,
        ),
        (
            Format::Common,
            r#"192.0.2.7 - alice [21/Nov/2026:08:00:05 +0000] "GET /a HTTP/1.1" 200 60"#,
        ),
        (
            Format::Combined,
            r#"192.0.2.7 - alice [21/Nov/2026:08:00:05 +0000] "GET /a HTTP/1.1" 200 60 "-" "curl/8""#,
        ),
    ];

    #[test]
    fn the_format_of_a_log_is_told_by_its_lines() {
        for (format, line) in LINES {
            let text = format!("2026-11-21T08:00:00.1Z\tinfo\tenvoy starts\n{line}\r\n\n{line}\n");
            assert_eq!(
                Format::of(text.as_bytes(), &Fields::default()),
                Some(format),
                "{line}"
            );
        }
        let har = b" {\n \"log\" : {\"version\": \"1.2\"";
        assert_eq!(Format::of(har, &Fields::default()), Some(Format::Har));
        for other in [
            &b""[..],
            b"\n\n",
            b"hello\nworld",
            b"\xff\x00",
            b"{\"logs\": {",
        ] {
            assert_eq!(Format::of(other, &Fields::default()), None);
        }
    }

    proptest! {
        #[test]
        fn no_line_is_too_much(line in proptest::collection::vec(any::<u8>(), 0..80), at in 0_usize..200, which in 0_usize..5) {
            // Any bytes, and a right line with these bytes in the middle.
            let (format, right) = &LINES[which];
            let reader = Reader::new(format, &Fields::default()).unwrap();
            let (before, behind) = right.as_bytes().split_at(at.min(right.len()));
            for line in [line.clone(), [before, &line, behind].concat()] {
                let _ = reader.read(&line, &mut Vec::new());
                let _ = Format::of(&line, &Fields::default());
            }
            let _ = Format::parse(&String::from_utf8_lossy(&line));
        }
    }
}
