//! What the pages say about the tool is what the tool has: its events, its kinds of manifests, its options.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory;
use serde_json::Value;
use tollgate::args::Cli;
use tollgate_mesh::api::Objects;

/// Events cannot be listed from outside, so they are read where they are defined.
const EVENTS: &str = include_str!("../src/up/events.rs");

fn page(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The part of a page below a heading, up to the next one of its rank.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("there is no {heading:?}"));
    let rank = heading.split(' ').next().unwrap();
    let end = rest.find(&format!("\n{rank} ")).unwrap_or(rest.len());
    &rest[..end]
}

/// What is between backticks.
fn words(text: &str) -> BTreeSet<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap();
    let mut camel = first[..1].to_lowercase() + &first[1..];
    for part in parts {
        camel += &(part[..1].to_uppercase() + &part[1..]);
    }
    camel
}

/// Every event with its fields, as JSON has them; those that are of another type, which serde flattens, are not seen here.
fn events() -> BTreeMap<String, BTreeSet<String>> {
    let (_, rest) = EVENTS.split_once("pub(crate) enum Event {\n").unwrap();
    let (body, _) = rest.split_once("\n}\n").unwrap();
    let mut events: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut current, mut skipped) = (String::new(), false);
    for line in body.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        let end = text
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(text.len());
        match (indent, &text[..end]) {
            (_, "") => skipped |= text == "#[serde(skip)]",
            (4, variant) => {
                current = camel_case(variant);
                events.entry(current.clone()).or_default();
                // Such as `Demo { customers: String, seconds: u64 },`
                for field in text[end..].split([',', '{']).filter(|f| f.contains(": ")) {
                    let name = field.split(':').next().unwrap().trim();
                    events.get_mut(&current).unwrap().insert(camel_case(name));
                }
            }
            (8, field) => {
                if !std::mem::take(&mut skipped) {
                    events.get_mut(&current).unwrap().insert(camel_case(field));
                }
            }
            _ => panic!("{line:?} is not understood"),
        }
    }
    events
}

#[test]
fn the_table_of_events_has_every_event_and_every_field_of_it() {
    let page = page("docs/local-mesh.md");
    let section = section(&page, "## `--format json`");
    let (_, table) = section
        .split_once("\n| `event` | When | Fields |\n|---|---|---|\n")
        .unwrap();
    let rows: BTreeMap<String, BTreeSet<String>> = table
        .lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let mut cells = line.split('|').skip(1);
            let name = words(cells.next().unwrap()).pop_first().unwrap();
            (name, words(cells.nth(1).unwrap()))
        })
        .collect();
    let events = events();
    assert_eq!(
        rows.keys().collect::<Vec<_>>(),
        events.keys().collect::<Vec<_>>()
    );
    for (event, fields) in &events {
        let missing: Vec<_> = fields.difference(&rows[event]).collect();
        assert!(missing.is_empty(), "{event}: {missing:?}");
    }

    // And an example of each, with fields that its row names and no others.
    let (_, rest) = section.split_once("```json\n").unwrap();
    let (examples, _) = rest.split_once("```").unwrap();
    let mut shown = BTreeSet::new();
    for line in examples.lines() {
        let example: BTreeMap<String, Value> =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let event = example["event"].as_str().unwrap().to_owned();
        for field in example.keys().filter(|field| *field != "event") {
            assert!(rows[&event].contains(field), "{event}: {field}");
            let own = &events[&event];
            assert!(own.is_empty() || own.contains(field), "{event}: {field}");
        }
        shown.insert(event);
    }
    assert_eq!(shown, events.into_keys().collect());
}

#[test]
fn the_table_of_kinds_has_every_kind() {
    let problems = Objects::parse(
        Path::new("a.yaml"),
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n",
    )
    .unwrap_err()
    .to_string();
    let (_, kinds) = problems.split_once("it knows ").expect(&problems);
    let known: BTreeSet<&str> = kinds.trim().split(", ").collect();
    let page = page("docs/local-mesh.md");
    let first_cells = |heading: &str| -> BTreeSet<String> {
        section(&page, heading)
            .lines()
            .skip_while(|line| !line.starts_with("|---"))
            .skip(1)
            .take_while(|line| line.starts_with('|'))
            .flat_map(|line| line.split('|').nth(1).unwrap().split(','))
            .map(|kind| kind.trim().to_owned())
            .collect()
    };
    let kinds = first_cells("### Kinds");
    assert_eq!(
        kinds.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        known
    );
    // The fields of pods and containers have rows of their own.
    let fields = first_cells("### Fields");
    let missing: Vec<_> = kinds.difference(&fields).collect();
    assert!(missing.is_empty(), "no row of fields for {missing:?}");
}

#[test]
fn the_readme_names_every_command_and_option() {
    let readme = page("README.md");
    let usage = section(&readme, "## The command");
    let (_, usage) = usage.split_once("```\n").unwrap();
    let (usage, _) = usage.split_once("```").unwrap();
    let mut named = usage
        .split_whitespace()
        .map(|word| word.trim_matches(['[', ']', '…']).to_owned());
    let named: BTreeSet<String> = named.by_ref().collect();
    for command in Cli::command().get_subcommands() {
        if command.is_hide_set() {
            continue;
        }
        assert!(
            usage.contains(&format!("tollgate {}", command.get_name())),
            "{}",
            command.get_name()
        );
        for option in command
            .get_arguments()
            .filter_map(|option| option.get_long())
        {
            assert!(
                option == "help" || named.contains(&format!("--{option}")),
                "README.md does not name --{option} of {}",
                command.get_name()
            );
        }
    }
}

/// What a manifest that is applied says would take the place of what somebody has chosen.
#[test]
fn secrets_are_made_by_the_readme_and_shipped_by_no_manifest() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders = vec![root.clone()];
    let overlays = fs::read_dir(root.join("istio/overlays")).unwrap();
    let overlays = overlays.map(|overlay| overlay.unwrap().path());
    // Its resources are those of the root (`token.rs` holds that), and it is not complete without a key.
    folders.extend(overlays.filter(|overlay| !overlay.ends_with("local")));
    let readme = page("README.md");
    for folder in &folders {
        let objects = Objects::load(std::slice::from_ref(folder)).unwrap();
        assert!(objects.secrets.is_empty(), "{}", folder.display());

        let deployments = objects
            .deployments
            .iter()
            .map(|object| &object.spec.template);
        let sets = objects
            .stateful_sets
            .iter()
            .map(|object| &object.spec.template);
        let variables = deployments
            .chain(sets)
            .flat_map(|template| &template.spec.containers)
            .flat_map(|container| &container.env);
        let mut wanted = 0;
        for secret in variables.filter_map(|v| v.value_from.as_ref()?.secret_key_ref.as_ref()) {
            let command = readme
                .lines()
                .find(|line| line.contains(&format!("create secret generic {} ", secret.name)))
                .unwrap_or_else(|| panic!("README.md does not make {}", secret.name));
            assert!(command.contains(&format!("{}=", secret.key)), "{command}");
            wanted += 1;
        }
        assert_eq!(
            wanted,
            9,
            "{}: eight Deployments of services, and PostgreSQL",
            folder.display()
        );
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else if entry.path().extension().is_some_and(|ext| ext == "yaml")
            && !to.ends_with("local/issuer/jwks.yaml")
        {
            // That one is made by whoever works here, and by no checkout.
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// What `tollgate check istio services wasm-plugins` prints where in these files a text, the first of its kind after another, is another one.
fn checked_with(edits: &[(&str, &str, &str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let parts = ["istio", "services", "wasm-plugins"];
    for part in parts {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(part);
        copy(&from, &folder.path().join(part));
    }
    for (file, after, old, new) in edits {
        let path = folder.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once(after).unwrap();
        assert!(rest.contains(old), "{file} has no {old:?} after {after:?}");
        fs::write(
            path,
            format!("{before}{after}{}", rest.replacen(old, new, 1)),
        )
        .unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    let output = command
        .arg("check")
        .args(parts)
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    String::from_utf8(output.stdout).unwrap()
}

const CART: (&str, &str, &str, &str) = (
    "istio/routing/cart-service.yaml",
    "http:",
    "timeout: 5s",
    "timeout: \"5\"",
);

/// A limit per second, of the tier after this text.
const fn per<'a>(tier: &'a str, new: &'a str) -> (&'a str, &'a str, &'a str, &'a str) {
    (
        "wasm-plugins/tenant-rate-limit/plugin.yaml",
        tier,
        "per: 1s",
        new,
    )
}

#[test]
fn what_the_pages_say_is_told_of_a_mistake_is_told() {
    let checking = page("docs/check.md");
    let (_, shown) = checking
        .split_once("\n$ tollgate check istio services wasm-plugins\n")
        .unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    assert_eq!(
        checked_with(&[CART, per("premium:", "per: \"1\"")]),
        shown,
        "docs/check.md"
    );

    // `up` says it without the code.
    let readme = page("README.md");
    let (_, shown) = readme.split_once("\nreloaded in 110 ms: ").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    let shown: Vec<&str> = shown
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    let told = checked_with(&[CART, per("free:", "per: \"10\"")]);
    let told: Vec<String> = told
        .lines()
        .filter_map(|line| {
            let (place, rest) = line.split_once(": error[")?;
            let (_, rest) = rest.split_once("]: ")?;
            Some(format!("error: {place}: {rest}"))
        })
        .collect();
    assert_eq!(told, shown, "README.md");
}

/// What only a running mesh refuses has its place in a file, too.
#[test]
fn the_replicas_that_the_readme_would_change_are_there() {
    let readme = page("README.md");
    let file = "services/kubernetes/cart-service.yaml";
    let (_, rest) = readme.split_once(&format!("\nerror: {file}:")).unwrap();
    let (line, said) = rest.split_once(": spec.replicas: ").unwrap();
    let manifest = page(file);
    let written = manifest.lines().nth(line.parse::<usize>().unwrap() - 1);
    let replicas = written.unwrap().trim().strip_prefix("replicas: ").unwrap();
    assert!(said.starts_with(&format!("cart-service has {replicas} pods running")));
}
