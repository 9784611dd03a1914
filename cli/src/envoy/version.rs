//! Versions of Envoy: asking for one, and which are supported.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use semver::Version;

/// The supported versions, in words.
pub const SUPPORTED: &str = "1.37 to 1.40";

/// From the oldest that a supported Istio carries to the newest that Tollgate is tested with.
pub fn is_supported(version: &Version) -> bool {
    version.major == 1 && (37..=40).contains(&version.minor)
}

/// Whether an edit of a module's environment (`vmConfig.env`) does not reach it: before envoyproxy/envoy#44563 Envoy took a VM for the same one whatever its
/// environment was. Seen in 1.37, and not in 1.40; of those between, whoever starts anew without need loses nothing.
pub fn keeps_environments(version: &Version) -> bool {
    version.major == 1 && version.minor < 40
}

/// What the program says its version is.
pub(super) fn ask(envoy: &Path) -> anyhow::Result<Version> {
    let output = run(envoy).with_context(|| format!("{} cannot be run", envoy.display()))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        let why = why.trim();
        let separator = if why.is_empty() { "" } else { ": " };
        bail!(
            "`{} --version` failed ({}){separator}{why}",
            envoy.display(),
            output.status
        );
    }
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).with_context(|| {
        format!(
            "{} is not an Envoy: to --version it says {:?}",
            envoy.display(),
            text.trim().lines().next().unwrap_or_default()
        )
    })
}

fn run(envoy: &Path) -> io::Result<Output> {
    // A program that was written a moment ago is busy as long as a child of ours, forked during the writing and not yet
    // turned into its own program, holds the file open.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match Command::new(envoy)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
        {
            Err(error)
                if error.kind() == ErrorKind::ExecutableFileBusy && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

/// Envoy says `/usr/bin/envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`.
fn parse(text: &str) -> Option<Version> {
    let (_, build) = text.split_once("version: ")?;
    Version::parse(build.trim().split('/').nth(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_second_part_of_the_build() {
        let text = "\n/usr/bin/envoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL\n\n";
        assert_eq!(parse(text), Some(Version::new(1, 40, 0)));
        let proxy_of_istio = "envoy  version: 0a1b/1.38.1-dev/Clean/RELEASE/BoringSSL";
        assert_eq!(parse(proxy_of_istio), Version::parse("1.38.1-dev").ok());
    }

    #[test]
    fn another_program_has_no_version_of_envoy() {
        for text in [
            "",
            "envoy 1.40.0",
            "version: 1.40.0",
            "version: a/b/c",
            "version: a/1.40/Clean",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_supported_versions_are_1_37_to_1_40() {
        for version in ["1.37.0", "1.38.1-dev", "1.39.3", "1.40.9"] {
            assert!(is_supported(&Version::parse(version).unwrap()), "{version}");
        }
        for version in ["1.36.4", "1.41.0", "2.38.0", "0.38.0"] {
            assert!(
                !is_supported(&Version::parse(version).unwrap()),
                "{version}"
            );
        }
    }
}
