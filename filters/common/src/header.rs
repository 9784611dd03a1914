//! Names of request headers: those that filters own, and those that configurations name.

use crate::config::{ConfigError, refuse};

// One filter owns each of these headers and everything behind it may believe them: whoever owns a header strips the
// client's copies of it first.

/// The tenant's normalised id. Written by tenant-rate-limit.
pub const TENANT_ID: &str = "x-tenant-id";
/// The name of the tenant's tier. Written by tenant-rate-limit.
pub const TENANT_TIER: &str = "x-tenant-tier";
/// The user's type. Written by user-classifier, unless its configuration names another header.
pub const USER_TYPE: &str = "user-type";

/// How many bytes a header's name may have.
pub const LONGEST_NAME: usize = 256;

/// A header's name as a configuration has it, in lower case as the proxy keeps it.
pub fn name(written: &str, path: &str) -> Result<String, ConfigError> {
    if written.starts_with(':') || written.eq_ignore_ascii_case("host") {
        return refuse(
            path,
            format!(
                "{written:?} is not a header here but a part of the request line, write a header's name"
            ),
        );
    }
    let of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if (1..=LONGEST_NAME).contains(&written.len()) && written.bytes().all(of_token) {
        return Ok(written.to_ascii_lowercase());
    }
    refuse(
        path,
        format!("{written:?} is not a header's name, write for example \"x-user-id\""),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tokens_in_lower_case() {
        assert_eq!(name("X-User_Id", "at"), Ok("x-user_id".to_owned()));
        for (written, expected) in [
            (
                "",
                r#"at: "" is not a header's name, write for example "x-user-id""#,
            ),
            (
                "user type",
                r#"at: "user type" is not a header's name, write for example "x-user-id""#,
            ),
            (
                ":path",
                r#"at: ":path" is not a header here but a part of the request line, write a header's name"#,
            ),
            (
                "Host",
                r#"at: "Host" is not a header here but a part of the request line, write a header's name"#,
            ),
        ] {
            assert_eq!(name(written, "at").unwrap_err().to_string(), expected);
        }
        assert!(name(&"a".repeat(LONGEST_NAME), "at").is_ok());
        assert!(name(&"a".repeat(LONGEST_NAME + 1), "at").is_err());
    }
}
