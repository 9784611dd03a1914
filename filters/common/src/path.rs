//! Paths, as the proxy routes by them and as others may read them, and templates for them.
//!
//! The proxy normalises a path before filters see it: it resolves `.` and `..`, turns `\` into `/` and decodes what need not be encoded. How
//! much of that is a setting of the mesh, and it leaves alone what services differ in: `//`, encoded slashes, parameters after `;`. So a
//! path may have two readings. Whoever decides anything by a path looks at both, and believes it only where they agree, or decides by the stricter one.

use std::borrow::Cow;

use crate::given::Given;
use crate::percent;

/// A request's `:path` in two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Up to the query.
    pub path: &'a [u8],
    /// What is between `?` and the fragment.
    pub query: &'a [u8],
}

impl<'a> Target<'a> {
    /// Takes a `:path` apart. A request without one (`CONNECT`) has an empty path.
    pub fn of(path: &'a [u8]) -> Self {
        let end = path.iter().position(|byte| *byte == b'#');
        let path = path.get(..end.unwrap_or(path.len())).unwrap_or_default();
        match path.iter().position(|byte| *byte == b'?') {
            Some(at) => Self {
                path: path.get(..at).unwrap_or_default(),
                query: path.get(at + 1..).unwrap_or_default(),
            },
            None => Self { path, query: b"" },
        }
    }
}

/// A path in both readings.
#[derive(Clone, Debug)]
pub struct Path<'a> {
    plain: &'a [u8],
    loose: Cow<'a, [u8]>,
}

impl<'a> Path<'a> {
    /// Both readings of a path without its query.
    pub fn of(plain: &'a [u8]) -> Self {
        Self {
            plain,
            loose: loose(plain),
        }
    }

    /// Byte by byte, as the proxy routes by it.
    pub fn plain(&self) -> &[u8] {
        self.plain
    }

    /// As the most lenient of services might read it, if that is another path: decoded once, `\` for `/`, without empty segments,
    /// parameters (`;…`), `.` and `..`.
    pub fn loose(&self) -> Option<&[u8]> {
        (self.plain != &*self.loose).then_some(&*self.loose)
    }
}

fn loose(path: &[u8]) -> Cow<'_, [u8]> {
    let odd = |pair: &[u8]| matches!(pair, [b'/', b'/' | b'.']);
    let special = |byte: &u8| matches!(byte, b'%' | b'\\' | b';');
    if !path.iter().any(special) && !path.windows(2).any(odd) {
        return Cow::Borrowed(path);
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut in_parameter = false;
    for byte in percent::decode(path) {
        let byte = match byte {
            percent::Byte::Plain(b';') => {
                in_parameter = true;
                continue;
            }
            percent::Byte::Plain(byte) | percent::Byte::Decoded(byte) => byte,
        };
        let byte = if byte == b'\\' { b'/' } else { byte };
        in_parameter &= byte != b'/';
        if !in_parameter {
            decoded.push(byte);
        }
    }
    let mut resolved: Vec<u8> = Vec::with_capacity(decoded.len());
    let mut segments = decoded.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            b".." => {
                resolved.truncate(resolved.iter().rposition(|byte| *byte == b'/').unwrap_or(0))
            }
            b"" | b"." => {}
            segment => {
                resolved.push(b'/');
                resolved.extend_from_slice(segment);
                continue;
            }
        }
        // What ends in nothing or a dot names a folder.
        if segments.peek().is_none() {
            resolved.push(b'/');
        }
    }
    Cow::Owned(resolved)
}

/// How many segments a template may have.
const MAX_SEGMENTS: usize = 32;

/// A path with `{tenant}` in the place of one segment: `/t/{tenant}/**`. `*` is any one segment, `**` at the end any number of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    segments: Vec<Segment>,
    /// Whether more segments may follow.
    open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<[u8]>),
    Any,
    Tenant,
}

/// The parameter of all templates.
const TENANT: &str = "{tenant}";

impl PathTemplate {
    /// Reads a template; the error says what is wrong and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(inner) = text.strip_prefix('/') else {
            return Err(format!("\"{text}\" is not a path, write \"/{text}\""));
        };
        let (inner, open) = match inner.strip_suffix("**") {
            Some(rest) if rest.ends_with('/') => (rest.trim_end_matches('/'), true),
            _ => (inner, false),
        };
        let segments = inner.split('/').map(|segment| match segment {
            TENANT => Some(Segment::Tenant),
            "*" => Some(Segment::Any),
            // Others would read these in more than one way.
            "" | "." | ".." => None,
            literal => {
                let of_path =
                    |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()+,=:@".contains(&byte);
                literal
                    .bytes()
                    .all(of_path)
                    .then(|| Segment::Literal(literal.as_bytes().into()))
            }
        });
        let wrong = || {
            format!("\"{text}\" is not a template of paths, write for example \"/t/{TENANT}/**\"")
        };
        let segments: Vec<Segment> = segments.collect::<Option<_>>().ok_or_else(wrong)?;
        let tenants = segments
            .iter()
            .filter(|segment| **segment == Segment::Tenant);
        if tenants.count() != 1 || segments.len() > MAX_SEGMENTS {
            return Err(format!(
                "\"{text}\" has not one segment {TENANT} among at most {MAX_SEGMENTS}, write for example \"/t/{TENANT}/**\""
            ));
        }
        Ok(Self { segments, open })
    }

    /// What stands in the place of `{tenant}` in a path. Ambiguous where the two readings do not agree: `/%74/acme`, `//t/acme` and
    /// `/T/acme` are nobody's, though a service may take each of them for `/t/acme`.
    pub fn read<'a>(&self, path: &'a Path<'_>) -> Given<&'a [u8]> {
        let plain = self.find(path.plain(), false);
        let loose = self.find(&path.loose, true);
        match (plain, loose) {
            (None, None) => Given::Absent,
            (Some(plain), Some(loose)) if plain == loose => Given::One(plain),
            _ => Given::Ambiguous,
        }
    }

    fn find<'a>(&self, path: &'a [u8], any_case: bool) -> Option<&'a [u8]> {
        let path = path.strip_prefix(b"/")?;
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let mut given = path.split(|byte| *byte == b'/');
        let mut tenant = None;
        for segment in &self.segments {
            let given = given.next()?;
            match segment {
                Segment::Literal(literal) => {
                    let equal = if any_case {
                        literal.eq_ignore_ascii_case(given)
                    } else {
                        **literal == *given
                    };
                    if !equal {
                        return None;
                    }
                }
                Segment::Any => {}
                Segment::Tenant => tenant = Some(given),
            }
        }
        if self.open || given.next().is_none() {
            tenant
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn loosely(path: &str) -> String {
        String::from_utf8(loose(path.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn a_target_is_taken_apart() {
        for (path, expected) in [
            ("/a?b=1#c", ("/a", "b=1")),
            ("/a#b?c", ("/a", "")),
            ("/a?b?c", ("/a", "b?c")),
            ("", ("", "")),
            ("*", ("*", "")),
        ] {
            let target = Target::of(path.as_bytes());
            assert_eq!(
                (target.path, target.query),
                (expected.0.as_bytes(), expected.1.as_bytes())
            );
        }
    }

    #[test]
    fn the_loose_reading_is_the_most_lenient_one() {
        for (path, expected) in [
            ("/t/acme", "/t/acme"),
            ("/t/acme/", "/t/acme/"),
            ("//t///acme//", "/t/acme/"),
            ("/%74/%61cme", "/t/acme"),
            ("/t%2Facme", "/t/acme"),
            ("/t%5cacme", "/t/acme"),
            ("\\t\\acme", "/t/acme"),
            ("/t/./acme/x/..", "/t/acme/"),
            ("/t/%2e%2e/acme", "/acme"),
            ("/../../a", "/a"),
            ("/t;v=1/acme;x=%2f/b", "/t/acme/b"),
            ("/100%/a%zz", "/100%/a%zz"),
            ("", ""),
            ("*", "*"),
        ] {
            assert_eq!(loosely(path), expected, "{path}");
        }
    }

    #[test]
    fn templates_name_a_tenant() {
        let template = PathTemplate::parse("/t/{tenant}/**").unwrap();
        let closed = PathTemplate::parse("/*/{tenant}").unwrap();
        for (path, open, exact) in [
            ("/t/acme", Given::One("acme"), Given::One("acme")),
            ("/t/acme/", Given::One("acme"), Given::One("acme")),
            ("/t/acme/orders/7", Given::One("acme"), Given::Absent),
            ("/x/acme", Given::Absent, Given::One("acme")),
            ("/t", Given::Absent, Given::Absent),
            ("/", Given::Absent, Given::Absent),
            ("", Given::Absent, Given::Absent),
            ("*", Given::Absent, Given::Absent),
            ("/t/", Given::Absent, Given::Absent),
            // There, and nobody.
            ("/t//orders", Given::Ambiguous, Given::Ambiguous),
            // Only some would understand these.
            ("/%74/acme", Given::Ambiguous, Given::One("acme")),
            ("/t/%61cme", Given::Ambiguous, Given::Ambiguous),
            ("/t%2facme", Given::Ambiguous, Given::Ambiguous),
            ("//t/acme", Given::Ambiguous, Given::Ambiguous),
            ("/T/acme", Given::Ambiguous, Given::One("acme")),
            ("/t/acme;x=1", Given::Ambiguous, Given::Ambiguous),
            ("/t/acme/..%2f..%2fglobex", Given::Ambiguous, Given::Absent),
            ("/t/acme/%2e%2e/globex", Given::Ambiguous, Given::Ambiguous),
        ] {
            let path = Path::of(path.as_bytes());
            let text = |given| match given {
                Given::One(bytes) => Given::One(std::str::from_utf8(bytes).unwrap()),
                Given::Absent => Given::Absent,
                Given::Ambiguous => Given::Ambiguous,
            };
            assert_eq!(text(template.read(&path)), open, "{path:?}");
            assert_eq!(text(closed.read(&path)), exact, "{path:?}");
        }
    }

    #[test]
    fn what_is_no_template_says_what_to_write() {
        let example = "is not a template of paths, write for example \"/t/{tenant}/**\"";
        let one =
            "has not one segment {tenant} among at most 32, write for example \"/t/{tenant}/**\"";
        for (text, expected) in [
            (
                "t/{tenant}",
                "\"t/{tenant}\" is not a path, write \"/t/{tenant}\"".to_owned(),
            ),
            ("/t", format!("\"/t\" {one}")),
            (
                "/{tenant}/{tenant}",
                format!("\"/{{tenant}}/{{tenant}}\" {one}"),
            ),
            ("/t/x{tenant}", format!("\"/t/x{{tenant}}\" {example}")),
            ("/%74/{tenant}", format!("\"/%74/{{tenant}}\" {example}")),
            ("/t//{tenant}", format!("\"/t//{{tenant}}\" {example}")),
            ("/t/../{tenant}", format!("\"/t/../{{tenant}}\" {example}")),
            ("/**/{tenant}", format!("\"/**/{{tenant}}\" {example}")),
            ("/{user}", format!("\"/{{user}}\" {example}")),
        ] {
            assert_eq!(PathTemplate::parse(text), Err(expected));
        }
    }

    /// A path that is made of what matters here.
    fn path() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("/"),
            Just("t"),
            Just("zeta"),
            Just("%2f"),
            Just("%74"),
            Just("."),
            Just(".."),
            Just(";"),
            Just("\\"),
            Just("%"),
            Just("T"),
            Just("globex"),
        ];
        proptest::collection::vec(part, 0..10).prop_map(|parts| format!("/{}", parts.concat()))
    }

    proptest! {
        /// No reading of a path leads to another tenant than the one that is found.
        #[test]
        fn no_reading_names_another(path in path()) {
            let template = PathTemplate::parse("/t/{tenant}/**").unwrap();
            let readings = Path::of(path.as_bytes());
            if let Given::One(found) = template.read(&readings) {
                let plain = path.strip_prefix("/t/").map(|rest| rest.split('/').next().unwrap());
                prop_assert_eq!(plain.map(str::as_bytes), Some(found));
                let loose = loosely(&path).to_lowercase();
                let loose = loose.strip_prefix("/t/").map(|rest| rest.split('/').next().unwrap());
                prop_assert_eq!(loose.map(str::as_bytes), Some(&*found.to_ascii_lowercase()));
            }
        }

        #[test]
        fn reading_loosely_twice_changes_only_what_was_encoded_twice(path in path()) {
            let once = loosely(&path);
            if !once.contains(['%', ';']) {
                prop_assert_eq!(loosely(&once), once);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), text in any::<String>()) {
            let path = Path::of(&bytes);
            let _ = PathTemplate::parse("/t/{tenant}/**").unwrap().read(&path);
            let _ = PathTemplate::parse(&text);
            let _ = Target::of(&bytes);
        }
    }
}
