//! Cookies, as RFC 6265 has them.

use crate::given::Given;

/// The value of a cookie, in all `cookie` headers of a request, as it is written: not decoded, and a quoted one with its quotes. Its name is
/// compared without regard to case, because some services do so and would take the first of `t=1; T=2` as well as the last.
pub fn cookie<'a>(headers: impl Iterator<Item = &'a [u8]>, name: &str) -> Given<&'a [u8]> {
    let mut found = Given::Absent;
    for header in headers {
        for pair in header.split(|byte| *byte == b';') {
            let equals = pair.iter().position(|byte| *byte == b'=');
            let (written, value) = pair.split_at(equals.unwrap_or(pair.len()));
            if written.trim_ascii().eq_ignore_ascii_case(name.as_bytes()) {
                found = found.and(value.get(1..).unwrap_or_default().trim_ascii());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cookie_is_found_in_all_headers() {
        for (headers, expected) in [
            (&["t=acme"][..], Given::One(&b"acme"[..])),
            (&["a=1; t=acme; b=2"], Given::One(b"acme")),
            (&["a=1", "t=acme"], Given::One(b"acme")),
            (&["a=1;t = acme "], Given::One(b"acme")),
            (&["T=acme"], Given::One(b"acme")),
            (&["t=a=b"], Given::One(b"a=b")),
            (&["t=\"acme\""], Given::One(b"\"acme\"")),
            (&["t"], Given::One(b"")),
            (&["tt=acme; at=acme; =acme"], Given::Absent),
            (&[""], Given::Absent),
            (&[], Given::Absent),
            (&["t=acme; t=acme"], Given::Ambiguous),
            (&["t=acme", "T=globex"], Given::Ambiguous),
        ] {
            let found = cookie(headers.iter().map(|header| header.as_bytes()), "t");
            assert_eq!(found, expected, "{headers:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(headers in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..4)) {
            let _ = cookie(headers.iter().map(Vec::as_slice), "t");
        }
    }
}
