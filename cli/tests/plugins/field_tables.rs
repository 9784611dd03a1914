//! The tables of fields in the plugins' READMEs: they name the fields that the filters' parsers know, each with its type and its
//! default, and no others. What is in a table beside that (limits, meanings) is for people to compare.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tollgate_common::Problems;

use crate::shipped::{PLUGINS, Plugin};

type Check = fn(&[u8]) -> Result<(), Problems>;

/// The keys of conditions on values, which READMEs describe once and not for each field that is one.
const MATCH_KEYS: [&str; 10] = [
    "exact", "prefix", "suffix", "regex", "in", "hashes", "number", "present", "boolean",
    "contains",
];

/// The path of a field as READMEs have it. Below `rules[].when` a condition that stands alone is as one in a list, and one within others as
/// those around it; what a match consists of is the same in each of them, and conditions are the same in `explain.when`.
fn plain(path: &str) -> String {
    let in_rules = match path.strip_prefix("explain.when") {
        Some(condition) if !condition.is_empty() => format!("rules[].when{condition}"),
        _ => path.to_owned(),
    };
    let path = in_rules.as_str();
    let Some((rule, inner)) = path
        .split_once("rules[].when.")
        .or_else(|| path.split_once("rules[].when[]."))
        .or_else(|| path.split_once("match.contains."))
        .filter(|_| path.starts_with("rules[]") || path.starts_with("match."))
    else {
        return path.to_owned();
    };
    let mut parts: Vec<&str> = match path.strip_prefix("match.") {
        Some(_) => vec!["match", "contains"],
        None => Vec::new(),
    };
    for part in inner.split('.') {
        match part {
            "all[]" | "any[]" => parts.clear(),
            "not" if parts.is_empty() && inner.len() > part.len() => {}
            "hashes" | "number" | "contains" => parts = vec!["match", part],
            part => parts.push(part),
        }
    }
    // A `not` that nothing is behind is the field itself.
    if parts.is_empty() {
        parts.push("not");
    }
    match parts.as_slice() {
        ["match", key] => format!("{rule}match.{key}"),
        ["match", ..] => format!("{rule}{}", parts.join(".")),
        parts => format!("{rule}rules[].when[].{}", parts.join(".")),
    }
}

#[test]
fn the_tables_have_every_field_with_its_type_and_default() {
    let mut wrong = Vec::new();
    for plugin in PLUGINS {
        let readme = plugin.readme();
        let mut rows = rows(&readme);
        let mut wrong =
            |what: String| wrong.push(format!("wasm-plugins/{}/README.md: {what}", plugin.name));
        let (keys, fields): (Vec<Field>, Vec<Field>) = schema_fields(&plugin)
            .into_iter()
            .partition(Field::is_match_key);
        for key in keys.iter().map(Field::name).collect::<BTreeSet<_>>() {
            if !readme.contains(&format!("`{key}`")) {
                wrong(format!("says nowhere what a match with `{key}` is"));
            }
        }
        for field in &fields {
            let path = &field.path;
            // A field with fields of its own needs no row beside theirs.
            let has_fields = |other: &Field| {
                other
                    .path
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.starts_with(['.', '[']))
            };
            match rows.remove(path) {
                Some(row) => {
                    let kind = field.kind();
                    // What a mapping's keys are is up to its meaning: "mapping by name".
                    if row.kind != kind && !(kind == "mapping" && row.kind.starts_with("mapping "))
                    {
                        wrong(format!(
                            "`{path}` has the type {:?}, write {kind:?}",
                            row.kind
                        ));
                    }
                    match field.default() {
                        Some(default) if row.default != default => {
                            wrong(format!(
                                "`{path}` has the default {:?}, write {default:?}",
                                row.default
                            ));
                        }
                        // What is used instead is up to its meaning, too.
                        None if row.default == "required" => {
                            wrong(format!("`{path}` is not required"))
                        }
                        _ => {}
                    }
                }
                None if fields.iter().any(has_fields) => {}
                None => wrong(format!("has no row for `{path}`")),
            }
        }
        for path in rows.keys() {
            wrong(format!("has a row for `{path}`, which is no field"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What the types say and what the parsers say: that a field is in the schema and the filter knows nothing of it cannot be.
#[test]
fn the_schemas_have_the_fields_that_the_parsers_know() {
    for plugin in PLUGINS {
        let mut known = BTreeSet::new();
        for (_, configuration) in plugin.configurations() {
            known.extend(fields(&configuration, plugin.check));
        }
        if plugin.name == "tollgate" {
            // Below its sections there are other plugins' fields.
            known.retain(|field| !field.contains(['.', '[']));
        }
        let of_schema: BTreeSet<String> = schema_fields(&plugin)
            .into_iter()
            .map(|field| field.path)
            .collect();
        assert_eq!(
            known, of_schema,
            "{}, as far as its examples show",
            plugin.name
        );
    }
}

#[test]
fn every_field_is_described_in_the_schema() {
    for plugin in PLUGINS {
        for field in schema_fields(&plugin) {
            let described = field.schema.get("description").and_then(Value::as_str);
            assert!(
                described.is_some_and(|text| text.ends_with(['.', ']'])),
                "{}: the type has no comment on {}, or one that is no sentence",
                plugin.name,
                field.path
            );
        }
    }
}

/// What a README says of a field.
struct Row {
    kind: String,
    default: String,
}

/// The rows of a README's table of fields.
fn rows(readme: &str) -> BTreeMap<String, Row> {
    let (_, table) = readme
        .split_once("\n| Field | Type | Default | Limits | Meaning |\n|---|---|---|---|---|\n")
        .expect("a table of fields");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.map(|line| {
        let mut columns = line
            .split('|')
            .skip(1)
            .map(|column| column.trim().to_owned());
        let mut next = || columns.next().unwrap_or_default();
        let field = next().trim_matches('`').to_owned();
        (
            field,
            Row {
                kind: next(),
                default: next(),
            },
        )
    })
    .collect()
}

/// A field of a configuration, as its schema has it.
struct Field {
    /// `tiers.*.limits[].per`: a mapping by name is `.*`, a list `[]`.
    path: String,
    /// Whether what it is in must have it.
    required: bool,
    /// With what it refers to.
    schema: Value,
}

impl Field {
    fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }

    fn is_match_key(&self) -> bool {
        MATCH_KEYS.contains(&self.name()) || self.path.starts_with("match.")
    }

    /// The type in a reader's words.
    fn kind(&self) -> String {
        kind(&self.schema)
    }

    /// What the table says for its default, if that is known.
    fn default(&self) -> Option<String> {
        match self.schema.get("default") {
            Some(number @ Value::Number(_)) => Some(number.to_string()),
            Some(Value::String(text)) => Some(format!("`{text}`")),
            Some(other) => Some(format!("`{other}`")),
            None => self.required.then(|| "required".to_owned()),
        }
    }
}

fn kind(schema: &Value) -> String {
    let list = |key: &str| schema.get(key).and_then(Value::as_array);
    if let Some(title) = schema.get("title").and_then(Value::as_str) {
        return match is_plugin(schema) {
            true => format!("the configuration of [{title}](../{title}/README.md#configuration)"),
            false => title.to_owned(),
        };
    }
    let constants: Option<Vec<&Value>> = match (list("oneOf"), list("enum")) {
        (Some(alternatives), _) => alternatives.iter().map(|one| one.get("const")).collect(),
        (None, values) => values.map(|values| values.iter().collect()),
    };
    if let Some(constants) = constants {
        let words: Vec<String> = constants
            .iter()
            .map(|word| match word {
                Value::String(word) => format!("`{word}`"),
                other => other.to_string(),
            })
            .collect();
        return match words.as_slice() {
            [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            words => words.concat(),
        };
    }
    if let Some([one, other]) = list("anyOf").map(Vec::as_slice) {
        // A mapping is elsewhere in the schema.
        let other = if other["type"] == "array" {
            "list"
        } else {
            "mapping"
        };
        return format!("{} or {other}", kind(one).replace(" or ", ", "));
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("integer" | "number") => "number".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("object") => "mapping".to_owned(),
        Some("array") if schema["items"]["type"] == "string" => "list of strings".to_owned(),
        Some("array") => "list".to_owned(),
        Some(other) => other.to_owned(),
        None => panic!("of which type is {schema}?"),
    }
}

fn is_plugin(schema: &Value) -> bool {
    PLUGINS.iter().any(|plugin| schema["title"] == plugin.name)
}

/// Every field of a plugin's configuration. Below the sections of the bundle there are other plugins' fields.
fn schema_fields(plugin: &Plugin) -> Vec<Field> {
    let root = plugin.schema();
    let mut found = BTreeMap::new();
    collect(&root, &root, "", &Value::Null, &mut found);
    found.into_values().collect()
}

/// Adds the fields in `schema`, which are what `default` says if that is left out which they are in.
fn collect(
    root: &Value,
    schema: &Value,
    path: &str,
    default: &Value,
    found: &mut BTreeMap<String, Field>,
) {
    for alternative in schema
        .get("anyOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        collect(root, &resolve(root, alternative), path, default, found);
    }
    if let Some(items) = schema.get("items") {
        collect(
            root,
            &resolve(root, items),
            &format!("{path}[]"),
            &Value::Null,
            found,
        );
    }
    if let Some(values @ Value::Object(_)) = schema.get("additionalProperties") {
        collect(
            root,
            &resolve(root, values),
            &join(path, "*"),
            &Value::Null,
            found,
        );
    }
    let required = schema.get("required").and_then(Value::as_array);
    for (name, property) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let path = plain(&join(path, name));
        let mut property = resolve(root, property);
        if let Some(default) = default.get(name) {
            property["default"] = default.clone();
        }
        let field = Field {
            path: path.clone(),
            required: required
                .is_some_and(|required| required.contains(&Value::from(name.as_str()))),
            schema: property.clone(),
        };
        // Conditions have conditions in them.
        if found.insert(path.clone(), field).is_none() && !is_plugin(&property) {
            collect(root, &property, &path, &property["default"], found);
        }
    }
}

/// A schema with what it refers to; what it says itself counts more.
fn resolve(root: &Value, schema: &Value) -> Value {
    let Some(reference) = schema.get("$ref").and_then(Value::as_str) else {
        return schema.clone();
    };
    let mut resolved = root
        .pointer(&reference[1..])
        .unwrap_or_else(|| panic!("{reference}"))
        .clone();
    for (key, value) in schema.as_object().unwrap() {
        resolved[key] = value.clone();
    }
    resolved
}

/// Every field that the parser knows in the mappings of a configuration: it lists them when it is given one that it does not
/// know. A mapping by name is `.*`, a list `[]`.
fn fields(configuration: &Value, check: Check) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(configuration, "", "", &mut |pointer, path| {
        let expected = expected(configuration, pointer, check)?;
        found.extend(expected.iter().map(|field| plain(&join(path, field))));
        Some(())
    });
    found
}

/// Visits every mapping with its JSON pointer and its path. The visitor says whether its keys are fields or names.
fn walk(
    value: &Value,
    pointer: &str,
    path: &str,
    visit: &mut impl FnMut(&str, &str) -> Option<()>,
) {
    match value {
        Value::Object(mapping) => {
            let are_fields = visit(pointer, path).is_some();
            for (key, value) in mapping {
                let escaped = key.replace('~', "~0").replace('/', "~1");
                let path = join(path, if are_fields { key } else { "*" });
                walk(value, &format!("{pointer}/{escaped}"), &path, visit);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                walk(
                    value,
                    &format!("{pointer}/{index}"),
                    &format!("{path}[]"),
                    visit,
                );
            }
        }
        _ => {}
    }
}

fn join(path: &str, field: &str) -> String {
    match path {
        "" => field.to_owned(),
        path => format!("{path}.{field}"),
    }
}

/// The fields that the parser would take in the mapping at `pointer`; `None` if any name will do there.
fn expected(configuration: &Value, pointer: &str, check: Check) -> Option<Vec<String>> {
    const STRANGE: &str = "noSuchField";
    let mut edited = configuration.clone();
    let Some(Value::Object(mapping)) = edited.pointer_mut(pointer) else {
        panic!("{pointer} is no mapping");
    };
    mapping.insert(STRANGE.to_owned(), Value::Null);
    let problems = check(edited.to_string().as_bytes()).expect_err(pointer);
    let rest = problems
        .told()
        .first()?
        .message
        .strip_prefix(&format!("unknown field \"{STRANGE}\", expected "))?;
    Some(
        rest.split('"')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect(),
    )
}
