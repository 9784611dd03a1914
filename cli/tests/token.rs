//! `tollgate token` and the overlay of the local issuer, as a user finds them in a checkout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_mesh::source::Document;

/// The repository, without what was made in it.
struct Checkout(TempDir);

impl Checkout {
    /// Its manifests, and what else it is known by.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for part in ["istio", "services", "wasm-plugins"] {
            copy(&repository.join(part), &folder.path().join(part));
        }
        for file in ["Cargo.toml", "kustomization.yaml", ".gitignore"] {
            fs::copy(repository.join(file), folder.path().join(file)).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(args).current_dir(self.0.path());
        command.output().unwrap()
    }

    /// What `tollgate token` prints, and what it says besides.
    fn token(&self, args: &[&str]) -> (String, String) {
        let output = self.run(&[&["token"], args].concat());
        let [out, err] = [&output.stdout, &output.stderr].map(|text| text_of(text));
        assert!(output.status.success(), "{err}");
        let token = out.strip_suffix('\n').unwrap();
        assert!(!token.contains(char::is_whitespace), "{token:?}");
        (token.to_owned(), err)
    }

    fn check(&self, paths: &[&str]) -> (Option<i32>, String) {
        let output = self.run(&[&["check"], paths].concat());
        assert_eq!(text_of(&output.stderr), "");
        (output.status.code(), text_of(&output.stdout))
    }

    /// The one line of a check that found one thing, without the summary.
    fn refused(&self, paths: &[&str]) -> String {
        let (code, said) = self.check(paths);
        assert_eq!((code, said.lines().count()), (Some(1), 2), "{said}");
        said.lines().next().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn replace(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert_eq!(text.matches(from).count(), 1, "{name}: {from:?}");
        self.write(name, &text.replace(from, to));
    }

    /// The JWKS as the overlay has it.
    fn jwks(&self) -> String {
        let text = self.read(JWKS);
        let (_, jwks) = text.split_once("value: '").unwrap();
        jwks.trim_end().trim_end_matches('\'').to_owned()
    }

    fn git(&self, args: &[&str]) -> String {
        let mut command = Command::new("git");
        let output = command
            .args(args)
            .current_dir(self.0.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text_of(&output.stderr));
        text_of(&output.stdout)
    }
}

const KEY: &str = "istio/overlays/local/issuer/key.pem";
const JWKS: &str = "istio/overlays/local/issuer/jwks.yaml";

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else if name != "key.pem" && name != "jwks.yaml" {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// A part of a token, as JSON.
fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[test]
fn a_token_is_all_that_is_printed_and_the_first_makes_the_key() {
    let checkout = Checkout::new();
    let (first, said) = checkout.token(&["--user", "alice", "--tenant", "acme"]);
    assert_eq!(
        said,
        "made the local issuer's key: istio/overlays/local/issuer/key.pem; a mesh must be started with it, or follow its manifests, to \
         take its tokens\n"
    );
    let claims = part(&first, 1);
    assert_eq!(
        (
            &claims["iss"],
            &claims["sub"],
            &claims["aud"],
            &claims["tenant"]
        ),
        (
            &json!("https://issuer.local.tollgate"),
            &json!("alice"),
            &json!("shop"),
            &json!("acme")
        )
    );
    assert_eq!(
        claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
        3_600
    );

    // The next one is another, of the same key, from any folder of the checkout.
    let jwks = checkout.jwks();
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["token", "--user", "alice", "--format", "json"])
        .current_dir(checkout.path("services"))
        .output()
        .unwrap();
    assert_eq!(text_of(&output.stderr), "");
    let second: Value = serde_json::from_slice(&output.stdout).unwrap();
    let token = second["token"].as_str().unwrap();
    assert_eq!(part(token, 1), second["claims"]);
    assert_ne!(part(token, 1)["jti"], claims["jti"]);
    assert_eq!(part(token, 0), part(&first, 0));
    let keys: Value = serde_json::from_str(&jwks).unwrap();
    assert_eq!(keys["keys"][0]["kid"], part(token, 0)["kid"]);
    assert_eq!(checkout.jwks(), jwks);
}

#[test]
fn a_wrong_command_line_is_told_with_what_to_write() {
    let checkout = Checkout::new();
    for (args, told) in [
        (
            &["--user", "alice", "--tenant", "A C"][..],
            "error: invalid value 'A C' for '--tenant <TENANT>': write 1 to 64 of a-z, 0-9, ., _ and -\n",
        ),
        (
            &["--user", "alice", "--claim", "sub=\"bob\""],
            "error: invalid value 'sub=\"bob\"' for '--claim <NAME=JSON>': sub is not free: write --user\n",
        ),
        (
            &["--user", "alice", "--claim", "a=1", "--claim", "a=2"],
            "error: --claim a=…: --claim says a already, and a claim can be there only once\n\nUsage: tollgate token [OPTIONS] --user <USER>\n",
        ),
    ] {
        let output = checkout.run(&[&["token"], args].concat());
        assert_eq!(output.status.code(), Some(2));
        let said = text_of(&output.stderr);
        assert!(said.starts_with(told), "{said}");
        assert!(output.stdout.is_empty());
    }
    assert!(!checkout.path(KEY).exists());
}

#[test]
fn git_sees_neither_the_key_nor_what_belongs_to_it() {
    let checkout = Checkout::new();
    checkout.git(&["init", "--quiet"]);
    checkout.git(&["add", "."]);
    let before = checkout.git(&["status", "--porcelain"]);
    checkout.token(&["--user", "alice"]);
    assert!(checkout.path(KEY).exists() && checkout.path(JWKS).exists());
    // What was being written when the power went.
    checkout.write(&format!("{KEY}.Ab12xY"), "");
    assert_eq!(checkout.git(&["status", "--porcelain"]), before);
    assert!(
        !before.contains("key.pem") && !before.contains("jwks.yaml"),
        "{before}"
    );
}

#[test]
fn the_overlay_is_the_shop_and_the_issuer() {
    let checkout = Checkout::new();
    checkout.token(&["--user", "alice"]);
    let documents = |folder: &str| {
        let found = tollgate_mesh::documents(&[checkout.path(folder)]);
        assert_eq!(found.problems, []);
        let mut values: Vec<Value> = found
            .documents
            .into_iter()
            .map(|Document { value, .. }| value)
            .collect();
        values.sort_by_key(Value::to_string);
        values
    };
    let mut local = documents("istio/overlays/local");
    let issuer = local
        .extract_if(.., |object| {
            object["kind"] == "RequestAuthentication"
                && object["metadata"]["name"] == "local-issuer"
        })
        .collect::<Vec<_>>();
    let shop = documents("");
    assert!(
        local == shop,
        "istio/overlays/local/kustomization.yaml must name the same parts as kustomization.yaml and istio/kustomization.yaml"
    );
    // Where there is no issuer yet, carts and orders are nobody's, not everybody's.
    let is_for_customers = |object: &Value| {
        object["kind"] == "AuthorizationPolicy" && object["metadata"]["name"] == "customers"
    };
    for variant in ["", "bundle", "circuit-breaker", "fault"] {
        let folder = match variant {
            "" => String::new(),
            overlay => format!("istio/overlays/{overlay}"),
        };
        let variant = documents(&folder);
        assert_eq!(
            variant
                .iter()
                .filter(|object| is_for_customers(object))
                .count(),
            1,
            "{folder:?}"
        );
    }
    // With the rule that `token` signs for, and in it what verifies.
    let [issuer] = &issuer[..] else {
        panic!("{issuer:?}")
    };
    let (token, _) = checkout.token(&["--user", "alice"]);
    let claims = part(&token, 1);
    assert_eq!(
        issuer["spec"]["jwtRules"],
        json!([{
            "issuer": claims["iss"], "audiences": [claims["aud"]], "jwks": checkout.jwks(),
            "outputClaimToHeaders": [{"header": "end-user", "claim": "sub"}],
        }])
    );
}

#[test]
fn the_overlay_is_right_once_the_key_is_there_and_until_then_says_what_makes_it() {
    let checkout = Checkout::new();
    assert_eq!(
        checkout.refused(&["istio/overlays/local"]),
        "istio/overlays/local/issuer/kustomization.yaml:8: error[TG0104]: patches[0].path: \"jwks.yaml\" is not there yet: it belongs to \
         the key of the local issuer, which is not in git, and is made with it by `tollgate token --user NAME` or by `tollgate up`"
    );
    // It only looks.
    assert!(!checkout.path(KEY).exists() && !checkout.path(JWKS).exists());
    checkout.token(&["--user", "alice"]);
    for paths in [
        &["istio/overlays/local"][..],
        &["istio/overlays/bundle", "istio/overlays/local/issuer"],
        &[".", "istio/overlays/local/issuer/kustomization.yaml"],
    ] {
        let (code, said) = checkout.check(paths);
        assert_eq!((code, said.lines().count()), (Some(0), 1), "{said}");
    }
}

#[test]
fn the_local_issuer_is_refused_wherever_else_it_is() {
    let checkout = Checkout::new();
    checkout.token(&["--user", "alice"]);
    let jwks = checkout.jwks();
    let keys: Value = serde_json::from_str(&jwks).unwrap();
    let kid = keys["keys"][0]["kid"].as_str().unwrap();
    let is_local = "is a local one, whose key is on a developer's machine, and may be trusted in istio/overlays/local alone; write the \
                    issuer and the jwksUri of your identity provider";
    let rule = |issuer: &str, jwks: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: tokens, namespace: istio-system}}\nspec:\n  \
             selector: {{matchLabels: {{istio: ingressgateway}}}}\n  jwtRules:\n  - issuer: {issuer}\n    jwks: '{jwks}'\n"
        )
    };
    checkout.replace(
        "istio/security/kustomization.yaml",
        "resources:\n",
        "resources:\n- tokens.yaml\n",
    );
    let base = "istio/security/tokens.yaml";
    let other = "https://login.example.com";
    let another = jwks.replace(kid, "key-1");

    // In a base, under its own name and under another; and with another id, as long as the key is known.
    let key = format!("{base}:8: error[TG0601]: spec.jwtRules[0].jwks: the key {kid} {is_local}");
    for (issuer, jwks) in [
        ("https://issuer.local.tollgate", &jwks),
        (other, &jwks),
        (other, &another),
        (other, &jwks.replace("\":\"", "\" : \"")),
    ] {
        checkout.write(base, &rule(issuer, jwks));
        assert_eq!(checkout.refused(&[]), key, "{issuer}: {jwks}");
    }
    // Its name alone: whatever key it has.
    let (x, y) = (
        "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    );
    let stranger = format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}]}}"#);
    checkout.write(base, &rule("https://issuer.local.tollgate", &stranger));
    assert_eq!(
        checkout.refused(&[]),
        format!(
            "{base}:7: error[TG0601]: spec.jwtRules[0].issuer: the issuer https://issuer.local.tollgate {is_local}"
        )
    );
    // Somebody else is none of it.
    checkout.write(base, &rule(other, &stranger));
    assert_eq!(checkout.check(&[]).0, Some(0));

    // As a text in a text, as YAML, in base64.
    let quoted = serde_json::to_string(&json!({"inline_string": jwks}).to_string()).unwrap();
    let spelled = serde_json::to_string(&keys).unwrap();
    let encoded = base64::prelude::BASE64_STANDARD.encode(format!("{jwks}\n"));
    for (data, field) in [
        (format!("data: {{filter: {quoted}}}"), "data.filter"),
        (format!("data: {{a: {spelled}}}"), "data.a.keys[0].kid"),
        (format!("data: {{jwks: {encoded}}}"), "data.jwks"),
    ] {
        let kind = if field == "data.jwks" {
            "Secret"
        } else {
            "ConfigMap"
        };
        checkout.write(
            base,
            &format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: keys, namespace: istio-system}}\n{data}\n"),
        );
        let (code, said) = checkout.check(&[]);
        let told = format!("{base}:4: error[TG0601]: {field}: the key {kid} {is_local}\n");
        assert_eq!(
            (code, said.matches("TG0601").count()),
            (Some(1), 1),
            "{said}"
        );
        assert!(said.contains(&told), "{said}");
    }
}

#[test]
fn another_overlay_cannot_bring_the_local_issuer_along() {
    let checkout = Checkout::new();
    checkout.token(&["--user", "alice"]);
    let keys: Value = serde_json::from_str(&checkout.jwks()).unwrap();
    let kid = keys["keys"][0]["kid"].as_str().unwrap();
    // By a reference,
    checkout.write(
        "istio/overlays/prod/kustomization.yaml",
        "resources: [../local]\n",
    );
    assert_eq!(
        checkout.refused(&["istio/overlays/prod"]),
        format!(
            "{JWKS}:8: error[TG0601]: spec.jwtRules[0].jwks: the key {kid} has got into what is checked here from istio/overlays/local, by a \
             folder or kustomization that includes it. Its key is on a developer's machine: leave it out there, and name \
             istio/overlays/local/issuer beside it where it is run locally: `tollgate up --manifests … --manifests \
             istio/overlays/local/issuer`"
        )
    );
    // by a copy,
    copy(
        &checkout.path("istio/overlays/local"),
        &checkout.path("istio/overlays/prod"),
    );
    fs::copy(
        checkout.path(JWKS),
        checkout.path("istio/overlays/prod/issuer/jwks.yaml"),
    )
    .unwrap();
    let copied = format!(
        "istio/overlays/prod/issuer/jwks.yaml:8: error[TG0601]: spec.jwtRules[0].jwks: the key {kid} is a local one, whose key is on a \
         developer's machine, and may be trusted in istio/overlays/local alone; write the issuer and the jwksUri of your identity provider"
    );
    assert_eq!(checkout.refused(&["istio/overlays/prod"]), copied);
    // by a link,
    let link = checkout.path("istio/overlays/prod/issuer/jwks.yaml");
    fs::remove_file(&link).unwrap();
    fs::copy(
        checkout.path(JWKS),
        checkout.path("istio/overlays/prod/issuer/real.yaml"),
    )
    .unwrap();
    std::os::unix::fs::symlink("real.yaml", &link).unwrap();
    assert_eq!(checkout.refused(&["istio/overlays/prod"]), copied);
    // or as what another tool has made of it.
    let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["check", ".", "-"])
        .current_dir(checkout.path(""))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let built = tollgate_mesh::documents(&[checkout.path("istio/overlays/local/issuer")]);
    let built = built.documents[0].value.to_string();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), built.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = text_of(&output.stdout);
    assert!(
        said.starts_with(&format!(
            "<stdin>:1: error[TG0601]: spec.jwtRules[0].jwks: the key {kid} is a local one"
        )),
        "{said}"
    );
}
