//! A command of `tollgate` that reads its standard input.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs it in a folder, gives it the input, and waits for its end.
pub(crate) fn tollgate(folder: &Path, command: &str, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .arg(command)
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Whoever refuses its command line, or does not read its input, may end before all of it is written.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}
