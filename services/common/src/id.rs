//! Ids of users and products, in a form that is safe in a path, a header and a log line.

use serde::{Deserialize, Serialize};

const MAX_LENGTH: usize = 64;

/// The id of a user or a product: up to 64 letters, digits, `.`, `_`, `-` and `@`, beginning with a letter or digit.
///
/// It begins so because `.` and `..` as a segment of a path would name another resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct Id(String);

/// Why a string is no [`Id`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an id, write 1 to {MAX_LENGTH} of a-z, A-Z, 0-9, '.', '_', '-', '@', beginning with a letter or digit"
)]
pub struct InvalidId(String);

impl Id {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Id {
    type Error = InvalidId;

    fn try_from(value: String) -> Result<Self, InvalidId> {
        let begins_well = value
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
        if begins_well && value.len() <= MAX_LENGTH && value.bytes().all(allowed) {
            Ok(Self(value))
        } else {
            // What is shown is bounded too: it may be as long as a whole request body.
            Err(InvalidId(value.chars().take(MAX_LENGTH).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_safe_in_a_path() {
        for good in ["alice", "7", "a.b_c-D@example.com", &"x".repeat(64)] {
            assert_eq!(Id::try_from(good.to_owned()).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "-x",
            "a/b",
            "a b",
            "a?b",
            "ä",
            "a%2fb",
            &"x".repeat(65),
        ] {
            assert!(Id::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
