//! What unit tests share.

use std::path::Path;
use std::process::Command;

/// Writes a program: a shell script. A child does the writing, because a program that this process writes is busy
/// as long as a child that another thread starts meanwhile holds the file open.
pub(crate) fn script(path: &Path, text: &str) {
    let text = format!("#!/bin/sh\n{text}\n");
    let status = Command::new("sh")
        .args([
            "-c",
            r#"mkdir -p "$(dirname "$1")" && printf %s "$2" >"$1" && chmod 755 "$1""#,
            "sh",
        ])
        .arg(path)
        .arg(text)
        .status()
        .unwrap();
    assert!(status.success());
}
