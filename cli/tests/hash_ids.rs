//! `tollgate hash-ids` as a user calls it.

mod piped;

use std::fs;
use std::path::Path;
use std::process::Output;

use tollgate_common::hashed::{hashed_id, to_hex};

fn hash_ids(folder: &Path, args: &[&str], input: &[u8]) -> Output {
    piped::tollgate(folder, "hash-ids", args, input)
}

/// Exit code, standard output and standard error.
fn said(output: &Output) -> (Option<i32>, &str, &str) {
    let [out, err] =
        [&output.stdout, &output.stderr].map(|text| std::str::from_utf8(text).unwrap());
    (output.status.code(), out, err)
}

#[test]
fn ids_come_from_standard_input_and_from_files() {
    let folder = tempfile::tempdir().unwrap();
    // printf '%s\0%s' vips-2026 alice | sha256sum | cut -c1-24, and so bob
    let both = "- \"51b9cc92b6cd2f6fda27e967\"\n- \"b9d000703bc0b20b22817944\"\n";
    let salt = ["--salt", "vips-2026"];
    let output = hash_ids(folder.path(), &salt, b"alice\nbob\n");
    assert_eq!(said(&output), (Some(0), both, ""));

    fs::write(folder.path().join("a.txt"), "bob\r\n\r\nbob\r\n").unwrap();
    let output = hash_ids(
        folder.path(),
        &[&salt[..], &["a.txt", "-"]].concat(),
        b"alice\nbob",
    );
    let told = "2 lines say ids that had been said before, the first of them a.txt:3 (before: a.txt:1); each hash is printed once\n";
    assert_eq!(said(&output), (Some(0), both, told));
    let output = hash_ids(
        folder.path(),
        &[&salt[..], &["a.txt", "--format", "json"]].concat(),
        b"",
    );
    assert_eq!(said(&output).1, "[\"51b9cc92b6cd2f6fda27e967\"]\n");
}

#[test]
fn a_list_with_a_mistake_is_not_printed_at_all() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.csv"), "alice\tvip\nbob\n\"carol\"\n").unwrap();
    let output = hash_ids(folder.path(), &["--salt", "s", "a.csv", "-"], b"caf\xe9\n");
    assert_eq!(
        said(&output),
        (
            Some(1),
            "",
            "a.csv:1: has a control character; write one id a line and nothing else\n\
             a.csv:3: is in quotes, which would be hashed with it; take them away\n\
             <stdin>:1: is not UTF-8, as headers and claims with ids are; save the file as UTF-8\n\
             error: nothing is printed, because a list must not have gaps\n"
        )
    );
    let output = hash_ids(folder.path(), &["--salt", "s"], &b"\"a\"\n".repeat(25));
    let (code, out, err) = said(&output);
    assert_eq!((code, out, err.lines().count()), (Some(1), "", 21));
    assert!(
        err.ends_with(
            "\nerror: 5 more of this kind; nothing is printed, because a list must not have gaps\n"
        ),
        "{err}"
    );
    let output = hash_ids(folder.path(), &["--salt", "s"], b"\n \n");
    assert_eq!(
        said(&output),
        (Some(1), "", "error: there are no ids, write one a line\n")
    );
    let output = hash_ids(folder.path(), &["--salt", "s", "b.txt"], b"");
    assert_eq!(
        said(&output),
        (
            Some(1),
            "",
            "error: cannot read b.txt\n  because: No such file or directory (os error 2)\n"
        )
    );
    for salt in ["", "a\tb", &"x".repeat(65)] {
        let output = hash_ids(folder.path(), &["--salt", salt], b"alice\n");
        let (code, out, err) = said(&output);
        assert_eq!((code, out), (Some(2), ""));
        assert!(
            err.contains("for '--salt <SALT>': write 1 to 64 bytes without control characters\n"),
            "{err}"
        );
    }
}

#[test]
fn fifty_thousand_ids_are_hashed_as_the_filters_do() {
    let folder = tempfile::tempdir().unwrap();
    let ids: Vec<String> = (0..50_000)
        .map(|n| format!("user-{n}@example.com"))
        .collect();
    let output = hash_ids(
        folder.path(),
        &["--salt", "shop", "--format", "json"],
        ids.join("\n").as_bytes(),
    );
    let printed: Vec<String> = serde_json::from_slice(&output.stdout).unwrap();
    let mut expected: Vec<String> = ids
        .iter()
        .map(|id| to_hex(&hashed_id("shop", id.as_bytes())))
        .collect();
    expected.sort();
    assert_eq!(printed, expected);
}
