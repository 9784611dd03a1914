//! Route templates: `/products/{id}` stands for every product's path, so that ids never become label values.
//!
//! A path is matched without its query and fragment, segment by segment, byte by byte: nothing is decoded and no `.` or `..` is
//! resolved (the proxy normalises paths before filters run). `{id}` stands for exactly one segment that is not empty. One slash
//! at the end is ignored: `/products/` is `/products`. The first template that matches wins, so one with a
//! plain segment comes before one with a parameter in its place; a template that can never win is an error.

/// How many segments a template may have.
pub const MAX_SEGMENTS: usize = 32;

/// A route template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Plain(Box<[u8]>),
    Parameter,
}

impl Template {
    /// Reads a template; the error says what is wrong and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("{text:?} is not a path, write \"/{text}\""));
        }
        if let Some(shorter) = text.strip_suffix('/')
            && !shorter.is_empty()
        {
            return Err(format!(
                "{text:?} ends with a slash, write {shorter:?}, which stands for both"
            ));
        }
        let segments = split(text.as_bytes())
            .map(|segment| Segment::parse(segment).ok_or_else(|| bad_segment(text, segment)))
            .collect::<Result<Vec<_>, _>>()?;
        if segments.len() > MAX_SEGMENTS {
            return Err(format!(
                "{text:?} has {} segments, write at most {MAX_SEGMENTS}",
                segments.len()
            ));
        }
        Ok(Self { segments })
    }

    /// Whether every path that `other` matches is matched by this one too.
    pub fn covers(&self, other: &Self) -> bool {
        self.segments.len() == other.segments.len()
            && self
                .segments
                .iter()
                .zip(&other.segments)
                .all(|(own, other)| *own == Segment::Parameter || own == other)
    }

    fn matches(&self, path: &[u8]) -> bool {
        self.segments
            .iter()
            .zip(split(path))
            .all(|(segment, given)| match segment {
                Segment::Plain(text) => **text == *given,
                Segment::Parameter => !given.is_empty(),
            })
    }
}

impl Segment {
    fn parse(text: &[u8]) -> Option<Self> {
        let in_braces = text
            .strip_prefix(b"{")
            .and_then(|rest| rest.strip_suffix(b"}"));
        match in_braces {
            Some(name) => {
                let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
                (!name.is_empty() && name.iter().all(of_name)).then_some(Self::Parameter)
            }
            // What RFC 3986 allows in a segment, without what many would take for a wildcard or a parameter: `*`, `:id`.
            None => {
                let of_path =
                    |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;=:@".contains(byte);
                (!text.is_empty() && !text.starts_with(b":") && text.iter().all(of_path))
                    .then(|| Self::Plain(text.into()))
            }
        }
    }
}

fn bad_segment(text: &str, segment: &[u8]) -> String {
    let segment = String::from_utf8_lossy(segment);
    format!(
        "{text:?} has the segment {segment:?}, write plain characters of a path or one parameter, for example \"{{id}}\""
    )
}

/// The segments of a path: none for `/`.
fn split(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    path.split(|byte| *byte == b'/')
        .take(if path.is_empty() { 0 } else { usize::MAX })
}

/// A path as it is matched: without query and fragment, and without one slash at its end.
pub fn trim(path: &[u8]) -> &[u8] {
    let path = without_query(path);
    match path.strip_suffix(b"/") {
        Some(shorter) if !shorter.is_empty() => shorter,
        _ => path,
    }
}

/// A path without query and fragment.
pub fn without_query(path: &[u8]) -> &[u8] {
    path.split(|byte| matches!(byte, b'?' | b'#'))
        .next()
        .unwrap_or_default()
}

/// Templates in order.
#[derive(Debug, Default)]
pub struct Routes {
    /// By number of segments: the templates of that many, in order, with their position among all.
    by_length: Vec<Vec<(usize, Template)>>,
}

impl Routes {
    /// Routes that are tried in this order.
    pub fn new(templates: Vec<Template>) -> Self {
        let mut by_length: Vec<Vec<(usize, Template)>> = Vec::new();
        for (position, template) in templates.into_iter().enumerate() {
            let length = template.segments.len();
            by_length.resize_with(by_length.len().max(length + 1), Vec::new);
            if let Some(same_length) = by_length.get_mut(length) {
                same_length.push((position, template));
            }
        }
        Self { by_length }
    }

    /// The position of the first template that matches a path (as the proxy has it, with its query).
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        let path = trim(path);
        if !path.starts_with(b"/") {
            return None;
        }
        let same_length = self.by_length.get(split(path).count())?;
        same_length
            .iter()
            .find(|(_, template)| template.matches(path))
            .map(|(position, _)| *position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn routes(templates: &[&str]) -> Routes {
        Routes::new(
            templates
                .iter()
                .map(|text| Template::parse(text).unwrap())
                .collect(),
        )
    }

    #[test]
    fn paths_match_segment_by_segment() {
        let all = [
            "/",
            "/products",
            "/products/sale",
            "/products/{id}",
            "/cart/{userId}/{itemId}",
            "/a%2Fb",
        ];
        let routes = routes(&all);
        for (path, expected) in [
            ("/", Some("/")),
            ("/?q=1", Some("/")),
            ("/products", Some("/products")),
            ("/products/", Some("/products")),
            ("/products?page=2", Some("/products")),
            ("/products/?page=/1/2", Some("/products")),
            ("/products#top", Some("/products")),
            ("/products/sale", Some("/products/sale")),
            ("/products/7", Some("/products/{id}")),
            ("/products/7/", Some("/products/{id}")),
            ("/products/%7Bid%7D", Some("/products/{id}")),
            ("/products//", None),
            ("/products//7", None),
            ("//products", None),
            ("/Products", None),
            ("/product%73", None),
            ("/products/7/reviews", None),
            ("/cart/alice", None),
            ("/cart/alice/7", Some("/cart/{userId}/{itemId}")),
            ("/a%2Fb", Some("/a%2Fb")),
            ("/a/b", None),
            ("/a%2fb", None),
            ("products", None),
            ("*", None),
            ("", None),
            ("//", Some("/")),
            ("?", None),
        ] {
            assert_eq!(
                routes.find(path.as_bytes()).map(|position| all[position]),
                expected,
                "{path}"
            );
        }
    }

    #[test]
    fn what_is_no_template_says_what_to_write() {
        let segment = |text: &str, segment: &str| {
            format!(
                "{text:?} has the segment {segment:?}, write plain characters of a path or one parameter, for example \"{{id}}\""
            )
        };
        for (text, expected) in [
            (
                "products",
                "\"products\" is not a path, write \"/products\"".to_owned(),
            ),
            ("", "\"\" is not a path, write \"/\"".to_owned()),
            (
                "/products/",
                "\"/products/\" ends with a slash, write \"/products\", which stands for both"
                    .to_owned(),
            ),
            ("/products//x", segment("/products//x", "")),
            ("/products/*", segment("/products/*", "*")),
            ("/products/{}", segment("/products/{}", "{}")),
            (
                "/products/{id}.json",
                segment("/products/{id}.json", "{id}.json"),
            ),
            ("/products/:id", segment("/products/:id", ":id")),
            ("/products?x", segment("/products?x", "products?x")),
            ("/żółć", segment("/żółć", "żółć")),
        ] {
            assert_eq!(Template::parse(text), Err(expected));
        }
        let long = "/a".repeat(33);
        assert_eq!(
            Template::parse(&long),
            Err(format!("{long:?} has 33 segments, write at most 32"))
        );
    }

    #[test]
    fn a_template_covers_those_it_takes_everything_from() {
        let covers = |a: &str, b: &str| {
            Template::parse(a)
                .unwrap()
                .covers(&Template::parse(b).unwrap())
        };
        assert!(covers("/products/{id}", "/products/sale"));
        assert!(covers("/products/{id}", "/products/{name}"));
        assert!(covers("/products", "/products"));
        assert!(!covers("/products/sale", "/products/{id}"));
        assert!(!covers("/{a}/b", "/a/{b}"));
        assert!(!covers("/", "/{a}"));
    }

    fn template() -> impl Strategy<Value = String> {
        vec(select(vec!["a", "b", "{x}"]), 0..4)
            .prop_map(|segments| format!("/{}", segments.join("/")))
    }

    proptest! {
        #[test]
        fn the_first_matching_template_wins(
            templates in vec(template(), 0..6),
            path in vec(select(vec!["a", "b", "c", ""]), 0..4),
            slash in any::<bool>(),
        ) {
            let path = format!("/{}{}", path.join("/"), if slash { "/" } else { "" });
            let trimmed = match path.strip_suffix('/') { Some("") | None => path.as_str(), Some(shorter) => shorter };
            let expected = templates.iter().position(|template| {
                let (mut wanted, mut given): (Vec<_>, Vec<_>) = (template.split('/').collect(), trimmed.split('/').collect());
                wanted.remove(0);
                given.remove(0);
                let none = |segments: &[&str]| segments == [""];
                if none(&wanted) || none(&given) {
                    return none(&wanted) && none(&given);
                }
                wanted.len() == given.len()
                    && wanted.iter().zip(&given).all(|(w, g)| if *w == "{x}" { !g.is_empty() } else { w == g })
            });
            let parsed: Vec<_> = templates.iter().map(|text| Template::parse(text).unwrap()).collect();
            let found = Routes::new(parsed.clone()).find(path.as_bytes());
            prop_assert_eq!(found, expected);
            // A template that an earlier one covers never wins.
            if let Some(found) = found {
                prop_assert!(!parsed[..found].iter().any(|earlier| earlier.covers(&parsed[found])));
            }
        }

        #[test]
        fn no_path_makes_it_panic(path in vec(any::<u8>(), 0..64)) {
            let _ = routes(&["/", "/a", "/{x}/b"]).find(&path);
        }
    }
}
