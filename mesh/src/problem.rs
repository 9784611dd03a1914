//! What is wrong with the manifests: each finding names file, line and field, and says what to write instead.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// Defines the codes, so that none can be without its sentence, and none be missing in the list of all.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal $level:ident $title:literal, $help:literal;)+) => {
        /// What kind of problem it is, by a code that stays the same from version to version. Messages may be worded better,
        /// so scripts and suppressions should go by these.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)+
        }

        impl Code {
            /// All codes, in their order.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The code itself: `TG0204`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)+
                }
            }

            /// The kind of problem in a few words.
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)+
                }
            }

            /// What to do about it, in a sentence.
            pub fn help(self) -> &'static str {
                match self {
                    $(Self::$name => $help,)+
                }
            }

            /// How bad it is.
            pub fn level(self) -> Level {
                match self {
                    $(Self::$name => Level::$level,)+
                }
            }
        }
    };
}

codes! {
    /// A file is not there, too large, not text; a folder is empty.
    Unreadable = "TG0101" Error "A file or folder cannot be read",
        "Name a file that is there and is UTF-8 text of at most 16 MiB, or a folder with manifests in it.";
    /// The parser can go no further.
    Syntax = "TG0102" Error "A file is not YAML or JSON",
        "Mend the line that is named; what follows it in the file has not been read.";
    /// Other tools may read it differently, or not at all.
    Ambiguous = "TG0103" Error "YAML that tools read in different ways",
        "Write it in the way that every tool reads alike: quote strings, give each key once, leave tags out.";
    /// Of a `kustomization.yaml` or one of its patches.
    Kustomization = "TG0104" Error "A kustomization cannot be built",
        "Mend kustomization.yaml or the patch; of kustomize, `resources` and `patches` are read.";
    /// The document is no object, or one of a kind or version that is not read.
    Kind = "TG0201" Error "A document is no object of a kind that is known",
        "Write apiVersion, kind, metadata and spec of a kind that the local mesh knows.";
    /// Misspelt, or in the wrong place.
    UnknownField = "TG0202" Error "A field does not exist",
        "Write the name as Kubernetes or Istio has it, at the level where it belongs.";
    /// Nothing is assumed in its place.
    MissingField = "TG0203" Error "A field is missing",
        "Write the field.";
    /// Of the wrong type, out of range, not in the form that it must have.
    Value = "TG0204" Error "A value is not what the field takes",
        "Write a value of the type, form and range that the message names.";
    /// A cluster would keep the last one.
    Duplicate = "TG0205" Error "The same object is there twice",
        "Keep one of the two, or give one another name or namespace.";
    /// Valid on a cluster; `tollgate up` would have to ignore it, and refuses instead.
    Unimplemented = "TG0206" Error "Not implemented by the local mesh",
        "A cluster takes it. Write what the message suggests, or leave it out of what the local mesh reads.";
    /// Each object is right by itself.
    Mismatch = "TG0301" Error "Objects do not fit together",
        "Mend the reference or the contradiction, and name all files that belong together on the command line.";
    /// Each filter is right by itself.
    Trust = "TG0302" Error "Filters of a proxy contradict each other",
        "Mend the plugin that is named, or the one in front of it: a type must rest on what was verified, and what one filter writes no other may overwrite.";
    /// It fails safely, or believes more than was meant.
    Doubt = "TG0303" Warning "Filters or rules of a proxy do something else than seems to be meant",
        "Mend the plugin, the AuthorizationPolicy, or the RequestAuthentication of its proxy; leave it if it is meant so.";
    /// Each proxy is right by itself.
    Across = "TG0304" Error "A proxy believes another that does not vouch for it",
        "Mend the proxy that is named: let the filter run there that writes the header, and rest what it writes on something verified; or take its identity out of those that are believed.";
    /// A cluster takes it, and its labels would be in metrics' names.
    Labels = "TG0305" Error "A plugin's metrics have labels that its proxies do not know, or take for others",
        "List them in the annotation sidecar.istio.io/extraStatTags of the workload's pods, or give them other names, as the message has it; running pods need a restart.";
    /// In the words of the filter's own parser.
    Configuration = "TG0401" Error "A filter refuses its configuration",
        "Mend the field of pluginConfig; the README of the plugin explains each.";
    /// Only where modules are built from this workspace.
    Module = "TG0402" Error "A plugin has no module",
        "Name a module of wasm-plugins/, or add one.";
    /// It may be any other Wasm filter, or a misspelt name.
    Unchecked = "TG0403" Note "A plugin's configuration is not checked",
        "Nothing, if the module is not one of Tollgate's; else mend the name at the end of its url.";
    /// On purpose; but what is to be enforced one day is easily forgotten.
    Shadow = "TG0404" Note "A limit is in shadow",
        "Nothing, while it is watched; write `mode: enforce` when it is to refuse.";
    /// Told by the filter too, when it is configured.
    Bodies = "TG0405" Error "A plugin's module does not see the bodies that its configuration reads",
        "Write `-bodies` behind the module's name in the url.";
    /// It works, and costs more than it has to.
    NoBodies = "TG0406" Warning "A plugin's module sees bodies that nothing reads",
        "Write the module's name without `-bodies` in the url: the proxy then calls it less often.";
    /// Server-side apply and Git have no such limit.
    Large = "TG0501" Warning "A manifest is too large for kubectl apply",
        "Apply it with `kubectl apply --server-side`, or make several manifests of it; ask for a claim of the token instead of listing ids in rules.";
    /// Whatever applies it.
    TooLarge = "TG0502" Error "A manifest is too large for a cluster",
        "Make several manifests of it; ask for a claim of the token instead of listing ids in rules.";
    /// Found by its key or its name.
    LocalIssuer = "TG0601" Error "The local issuer is trusted outside of its overlay",
        "Keep it in istio/overlays/local; elsewhere name the issuer and the jwksUri of an identity provider.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Must be mended.
    Error,
    /// Works, with a reservation.
    Warning,
    /// Only for information.
    Note,
}

impl Level {
    /// `error`, `warning`, `note`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, as the caller named it (or as found below the folder that the caller named).
    pub file: PathBuf,
    /// The line in that file, counted from 1.
    pub line: usize,
    /// The field, as in `spec.http[0].timeout`; empty when the problem is not one of a field.
    pub field: String,
    /// What is wrong with which value, and what to write instead.
    pub message: String,
    /// What kind of problem it is.
    pub code: Code,
}

impl Problem {
    /// A problem of a line, for what has no field: a file that cannot be read, unless [`of`](Self::of) says otherwise.
    pub fn at(file: impl AsRef<Path>, line: usize, message: impl Into<String>) -> Self {
        Self {
            file: file.as_ref().to_path_buf(),
            line: line.max(1),
            field: String::new(),
            message: message.into(),
            code: Code::Unreadable,
        }
    }

    /// The same problem as one of another kind.
    pub fn of(self, code: Code) -> Self {
        Self { code, ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// The form of the command's JSON events: `{file, line, field, reason}`.
impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Problem", 4)?;
        // Not the path itself: serde refuses one that is not UTF-8, and an event must not fail on it.
        fields.serialize_field("file", &self.file.to_string_lossy())?;
        fields.serialize_field("line", &self.line)?;
        fields.serialize_field("field", &self.field)?;
        fields.serialize_field("reason", &self.message)?;
        fields.end()
    }
}

/// Every problem that was found, never an empty list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// `Ok(value)` if nothing was found, else all of it in the order of the files' lines.
    pub fn or<T>(mut found: Vec<Problem>, value: T) -> Result<T, Self> {
        if found.is_empty() {
            return Ok(value);
        }
        found.sort();
        found.dedup();
        Err(Self(found))
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}
