//! `tollgate build` as a user calls it, in small workspaces of its own.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const PLUGIN: &str = r#"
#[unsafe(no_mangle)] pub extern "C" fn _initialize() {}
#[unsafe(no_mangle)] pub extern "C" fn proxy_abi_version_0_2_1() {}
#[unsafe(no_mangle)] pub extern "C" fn proxy_on_memory_allocate(_: i32) -> i32 { 0 }
#[unsafe(no_mangle)] pub extern "C" fn proxy_on_context_create(_: i32, _: i32) {}
#[unsafe(no_mangle)] pub extern "C" fn proxy_on_vm_start(_: i32, _: i32) -> i32 { 1 }
#[unsafe(no_mangle)] pub extern "C" fn proxy_on_configure(_: i32, _: i32) -> i32 { 1 }
#[unsafe(no_mangle)] pub extern "C" fn proxy_on_delete(_: i32) {}
#[unsafe(no_mangle)] pub extern "C" fn proxy_on_log(_: i32) {}
#[unsafe(no_mangle)] pub extern "C" fn proxy_on_done(_: i32) -> i32 { 1 }
"#;

/// A workspace with one plugin, whose `Cargo.toml` ends with the given text.
fn workspace(metadata: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"wasm-plugins/counter\"]\n\
         [profile.plugin]\ninherits = \"release\"\npanic = \"abort\"\n",
    );
    write(
        folder.path(),
        "wasm-plugins/counter/Cargo.toml",
        &format!(
            "[package]\nname = \"counter-plugin\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n{metadata}"
        ),
    );
    write(folder.path(), "wasm-plugins/counter/src/lib.rs", PLUGIN);
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn tollgate(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(args)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", "made")
        .output()
        .unwrap()
}

/// What the command says on standard error after cargo's own lines, with the folder as `W`.
fn error(output: &Output, folder: &Path) -> String {
    let text = String::from_utf8_lossy(&output.stderr)
        .replace(&folder.canonicalize().unwrap().display().to_string(), "W");
    text.find("error: ")
        .map_or(String::new(), |start| text[start..].to_owned())
}

const CALLBACKS: &str = "[package.metadata.tollgate]\ncallbacks = [\"proxy_on_log\"]\n";

#[test]
fn modules_are_pruned_into_the_target_folder_and_left_alone_when_nothing_changed() {
    let folder = workspace(CALLBACKS);
    let folder = folder.path();
    let module = folder.join("made/plugins/counter.wasm");
    // From any folder of the workspace.
    let output = tollgate(&folder.join("wasm-plugins/counter/src"), &["build"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("counter ") && text.ends_with("/made/plugins/counter.wasm\n"),
        "{text}"
    );
    let exports = fs::read(&module).unwrap();
    let has = |name: &[u8]| exports.windows(name.len()).any(|window| window == name);
    assert!(has(b"proxy_on_log") && has(b"proxy_on_delete") && !has(b"proxy_on_done"));

    let written = fs::metadata(&module).unwrap().modified().unwrap();
    assert!(tollgate(folder, &["build"]).status.success());
    assert_eq!(fs::metadata(&module).unwrap().modified().unwrap(), written);
}

#[test]
fn a_plugin_with_callbacks_for_bodies_makes_two_modules() {
    let folder = workspace(&format!(
        "{CALLBACKS}bodies = [\"proxy_on_response_body\"]\n"
    ));
    let folder = folder.path();
    let bodies = "#[unsafe(no_mangle)] pub extern \"C\" fn proxy_on_response_body(_: i32, _: i32, _: i32) -> i32 { 0 }\n\
        #[unsafe(no_mangle)] #[inline(never)] pub extern \"C\" fn tollgate_callbacks() -> u32 { std::hint::black_box(u32::MAX) }\n";
    let plugin = format!("{PLUGIN}{bodies}");
    write(folder, "wasm-plugins/counter/src/lib.rs", &plugin);
    let output = tollgate(folder, &["build"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().map(|line| line.split(' ').next().unwrap());
    assert!(names.eq(["counter", "counter-bodies"]), "{text}");
    for (module, sees_bodies) in [("counter", false), ("counter-bodies", true)] {
        let bytes = fs::read(folder.join(format!("made/plugins/{module}.wasm"))).unwrap();
        let has = |name: &[u8]| bytes.windows(name.len()).any(|window| window == name);
        assert!(
            has(b"proxy_on_log") && !has(b"tollgate_callbacks"),
            "{module}"
        );
        assert_eq!(has(b"proxy_on_response_body"), sees_bodies, "{module}");
    }
}

#[test]
fn two_modules_of_one_name_are_refused() {
    let folder = workspace(&format!("{CALLBACKS}bodies = []\n"));
    let folder = folder.path();
    let manifest = fs::read_to_string(folder.join("wasm-plugins/counter/Cargo.toml")).unwrap();
    write(
        folder,
        "wasm-plugins/counter-bodies/Cargo.toml",
        &manifest.replace("counter-plugin", "other-plugin"),
    );
    write(folder, "wasm-plugins/counter-bodies/src/lib.rs", PLUGIN);
    let workspace = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    write(
        folder,
        "Cargo.toml",
        &workspace.replace("counter\"]", "counter\", \"wasm-plugins/counter-bodies\"]"),
    );
    let output = tollgate(folder, &["build"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        error(&output, folder),
        "error: there are two modules counter-bodies: that of wasm-plugins/counter-bodies, and the one of wasm-plugins/counter that sees \
         bodies\nhint: give the folder wasm-plugins/counter-bodies another name\n"
    );
}

#[test]
fn a_plugin_that_cannot_be_built_is_refused_with_what_to_write() {
    let cases = [
        (
            "",
            "error: cannot use wasm-plugins/counter/Cargo.toml\n  because: it lists no callbacks\nhint: write \
             e.g.\n      [package.metadata.tollgate]\n      callbacks = [\"proxy_on_request_headers\"]\n",
        ),
        (
            "[package.metadata.tollgate]\ncallback = []\n",
            "error: cannot use wasm-plugins/counter/Cargo.toml\n  because: package.metadata.tollgate: unknown field \
             `callback`, expected `callbacks` or `bodies`\nhint: write e.g.\n      [package.metadata.tollgate]\n      callbacks = \
             [\"proxy_on_request_headers\"]\n",
        ),
        (
            "[package.metadata.tollgate]\ncallbacks = [\"proxy_on_tick\"]\n",
            "error: the plugin counter cannot be used\n  because: the module does not export proxy_on_tick; it exports \
             _initialize, memory, proxy_abi_version_0_2_1, proxy_on_configure, proxy_on_context_create, proxy_on_delete, \
             proxy_on_done, proxy_on_log, proxy_on_memory_allocate, proxy_on_vm_start\nhint: the callbacks of the plugin \
             are listed in wasm-plugins/counter/Cargo.toml under [package.metadata.tollgate]\n",
        ),
    ];
    for (metadata, expected) in cases {
        let folder = workspace(metadata);
        let output = tollgate(folder.path(), &["build"]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(error(&output, folder.path()), expected);
    }
}

#[test]
fn a_plugin_outside_the_workspace_is_refused() {
    let folder = workspace(CALLBACKS);
    write(
        folder.path(),
        "wasm-plugins/other/Cargo.toml",
        "[package]\nname = \"other\"\n",
    );
    let output = tollgate(folder.path(), &["build"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        error(&output, folder.path()),
        "error: cannot use wasm-plugins/other/Cargo.toml\n  because: it is not a member of the workspace\nhint: add \
         \"wasm-plugins/other\" to `members` in the workspace's Cargo.toml\n"
    );
}

#[test]
fn what_the_compiler_says_is_passed_on() {
    let folder = workspace(CALLBACKS);
    write(
        folder.path(),
        "wasm-plugins/counter/src/lib.rs",
        "fn broken(",
    );
    let output = tollgate(folder.path(), &["build"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("this file contains an unclosed delimiter"),
        "{text}"
    );
    assert!(text.ends_with(
        "error: the filters do not compile for Envoy\n  because: cargo failed (exit status: 101)\n"
    ));
    assert!(output.stdout.is_empty());
}

#[test]
fn exit_codes_tell_failure_from_a_wrong_command_line() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(tollgate(folder.path(), &["build"]).status.code(), Some(1));
    for help in [
        &["--help"][..],
        &["up", "--help"],
        &["build", "--help"],
        &["--version"],
    ] {
        assert_eq!(
            tollgate(folder.path(), help).status.code(),
            Some(0),
            "{help:?}"
        );
    }
    for wrong in [
        &[][..],
        &["biuld"],
        &["build", "--relase"],
        &["up", "--workers", "0"],
        &["up", "--run", "pay"],
    ] {
        assert_eq!(
            tollgate(folder.path(), wrong).status.code(),
            Some(2),
            "{wrong:?}"
        );
    }
    let output = tollgate(folder.path(), &["up", "--replica", "2"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("a similar argument exists: '--replicas'"),
        "{text}"
    );
}
