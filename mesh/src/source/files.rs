//! Which files are read: single files, plain folders, and folders with a kustomization.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::field::{FieldPath, Segment};
use super::{Document, Source, decode, patch, yaml};
use crate::problem::{Code, Problem};

/// The names that kustomize knows, in its order.
const KUSTOMIZATION: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// A file is read into memory whole; one above this size is not a manifest.
const LARGEST: u64 = 16 << 20;

/// What `kustomization.yaml` may say here. The other fields of kustomize make or transform objects, which is not implemented.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kustomization {
    #[serde(default)]
    api_version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    /// Has no effect, as in kustomize.
    #[serde(default, rename = "metadata")]
    _metadata: Option<Value>,
    /// Files in the folder, and folders anywhere with a kustomization of their own.
    #[serde(default)]
    resources: Vec<String>,
    /// What is changed in them, in this order.
    #[serde(default)]
    patches: Vec<patch::Entry>,
}

/// What some paths say, and where everything was looked for.
#[derive(Default)]
pub(crate) struct Reading {
    /// With problems, those that had none.
    pub(crate) documents: Vec<Document>,
    pub(crate) problems: Vec<Problem>,
    /// Every file that was read, or that was asked for and could not be.
    pub(crate) files: BTreeSet<PathBuf>,
    /// Every folder that has one of them, and every folder whose entries decide what is read.
    pub(crate) folders: BTreeSet<PathBuf>,
}

/// Reads all documents of all paths.
pub(crate) fn read(paths: &[PathBuf]) -> Reading {
    let mut reader = Reader::default();
    for path in paths {
        let path = plain(path);
        reader.path(&path, &Asker::Caller(&path));
    }
    let mut folders = reader.folders;
    for file in &reader.files {
        // What is behind a link changes elsewhere.
        for file in [file.clone(), real(file)] {
            let mut around = file.ancestors().skip(1).map(|folder| {
                if folder.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    folder
                }
            });
            // For a file that is not there, where a folder on the way to it would appear.
            folders.extend(around.find(|folder| folder.is_dir()).map(Path::to_path_buf));
        }
    }
    Reading {
        documents: reader.documents,
        problems: reader.problems,
        files: reader.files,
        folders,
    }
}

#[derive(Default)]
struct Reader {
    documents: Vec<Document>,
    problems: Vec<Problem>,
    files: BTreeSet<PathBuf>,
    folders: BTreeSet<PathBuf>,
    /// Every file and kustomization that was read, by its real path, with who asker for it.
    done: HashMap<PathBuf, String>,
    /// The kustomizations that are being read, by their real paths.
    open: Vec<PathBuf>,
}

/// Who names a path, and so where a problem with it is.
enum Asker<'a> {
    Caller(&'a Path),
    Folder(&'a Path),
    Kustomization {
        source: &'a Source,
        /// Of the kustomization.
        field: FieldPath,
        name: &'a str,
    },
}

impl Asker<'_> {
    /// A problem with the path itself; the message goes on where its name ends.
    fn problem(&self, message: &str) -> Problem {
        match self {
            Self::Caller(path) | Self::Folder(path) => Problem::at(path, 1, message),
            Self::Kustomization {
                source,
                field,
                name,
            } => source
                .problem_at(field, format!("{name:?} {message}"))
                .of(Code::Kustomization),
        }
    }

    fn place(&self) -> String {
        match self {
            Self::Caller(_) => "the command line".to_owned(),
            Self::Folder(path) => path.display().to_string(),
            Self::Kustomization { source, field, .. } => {
                let (file, line) = source.place(field);
                format!("{}:{line}", file.display())
            }
        }
    }
}

impl Reader {
    fn path(&mut self, path: &Path, asker: &Asker<'_>) {
        if !path.is_dir() {
            if is_kustomization(path) {
                let folder = path
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty())
                    .unwrap_or(Path::new("."));
                self.kustomization(folder, path, asker);
            } else {
                self.file(path, asker);
            }
        } else if let Some(file) = kustomization(path) {
            self.kustomization(path, &file, asker);
        } else {
            let before = (self.documents.len(), self.problems.len());
            self.folder(path, asker);
            if before == (self.documents.len(), self.problems.len())
                && matches!(asker, Asker::Caller(_))
            {
                self.problems.push(asker.problem(
                    "has no manifests: no kustomization.yaml, and no .yaml, .yml or .json file",
                ));
            }
        }
    }

    /// All manifests below a folder that has no kustomization, in the order of their names.
    fn folder(&mut self, folder: &Path, asker: &Asker<'_>) {
        self.folders.insert(folder.to_path_buf());
        let entries = fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        let mut names: Vec<std::ffi::OsString> = match entries {
            Ok(names) => names,
            Err(error) => {
                return self
                    .problems
                    .push(asker.problem(&format!("cannot be read: {error}")));
            }
        };
        names.sort();
        for name in names {
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = folder.join(&name);
            let is_manifest = path.extension().is_some_and(|extension| {
                ["yaml", "yml", "json"]
                    .iter()
                    .any(|known| extension == *known)
            });
            // A link to a folder may lead back up.
            let is_link = path.is_symlink();
            if path.is_dir() && !is_link {
                match kustomization(&path) {
                    Some(file) => self.kustomization(&path, &file, &Asker::Folder(&path)),
                    None => self.folder(&path, &Asker::Folder(&path)),
                }
            } else if is_manifest && !path.is_dir() {
                self.file(&path, &Asker::Folder(&path));
            }
        }
    }

    fn file(&mut self, path: &Path, asker: &Asker<'_>) {
        if let Some(text) = self.once(path, asker) {
            let (documents, problems) = yaml::objects(path, &text);
            self.documents.extend(documents);
            self.problems.extend(problems);
        }
    }

    /// The text of a file that was not read before.
    fn once(&mut self, path: &Path, asker: &Asker<'_>) -> Option<String> {
        let text = self.text(path, asker)?;
        if let Some(first) = self.done.insert(real(path), asker.place()) {
            self.problems
                .push(asker.problem(&format!("is read twice, it was named by {first} already")));
            return None;
        }
        Some(text)
    }

    /// The text of a file.
    fn text(&mut self, path: &Path, asker: &Asker<'_>) -> Option<String> {
        self.files.insert(path.to_path_buf());
        let mut bytes = Vec::new();
        let read =
            fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
        if let Err(error) = read {
            self.problems
                .push(asker.problem(&format!("cannot be read: {error}")));
            return None;
        }
        if bytes.len() as u64 > LARGEST {
            self.problems.push(Problem::at(
                path,
                1,
                format!("is larger than {} MiB", LARGEST >> 20),
            ));
            return None;
        }
        match String::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(error) => {
                let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
                self.problems.push(Problem::at(path, line, "is not UTF-8"));
                None
            }
        }
    }

    fn kustomization(&mut self, folder: &Path, file: &Path, asker: &Asker<'_>) {
        let root = real(folder);
        self.folders.insert(folder.to_path_buf());
        if self.open.contains(&root) {
            return self.problems.push(asker.problem(
                "includes this kustomization again, a folder cannot be a part of itself",
            ));
        }
        // So does kustomize, whatever that folder names.
        if self.open.iter().any(|inside| inside.starts_with(&root)) {
            return self.problems.push(asker.problem(
                "is a folder around this kustomization, which kustomize refuses; name the folders in it that are needed",
            ));
        }
        let Some(text) = self.once(file, asker) else {
            return;
        };
        let (documents, problems) = yaml::parse(file, &text, 1);
        if !problems.is_empty() {
            return self.problems.extend(problems);
        }
        let mut documents = documents.into_iter();
        let (document, rest) = (documents.next(), documents.next());
        let Some(Document { value, source }) = document else {
            let message = "is empty, write resources: and what it consists of";
            return self
                .problems
                .push(Problem::at(file, 1, message).of(Code::Kustomization));
        };
        if let Some(second) = rest {
            return self.problems.push(
                second
                    .source
                    .problem("", "a kustomization is one document")
                    .of(Code::Kustomization),
            );
        }
        let Some(content) = decode::decode::<Kustomization>(
            value,
            "",
            "Kustomization",
            &source,
            &mut self.problems,
        ) else {
            return;
        };
        // Kustomize fills in what is left out.
        for (field, value, only) in [
            (
                "apiVersion",
                &content.api_version,
                "kustomize.config.k8s.io/v1beta1",
            ),
            ("kind", &content.kind, "Kustomization"),
        ] {
            if let Some(value) = value.as_deref().filter(|value| *value != only) {
                self.problems.push(
                    source
                        .problem(field, format!("{value:?} is not supported, write {only}"))
                        .of(Code::Kustomization),
                );
            }
        }
        self.open.push(root.clone());
        let (first, before) = (self.documents.len(), self.problems.len());
        for (index, name) in content.resources.iter().enumerate() {
            let field = FieldPath::new(vec![Segment::from("resources"), Segment::Index(index)]);
            self.resource(
                folder,
                &root,
                name,
                &Asker::Kustomization {
                    source: &source,
                    field,
                    name,
                },
            );
        }
        self.open.pop();
        let complete = self.problems.len() == before;
        // Only what this kustomization names is changed by it.
        let mut objects = self.documents.split_off(first);
        for (index, entry) in content.patches.iter().enumerate() {
            let place = patch::Place {
                kustomization: &source,
                index,
            };
            if let Some(content) = self.patch(folder, &root, entry, &place) {
                let problems = &mut self.problems;
                patch::apply(entry, content, &place, &mut objects, complete, problems);
            }
        }
        self.documents.append(&mut objects);
    }

    /// What a patch consists of; none if something is wrong with it.
    fn patch(
        &mut self,
        folder: &Path,
        root: &Path,
        entry: &patch::Entry,
        place: &patch::Place<'_>,
    ) -> Option<Vec<Document>> {
        let (documents, problems) = match (&entry.path, &entry.patch) {
            (Some(name), None) => {
                let path = plain(&folder.join(name));
                let asker = Asker::Kustomization {
                    source: place.kustomization,
                    field: place.field("path"),
                    name,
                };
                if path.exists() && !real(&path).starts_with(root) {
                    self.problems.push(outside(&asker, folder));
                    return None;
                }
                let text = self.text(&path, &asker)?;
                yaml::parse(&path, &text, 1)
            }
            (None, Some(text)) => place.kustomization.text(&place.field("patch"), text),
            _ => {
                self.problems.push(place.problem(
                    "",
                    "write one of path, which names a file, and patch, which is the patch itself",
                ));
                return None;
            }
        };
        let good = problems.is_empty();
        self.problems.extend(problems);
        good.then_some(documents)
    }

    fn resource(&mut self, folder: &Path, root: &Path, name: &str, asker: &Asker<'_>) {
        let path = plain(&folder.join(name));
        self.files.insert(path.clone());
        let refused = if path.is_dir() {
            self.files.remove(&path);
            self.folders.insert(path.clone());
            match kustomization(&path) {
                Some(file) => return self.kustomization(&path, &file, asker),
                None => "is a folder without kustomization.yaml".to_owned(),
            }
        } else if !path.exists() {
            let remote = name.contains("://") || name.contains("?ref=") || name.starts_with("git@");
            if remote {
                "is remote, which the local mesh does not implement yet"
            } else {
                "does not exist"
            }
            .to_owned()
        } else if is_kustomization(&path) {
            "is a kustomization, name its folder instead".to_owned()
        } else if !real(&path).starts_with(root) {
            return self.problems.push(outside(asker, folder));
        } else {
            return self.file(&path, asker);
        };
        self.problems.push(asker.problem(&refused));
    }
}

/// As kustomize has it, so that a folder is complete in itself.
fn outside(asker: &Asker<'_>, folder: &Path) -> Problem {
    asker.problem(&format!(
        "is a file outside of {}, name a folder with a kustomization.yaml instead",
        folder.display()
    ))
}

fn is_kustomization(file: &Path) -> bool {
    file.file_name()
        .is_some_and(|name| KUSTOMIZATION.iter().any(|known| name == *known))
}

fn kustomization(folder: &Path) -> Option<PathBuf> {
    KUSTOMIZATION
        .iter()
        .map(|name| folder.join(name))
        .find(|file| file.is_file())
}

/// The path without links, to tell one file from another; as it is if the system does not say.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// The path without `.` and `..`, for people.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(plain.components().next_back(), Some(Component::Normal(_))) =>
            {
                plain.pop();
            }
            component => plain.push(component),
        }
    }
    if plain.as_os_str().is_empty() {
        plain.push(".");
    }
    // Behind a link to a folder, `..` is somewhere else.
    if real(&plain) == real(path) || !path.exists() {
        plain
    } else {
        path.to_path_buf()
    }
}
