//! `tollgate bench` as a user calls it, before it measures.

use std::process::Command;

/// At once, and not when everything is built: so it needs no workspace.
#[test]
fn operators_are_counted_in_modules_alone() {
    let folder = tempfile::tempdir().unwrap();
    for case in [
        "no-filter",
        "local-rate-limit",
        "lua",
        "tenants",
        "flood",
        "values",
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        let command = command.args(["bench", "--operators", "tollgate", case]);
        let output = command.current_dir(folder.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{case}: {said}");
        assert_eq!(
            said.lines().next().unwrap(),
            format!(
                "error: --operators counts what one module executes, and '{case}' is not a case of one; name some of: empty-sdk-filter, \
                 tenant-rate-limit, tenant-rate-limit/busy, tenant-rate-limit/refused, user-classifier, user-classifier/10-rules, \
                 user-classifier/10000-rules, business-metrics, business-metrics/bodies, tollgate, tollgate/bodies"
            )
        );
    }
}
