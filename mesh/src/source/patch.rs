//! What kustomizations change in the objects that they name: merge patches and JSON 6902 operations.
//!
//! Every change is made twice, to the values and to their marks, so that a problem with a value that a patch wrote is
//! reported at the patch. As kustomize has it, a merge patch merges mappings, replaces lists and removes what is null; only
//! Kubernetes' own kinds have lists that kustomize merges item by item, which is refused here.

use std::path::Path;
use std::sync::Arc;

use json_patch::jsonptr::{PointerBuf, Token};
use json_patch::{PatchErrorKind, PatchOperation};
use regex_lite::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::field::{FieldPath, Segment};
use super::mark::{Inner, Mark};
use super::{Document, Source, decode};
use crate::problem::{Code, Problem};

/// One of a kustomization's `patches`.
#[derive(Debug, Deserialize)]
#[serde(rename = "Patch", rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Entry {
    /// A file in the folder.
    #[serde(default)]
    pub(crate) path: Option<String>,
    /// The patch itself.
    #[serde(default)]
    pub(crate) patch: Option<String>,
    /// Which objects it is for; a merge patch says so itself.
    #[serde(default)]
    target: Option<Selector>,
}

/// Selects objects: each value that is written is a regular expression for all of a name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Selector {
    #[serde(default)]
    group: Option<String>,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
}

/// One of the operations of a JSON patch.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Operation {
    op: Op,
    path: String,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    value: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename = "JSON patch operation", rename_all = "lowercase")]
enum Op {
    Add,
    Remove,
    Replace,
    Move,
    Copy,
    Test,
}

/// What an object is called.
struct Id<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Id<'a> {
    fn of(object: &'a Value) -> Option<Self> {
        let api_version = object.get("apiVersion")?.as_str()?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let metadata = object.get("metadata")?;
        Some(Self {
            group,
            version,
            kind: object.get("kind")?.as_str()?,
            namespace: metadata
                .get("namespace")
                .and_then(Value::as_str)
                .filter(|namespace| !namespace.is_empty())
                .unwrap_or("default"),
            name: metadata.get("name")?.as_str()?,
        })
    }

    fn same(&self, other: &Id<'_>) -> bool {
        (
            self.group,
            self.version,
            self.kind,
            self.namespace,
            self.name,
        ) == (
            other.group,
            other.version,
            other.kind,
            other.namespace,
            other.name,
        )
    }
}

/// Where a patch is named: one of the `patches` of a kustomization.
pub(crate) struct Place<'a> {
    pub(crate) kustomization: &'a Source,
    pub(crate) index: usize,
}

impl Place<'_> {
    pub(crate) fn field(&self, name: &str) -> FieldPath {
        let mut path = vec![Segment::from("patches"), Segment::Index(self.index)];
        if !name.is_empty() {
            path.push(Segment::from(name));
        }
        FieldPath::new(path)
    }

    pub(crate) fn problem(&self, field: &str, message: impl Into<String>) -> Problem {
        self.kustomization
            .problem_at(&self.field(field), message)
            .of(Code::Kustomization)
    }
}

/// A problem with a patch itself.
fn wrong(patch: &Source, field: &FieldPath, message: impl Into<String>) -> Problem {
    patch.problem_at(field, message).of(Code::Kustomization)
}

/// Changes `objects`. `complete` says whether all of them could be read: if not, what is not among them may be elsewhere.
pub(crate) fn apply(
    entry: &Entry,
    content: Vec<Document>,
    place: &Place<'_>,
    objects: &mut Vec<Document>,
    complete: bool,
    problems: &mut Vec<Problem>,
) {
    let target = match &entry.target {
        None => None,
        Some(selector) => match Target::new(selector, place, problems) {
            Some(target) => Some(target),
            None => return,
        },
    };
    if content.is_empty() {
        let field = if entry.path.is_some() {
            "path"
        } else {
            "patch"
        };
        problems.push(place.problem(
            field,
            "is empty, write a merge patch or a list of JSON 6902 operations",
        ));
    }
    if content.len() > 1 && target.is_some() {
        problems.push(place.problem(
            "target",
            "there are several patches in one, write each as an entry of its own",
        ));
        return;
    }
    for document in content {
        let source = document.source.clone();
        if document.value.is_array() {
            let Some(target) = &target else {
                problems.push(place.problem(
                    "target",
                    "is missing, write the kind and the name of what these operations change",
                ));
                continue;
            };
            let Some(operations) = operations(document, problems) else {
                continue;
            };
            let mut found = false;
            for object in objects.iter_mut() {
                if Id::of(&object.value).is_some_and(|id| target.selects(&id)) {
                    found = true;
                    if let Err(problem) = operate(&operations, &source, object) {
                        problems.push(problem);
                    }
                }
            }
            if !found && complete {
                problems.push(place.problem("target", target.selects_nothing(objects)));
            }
        } else {
            let before = problems.len();
            let Some(id) = check_merge_patch(&document, problems) else {
                continue;
            };
            if problems.len() > before {
                continue;
            }
            let selects = |object: &Document| {
                Id::of(&object.value).is_some_and(|of| {
                    target
                        .as_ref()
                        .map_or_else(|| of.same(&id), |target| target.selects(&of))
                })
            };
            let mut found = false;
            let delete = document.value.get("$patch").is_some();
            objects.retain_mut(|object| {
                if !selects(object) {
                    return true;
                }
                found = true;
                if !delete {
                    merge_into(object, &document);
                }
                !delete
            });
            if !found && complete {
                problems.push(match &target {
                    Some(target) => place.problem("target", target.selects_nothing(objects)),
                    None => wrong(
                        &source,
                        &FieldPath::parse("metadata.name"),
                        format!(
                            "there is no {} {}/{} of this apiVersion; {}",
                            id.kind,
                            id.namespace,
                            id.name,
                            there_are(objects, |of| of.kind == id.kind)
                        ),
                    ),
                });
            }
        }
    }
}

/// A selector whose expressions are known to be good.
struct Target {
    group: Option<Regex>,
    version: Option<Regex>,
    kind: Option<Regex>,
    name: Option<Regex>,
    namespace: Option<Regex>,
}

impl Target {
    fn new(selector: &Selector, place: &Place<'_>, problems: &mut Vec<Problem>) -> Option<Self> {
        let before = problems.len();
        let mut whole = |name: &str, expression: &Option<String>| {
            let expression = expression.as_ref().filter(|text| !text.is_empty())?;
            match Regex::new(&format!("^(?:{expression})$")) {
                Ok(regex) => Some(regex),
                Err(error) => {
                    let mut path = place.field("target").segments().to_vec();
                    path.push(Segment::from(name));
                    problems.push(wrong(
                        place.kustomization,
                        &FieldPath::new(path),
                        format!("{expression:?} is not a regular expression: {error}"),
                    ));
                    None
                }
            }
        };
        let target = Self {
            group: whole("group", &selector.group),
            version: whole("version", &selector.version),
            kind: whole("kind", &selector.kind),
            name: whole("name", &selector.name),
            namespace: whole("namespace", &selector.namespace),
        };
        (problems.len() == before).then_some(target)
    }

    fn selects(&self, id: &Id<'_>) -> bool {
        let fits = |wanted: &Option<Regex>, value: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted.is_match(value))
        };
        fits(&self.group, id.group)
            && fits(&self.version, id.version)
            && fits(&self.kind, id.kind)
            && fits(&self.namespace, id.namespace)
            && fits(&self.name, id.name)
    }

    fn selects_nothing(&self, objects: &[Document]) -> String {
        let of_kind = |id: &Id<'_>| {
            self.kind
                .as_ref()
                .is_some_and(|kind| kind.is_match(id.kind))
        };
        format!("selects nothing; {}", there_are(objects, of_kind))
    }
}

/// For messages: what might have been meant.
fn there_are(objects: &[Document], of_kind: impl Fn(&Id<'_>) -> bool) -> String {
    let ids: Vec<Id<'_>> = objects
        .iter()
        .filter_map(|object| Id::of(&object.value))
        .collect();
    let mut names: Vec<String> = ids
        .iter()
        .filter(|id| of_kind(id))
        .map(|id| format!("{} {}/{}", id.kind, id.namespace, id.name))
        .collect();
    if names.is_empty() {
        names = ids.iter().map(|id| id.kind.to_owned()).collect();
    }
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        "this kustomization has no objects".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    }
}

/// What a merge patch must have, and what it must not. Its name if it has one.
fn check_merge_patch<'a>(patch: &'a Document, problems: &mut Vec<Problem>) -> Option<Id<'a>> {
    let (value, source) = (&patch.value, &patch.source);
    if !value.is_object() {
        problems.push(wrong(
            source,
            &FieldPath::default(),
            format!(
                "{} is not a patch, write a merge patch or a list of JSON 6902 operations",
                decode::describe(value)
            ),
        ));
        return None;
    }
    let mut missing = false;
    for field in ["apiVersion", "kind", "metadata.name"] {
        let path = FieldPath::parse(field);
        if !at(value, path.segments()).is_some_and(Value::is_string) {
            missing = true;
            problems.push(wrong(source, &path, "is missing, write that of the object"));
        }
    }
    if missing {
        return None;
    }
    let id = Id::of(value)?;
    let is_core = !id.group.contains('.') || id.group.ends_with(".k8s.io");
    for path in special(value, is_core) {
        let refused = match path.last() {
            Some(Segment::Key(key)) if key == "$patch" && path.len() == 1 => {
                if value["$patch"] == "delete" {
                    continue;
                }
                "is not implemented by the local mesh yet, write delete".to_owned()
            }
            Some(Segment::Key(key)) if key.starts_with('$') => {
                format!(
                    "{key} is not implemented by the local mesh yet, write JSON 6902 operations instead"
                )
            }
            _ => format!(
                "kustomize merges some lists of a {} item by item, which the local mesh does not implement yet; write JSON \
                 6902 operations instead",
                id.kind
            ),
        };
        problems.push(wrong(source, &FieldPath::new(path), refused));
    }
    Some(id)
}

fn at<'a>(value: &'a Value, path: &[Segment]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, segment| match segment {
        Segment::Key(key) => value.get(key),
        Segment::Index(index) => value.get(index),
    })
}

/// Where a patch has directives of kustomize, and lists if these count.
fn special(value: &Value, lists: bool) -> Vec<Vec<Segment>> {
    let mut found = Vec::new();
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let mut inside = special(value, lists);
                if name.starts_with('$') {
                    inside = vec![Vec::new()];
                }
                for mut path in inside {
                    path.insert(0, Segment::from(name.as_str()));
                    found.push(path);
                }
            }
        }
        Value::Array(_) if lists => found.push(Vec::new()),
        _ => {}
    }
    found
}

/// An object taken apart for changing it, with the file that it is in.
fn open(object: &Document) -> (Mark, Arc<Path>) {
    let (mark, file) = object.source.find(&FieldPath::default());
    let file = file.unwrap_or(&object.source.file).clone();
    (mark.clone(), file)
}

fn merge_into(object: &mut Document, patch: &Document) {
    let (mut mark, file) = open(object);
    let (mut of_patch, patch_file) = open(patch);
    of_patch.file = Some(patch_file);
    let mut value = patch.value.clone();
    // They say what is changed, and kustomize keeps them as they are.
    if let Value::Object(fields) = &mut value {
        fields.remove("kind");
        if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
            metadata.remove("name");
            metadata.remove("namespace");
        }
    }
    merge(&mut object.value, &mut mark, value, &of_patch);
    object.source = Source::new(file, Arc::new(mark));
}

/// RFC 7386.
fn merge(value: &mut Value, mark: &mut Mark, patch: Value, of_patch: &Mark) {
    let Value::Object(patch) = patch else {
        *value = patch;
        *mark = of_patch.clone();
        return;
    };
    if !value.is_object() {
        *value = Value::Object(serde_json::Map::new());
        *mark = Mark {
            line: of_patch.line,
            file: of_patch.file.clone(),
            ..Mark::default()
        };
    }
    if !matches!(mark.inner, Inner::Fields(_)) {
        mark.inner = Inner::Fields(Default::default());
    }
    let (Value::Object(fields), Inner::Fields(marks)) = (value, &mut mark.inner) else {
        return;
    };
    for (name, new) in patch {
        if new.is_null() {
            fields.remove(&name);
            marks.remove(&name);
            continue;
        }
        let mut of_new = of_patch
            .child(&Segment::from(name.as_str()))
            .cloned()
            .unwrap_or_default();
        of_new.file = of_new.file.or_else(|| of_patch.file.clone());
        merge(
            fields.entry(name.clone()).or_insert(Value::Null),
            marks.entry(name).or_default(),
            new,
            &of_new,
        );
    }
}

/// An operation, and where it and its value are written.
struct Placed {
    operation: PatchOperation,
    index: usize,
    value: Option<Mark>,
}

fn operations(document: Document, problems: &mut Vec<Problem>) -> Option<Vec<Placed>> {
    let Document { value, source } = document;
    let written = value.clone();
    let list: Vec<Operation> = decode::decode(value, "", "Patch", &source, problems)?;
    let (_, file) = source.find(&FieldPath::default());
    let file = file.unwrap_or(&source.file).clone();
    let before = problems.len();
    let mut placed = Vec::new();
    for (index, operation) in list.into_iter().enumerate() {
        let field = |name: &str| FieldPath::new(vec![Segment::Index(index), Segment::from(name)]);
        let mut pointer = |name: &str, text: Option<&str>| {
            let Some(text) = text else {
                problems.push(wrong(
                    &source,
                    &field(name),
                    "is missing, write where the value is now",
                ));
                return None;
            };
            match PointerBuf::parse(text) {
                Ok(pointer) if !text.is_empty() => Some(pointer),
                _ => {
                    problems.push(wrong(
                        &source,
                        &field(name),
                        format!("{text:?} is not a JSON pointer, write \"/spec/http/0/timeout\" or the like"),
                    ));
                    None
                }
            }
        };
        let Some(path) = pointer("path", Some(&operation.path)) else {
            continue;
        };
        let from = match operation.op {
            Op::Move | Op::Copy => match pointer("from", operation.from.as_deref()) {
                Some(from) => from,
                None => continue,
            },
            _ => PointerBuf::default(),
        };
        let takes_value = matches!(operation.op, Op::Add | Op::Replace | Op::Test);
        if takes_value && written[index].get("value").is_none() {
            problems.push(wrong(&source, &field("value"), "is missing"));
            continue;
        }
        let value = operation.value.unwrap_or_default();
        let mark = takes_value.then(|| {
            let mut mark = source.mark(&field("value")).clone();
            mark.file = mark.file.or_else(|| Some(file.clone()));
            mark
        });
        let operation = match operation.op {
            Op::Add => PatchOperation::Add(json_patch::AddOperation { path, value }),
            Op::Remove => PatchOperation::Remove(json_patch::RemoveOperation { path }),
            Op::Replace => PatchOperation::Replace(json_patch::ReplaceOperation { path, value }),
            Op::Move => PatchOperation::Move(json_patch::MoveOperation { from, path }),
            Op::Copy => PatchOperation::Copy(json_patch::CopyOperation { from, path }),
            Op::Test => PatchOperation::Test(json_patch::TestOperation { path, value }),
        };
        placed.push(Placed {
            operation,
            index,
            value: mark,
        });
    }
    (problems.len() == before).then_some(placed)
}

fn operate(operations: &[Placed], source: &Source, object: &mut Document) -> Result<(), Problem> {
    let (mut mark, file) = open(object);
    for placed in operations {
        let single = std::slice::from_ref(&placed.operation);
        if let Err(error) = json_patch::patch(&mut object.value, single) {
            let what = Id::of(&object.value).map_or_else(
                || object.source.to_string(),
                |id| {
                    format!(
                        "{} {}/{} ({})",
                        id.kind, id.namespace, id.name, object.source
                    )
                },
            );
            let (name, message) = match (&error.kind, &placed.operation) {
                (PatchErrorKind::TestFailed, operation) => (
                    "value",
                    format!("is not what {what} has at {:?}", operation.path().as_str()),
                ),
                (
                    PatchErrorKind::InvalidFromPointer,
                    PatchOperation::Move(json_patch::MoveOperation { from, .. })
                    | PatchOperation::Copy(json_patch::CopyOperation { from, .. }),
                ) => ("from", format!("there is no {:?} in {what}", from.as_str())),
                (PatchErrorKind::CannotMoveInsideItself, _) => {
                    ("path", "is inside of what is moved".to_owned())
                }
                (_, operation) => (
                    "path",
                    format!("there is no {:?} in {what}", operation.path().as_str()),
                ),
            };
            let field = FieldPath::new(vec![Segment::Index(placed.index), Segment::from(name)]);
            return Err(wrong(source, &field, message));
        }
        // The values took the operation, so the marks, which have their shape, do as well.
        match &placed.operation {
            PatchOperation::Add(operation) => {
                put(
                    &mut mark,
                    tokens(&operation.path),
                    placed.value.clone(),
                    false,
                );
            }
            PatchOperation::Replace(operation) => {
                put(
                    &mut mark,
                    tokens(&operation.path),
                    placed.value.clone(),
                    true,
                );
            }
            PatchOperation::Remove(operation) => {
                take(&mut mark, tokens(&operation.path), &file);
            }
            PatchOperation::Move(operation) => {
                let moved = take(&mut mark, tokens(&operation.from), &file);
                put(&mut mark, tokens(&operation.path), moved, false);
            }
            PatchOperation::Copy(operation) => {
                let copy = look(&mark, &tokens(&operation.from), &file);
                put(&mut mark, tokens(&operation.path), copy, false);
            }
            PatchOperation::Test(_) => {}
        }
    }
    object.source = Source::new(file, Arc::new(mark));
    Ok(())
}

fn tokens(pointer: &PointerBuf) -> Vec<String> {
    pointer
        .tokens()
        .map(|token: Token<'_>| token.decoded().into_owned())
        .collect()
}

fn child<'a>(mark: &'a mut Mark, token: &str) -> Option<&'a mut Mark> {
    match &mut mark.inner {
        Inner::Nothing => None,
        Inner::Items(items) => items.get_mut(token.parse::<usize>().ok()?),
        Inner::Fields(fields) => fields.get_mut(token),
    }
}

/// A mark as it is elsewhere: with the file that it had from those around it, at last from its object.
fn look(mark: &Mark, path: &[String], file: &Arc<Path>) -> Option<Mark> {
    let (mut mark, mut file) = (mark, mark.file.as_ref().unwrap_or(file));
    for token in path {
        mark = match &mark.inner {
            Inner::Nothing => return None,
            Inner::Items(items) => items.get(token.parse::<usize>().ok()?)?,
            Inner::Fields(fields) => fields.get(token)?,
        };
        file = mark.file.as_ref().unwrap_or(file);
    }
    let mut mark = mark.clone();
    mark.file = Some(file.clone());
    Some(mark)
}

fn take(mark: &mut Mark, path: Vec<String>, file: &Arc<Path>) -> Option<Mark> {
    let taken = look(mark, &path, file)?;
    let (last, parents) = path.split_last()?;
    let parent = parents
        .iter()
        .try_fold(mark, |mark, token| child(mark, token))?;
    match &mut parent.inner {
        Inner::Nothing => {}
        Inner::Items(items) => {
            items.remove(last.parse::<usize>().ok()?);
        }
        Inner::Fields(fields) => {
            fields.remove(last);
        }
    }
    Some(taken)
}

fn put(mark: &mut Mark, path: Vec<String>, new: Option<Mark>, replace: bool) -> Option<()> {
    let new = new?;
    let (last, parents) = path.split_last()?;
    let parent = parents
        .iter()
        .try_fold(mark, |mark, token| child(mark, token))?;
    match &mut parent.inner {
        Inner::Nothing => {}
        Inner::Items(items) if last == "-" => items.push(new),
        Inner::Items(items) => {
            let index = last.parse::<usize>().ok()?;
            if replace && index < items.len() {
                items[index] = new;
            } else if index <= items.len() {
                items.insert(index, new);
            }
        }
        Inner::Fields(fields) => {
            fields.insert(last.clone(), new);
        }
    }
    Some(())
}
