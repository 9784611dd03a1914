//! Matching strings as Istio's VirtualService does.

use regex_lite::Regex;
use serde::Deserialize;
use tollgate_host::same_bytes;

/// A condition on a string, with the keys of Istio's `StringMatch`: exactly one of `exact`, `prefix`, `suffix`, `regex`.
/// A regular expression must match the whole string, as in Istio, and never matches bytes that are not UTF-8, or more than 1,024 of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Keys")]
pub enum StringMatch {
    /// Equal to.
    Exact(String),
    /// Starts with.
    Prefix(String),
    /// Ends with.
    Suffix(String),
    /// Matches as a whole.
    Regex(Regex),
}

/// A condition on a string: exactly one of these.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "StringMatch", transform = crate::schema::string_match)
)]
#[serde(remote = "Self", deny_unknown_fields)]
struct Keys {
    /// The whole string.
    exact: Option<String>,
    /// What it begins with.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    prefix: Option<String>,
    /// What it ends with.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    suffix: Option<String>,
    /// A regular expression (of the Rust crate `regex-lite`) for the whole string, which matches nothing of more than 1,024 bytes.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    regex: Option<String>,
}

crate::mapping!(Keys);

#[cfg(feature = "schema")]
impl schemars::JsonSchema for StringMatch {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Keys::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Keys::json_schema(generator)
    }
}

/// How long a value may be for a regular expression to be tried on it. The time that takes grows with both, and clients write the values: a header
/// of 60 KB against `(.*a){20}` would keep a worker busy for a tenth of a second.
const LONGEST_FOR_REGEX: usize = 1_024;

impl TryFrom<Keys> for StringMatch {
    type Error = String;

    fn try_from(keys: Keys) -> Result<Self, String> {
        match (keys.exact, keys.prefix, keys.suffix, keys.regex) {
            (Some(text), None, None, None) => Ok(Self::Exact(text)),
            (None, Some(text), None, None) if !text.is_empty() => Ok(Self::Prefix(text)),
            (None, None, Some(text), None) if !text.is_empty() => Ok(Self::Suffix(text)),
            (None, None, None, Some(text)) if !text.is_empty() => Self::regex(&text),
            (None, Some(_), None, None)
            | (None, None, Some(_), None)
            | (None, None, None, Some(_)) => Err(
                "an empty prefix, suffix or regex says nothing, write what the string must have"
                    .to_owned(),
            ),
            _ => Err("write exactly one of exact, prefix, suffix, regex".to_owned()),
        }
    }
}

fn whole(pattern: &str) -> Result<Regex, String> {
    let wrong =
        |error: regex_lite::Error| format!("\"{pattern}\" is not a regular expression: {error}");
    // By itself first: `a)|(b` would become valid inside the group that anchors it.
    Regex::new(pattern).map_err(wrong)?;
    Regex::new(&format!(r"\A(?:{pattern})\z")).map_err(wrong)
}

impl StringMatch {
    /// A regular expression for the whole string; the error says what is wrong with it.
    pub fn regex(pattern: &str) -> Result<Self, String> {
        whole(pattern).map(Self::Regex)
    }

    /// The text as it was written, of a regular expression without what anchors it.
    pub fn written(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) | Self::Suffix(text) => text,
            Self::Regex(regex) => {
                let text = regex.as_str();
                let text = text.strip_prefix(r"\A(?:").unwrap_or(text);
                text.strip_suffix(r")\z").unwrap_or(text)
            }
        }
    }

    /// What it looks for as it is, and the key that it is written with; of a regular expression nothing.
    pub fn literal(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Exact(text) => Some(("exact", text)),
            Self::Prefix(text) => Some(("prefix", text)),
            Self::Suffix(text) => Some(("suffix", text)),
            Self::Regex(_) => None,
        }
    }

    /// Whether these bytes match.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let is = |part: Option<&[u8]>, text: &str| {
            part.is_some_and(|part| same_bytes(part, text.as_bytes()))
        };
        match self {
            Self::Exact(text) => same_bytes(bytes, text.as_bytes()),
            Self::Prefix(text) => is(bytes.get(..text.len()), text),
            Self::Suffix(text) => {
                let start = bytes.len().checked_sub(text.len());
                is(start.and_then(|start| bytes.get(start..)), text)
            }
            Self::Regex(_) => self.judge(bytes).unwrap_or(false),
        }
    }

    /// Whether these bytes match; `None` for those that a regular expression is not tried on, where `not` must not take silence for a no.
    pub fn judge(&self, bytes: &[u8]) -> Option<bool> {
        let Self::Regex(regex) = self else {
            return Some(self.matches(bytes));
        };
        if bytes.len() > LONGEST_FOR_REGEX {
            return None;
        }
        std::str::from_utf8(bytes)
            .ok()
            .map(|text| regex.is_match(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<StringMatch, String> {
        crate::parse(json.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn each_key_matches_as_in_istio() {
        for (json, matching, other) in [
            (r#"{"exact": "a"}"#, "a", "aa"),
            (r#"{"exact": ""}"#, "", "a"),
            (r#"{"prefix": "/api"}"#, "/api/x", "/ap"),
            (r#"{"suffix": ".png"}"#, "a.png", "a.pn"),
            (r#"{"regex": "a|ab"}"#, "ab", "abc"),
            (r#"{"regex": "v[0-9]+"}"#, "v12", "xv12"),
        ] {
            let condition = read(json).unwrap();
            assert!(condition.matches(matching.as_bytes()), "{json} {matching}");
            assert!(!condition.matches(other.as_bytes()), "{json} {other}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_match_as_bytes_and_never_a_regex() {
        assert!(read(r#"{"prefix": "a"}"#).unwrap().matches(b"a\xff"));
        assert!(!read(r#"{"regex": "(?s).*"}"#).unwrap().matches(b"a\xff"));
    }

    #[test]
    fn a_value_too_long_to_be_tried_matches_no_regex() {
        let long = "a".repeat(LONGEST_FOR_REGEX);
        let regex = read(r#"{"regex": "a+"}"#).unwrap();
        assert!(regex.matches(long.as_bytes()));
        assert!(!regex.matches(format!("{long}a").as_bytes()));
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (json, expected) in [
            (r#"{}"#, "write exactly one of exact, prefix, suffix, regex"),
            (
                r#"{"exact": "a", "prefix": "a"}"#,
                "write exactly one of exact, prefix, suffix, regex",
            ),
            (
                r#"{"prefix": ""}"#,
                "an empty prefix, suffix or regex says nothing, write what the string must have",
            ),
            (
                r#"{"equals": "a"}"#,
                r#"equals: unknown field "equals", expected one of "exact", "prefix", "suffix", "regex""#,
            ),
            (r#""a""#, r#""a" is given, expected a mapping"#),
            (
                r#"{"regex": "a)|(b"}"#,
                r#""a)|(b" is not a regular expression: found closing ')' without matching '('"#,
            ),
        ] {
            assert_eq!(read(json).unwrap_err(), expected, "{json}");
        }
        assert!(read(r#"{"regex": "(?x) a # comment"}"#).is_err());
    }
}
