//! The local issuer: who signs the tokens of a mesh that runs on one machine.
//!
//! It is a part of the overlay `istio/overlays/local`, in the folder `issuer` there. What is in git are a kustomization and a
//! RequestAuthentication that names the issuer, [`NAME`]; a key and its JWKS, as a patch of that RequestAuthentication, are made in every
//! checkout by whoever needs them first, `up` or `token`, and git is told to ignore them. So nobody but the owner of this
//! checkout can sign a token for it, `kubectl apply -k` builds the overlay without this tool, and a cluster that gets it takes no
//! token of another checkout.

mod key;

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use serde_json::json;
use tempfile::Builder;
use tollgate_mesh::Problem;

pub(crate) use key::{KEY_ID, Key};

use crate::error::{Hint, plain};

/// Its name: `iss` of its tokens, `issuer` of its rule. No such host exists, and nobody asks for it: the JWKS is inline.
pub(crate) const NAME: &str = "https://issuer.local.tollgate";

/// Whom its tokens are for unless they say otherwise: `aud`, and `audiences` of its rule.
pub(crate) const AUDIENCE: &str = "shop";

/// The claim that says for which tenant a token is.
pub(crate) const TENANT: &str = "tenant";

/// Where the overlay is in a repository. It is known by this path alone, so that nobody can make another place right for it.
pub(crate) const OVERLAY: &str = "istio/overlays/local";

/// Its folder in the overlay.
const FOLDER: &str = "issuer";

/// The key, for the user's eyes alone.
const KEY: &str = "key.pem";

/// The patch that puts the JWKS into the RequestAuthentication.
const JWKS: &str = "jwks.yaml";

/// The local issuer of one checkout.
#[derive(Debug)]
pub(crate) struct Issuer {
    /// What signs its tokens.
    pub(crate) key: Key,
    /// Where the key is.
    pub(crate) file: PathBuf,
    /// Whether the key was made just now.
    pub(crate) new: bool,
    /// Whether the JWKS was written just now.
    changed: bool,
}

impl Issuer {
    /// That of the overlay in this folder; key and JWKS are made if they are not there.
    pub(crate) fn of_overlay(overlay: &Path) -> anyhow::Result<Self> {
        if !fs::canonicalize(overlay).is_ok_and(|real| real.ends_with(OVERLAY)) {
            return Err(anyhow!(
                "{} is no folder {OVERLAY}, where the local issuer is",
                overlay.display()
            ))
            .hint("copy that of Tollgate into your repository, under the same path");
        }
        Self::of(&overlay.join(FOLDER))
    }

    /// That of a folder `issuer`.
    fn of(folder: &Path) -> anyhow::Result<Self> {
        if !folder.is_dir() {
            return Err(anyhow!("there is no folder {}", folder.display()))
                .hint(format!("it is a part of {OVERLAY}: copy it whole"));
        }
        let file = folder.join(KEY);
        let (pem, new) = match read(&file)? {
            Some(pem) => (pem, false),
            None => {
                let made = create(&file, &Key::generate()?)?;
                // Somebody else may have made one at the same moment, and there must be only one.
                let pem =
                    read(&file)?.with_context(|| format!("{} has gone again", file.display()))?;
                (pem, made)
            }
        };
        let key = Key::from_pem(&pem).with_context(|| file.display().to_string())?;
        let (jwks, wanted) = (folder.join(JWKS), patch(&key));
        let changed = read(&jwks)?.is_none_or(|text| text != wanted);
        if changed {
            replace(&jwks, &wanted)?;
        }
        Ok(Self {
            key,
            file,
            new,
            changed,
        })
    }
}

impl Issuer {
    /// That of a mesh, if it has one: these are the files that were read for it, and [`complete`].
    pub(crate) fn of_files(files: &[PathBuf]) -> anyhow::Result<Option<Self>> {
        let jwks = files.iter().find(|file| is_jwks(file));
        let folder = jwks.and_then(|file| file.parent());
        folder.map(Self::of).transpose()
    }

    /// Where the overlay is, if it is not that of the repository around a folder.
    pub(crate) fn elsewhere(&self, here: &Path) -> Option<&Path> {
        let overlay = self.file.parent()?.parent()?;
        let near = here
            .ancestors()
            .map(|folder| folder.join(OVERLAY))
            .find(|overlay| overlay.is_dir());
        let same = near.is_some_and(|near| {
            matches!((fs::canonicalize(near), fs::canonicalize(overlay)), (Ok(a), Ok(b)) if a == b)
        });
        (!same).then_some(overlay)
    }

    /// A token for a user of a tenant that is valid for so long.
    pub(crate) fn token(
        &self,
        user: &str,
        tenant: &str,
        lifetime: Duration,
    ) -> anyhow::Result<String> {
        let now = SystemTime::UNIX_EPOCH
            .elapsed()
            .context("the clock of this machine is before 1970")?;
        self.key.sign(&json!({
            "iss": NAME, "aud": AUDIENCE, "sub": user, TENANT: tenant,
            "iat": now.as_secs(), "exp": (now + lifetime).as_secs(),
        }))
    }
}

/// Makes what these files lack of local issuers, where there are any among them: the files are those that were read or asked for
/// in vain. Whether something is different now.
pub(crate) fn complete(files: &[PathBuf]) -> Result<bool, Problem> {
    let mut changed = false;
    for jwks in files.iter().filter(|file| is_jwks(file)) {
        let folder = jwks.parent().unwrap_or(Path::new("."));
        let issuer = Issuer::of(folder).map_err(|error| {
            let (message, hint) = plain(&error);
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            Problem::at(jwks, 1, format!("the local issuer: {message}{hint}"))
        })?;
        changed |= issuer.changed;
    }
    Ok(changed)
}

/// The problems in other words where what is wrong is that nobody has needed the local issuer yet.
pub(crate) fn explain(problems: &mut [Problem], files: &[PathBuf]) {
    let missing: Vec<&Path> = files
        .iter()
        .filter(|file| is_jwks(file) && !file.exists())
        .filter_map(|file| file.parent())
        .collect();
    let asked = format!("{JWKS:?} ");
    for problem in problems {
        let here = problem
            .file
            .parent()
            .is_some_and(|folder| missing.contains(&folder));
        if here && problem.message.starts_with(&asked) {
            problem.message = format!(
                "{JWKS:?} is not there yet: it belongs to the key of the local issuer, which is not in git, and is made with it by \
                 `tollgate token --user NAME` or by `tollgate up`"
            );
        }
    }
}

/// Whether a file is in an overlay of the local issuer. Of a link it is the link that counts: it is a file of where it is.
pub(crate) fn in_overlay(file: &Path) -> bool {
    let folder = file.parent().filter(|folder| *folder != Path::new(""));
    is_overlay(folder.unwrap_or(Path::new(".")))
}

/// Whether a folder is an overlay of the local issuer, or in one.
pub(crate) fn is_overlay(folder: &Path) -> bool {
    let Ok(real) = fs::canonicalize(folder) else {
        return false;
    };
    let names: Vec<Component<'_>> = real.components().collect();
    let overlay: Vec<Component<'_>> = Path::new(OVERLAY).components().collect();
    names.windows(overlay.len()).any(|window| window == overlay)
}

/// The key of the local issuer in the repository around a path, if it has been made.
pub(crate) fn key_around(path: &Path) -> Option<Key> {
    let real = fs::canonicalize(path).ok()?;
    let mut files = real
        .ancestors()
        .map(|folder| folder.join(OVERLAY).join(FOLDER).join(KEY));
    let pem = files.find_map(|file| fs::read_to_string(file).ok())?;
    // Whose is broken has no tokens, and is told by who needs the key.
    Key::from_pem(&pem).ok()
}

fn is_jwks(file: &Path) -> bool {
    let folder = file.parent().unwrap_or(Path::new(""));
    file.file_name().is_some_and(|name| name == JWKS)
        && fs::canonicalize(folder)
            .is_ok_and(|real| real.ends_with(Path::new(OVERLAY).join(FOLDER)))
}

/// The patch. The test keeps the JWKS from getting into the rule of another issuer.
fn patch(key: &Key) -> String {
    format!(
        "\
# Made by `tollgate` from key.pem beside it, and made anew whenever the two differ. Git ignores both: who has the key can sign
# tokens for any user, so what this file says is for this machine, and `tollgate check` refuses it anywhere else.
- op: test
  path: /spec/jwtRules/0/issuer
  value: {NAME}
- op: add
  path: /spec/jwtRules/0/jwks
  value: '{}'
",
        key.jwks()
    )
}

fn read(file: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Writes a private file, unless there is one already: whole, or not at all. Whether it did.
fn create(file: &Path, text: &str) -> anyhow::Result<bool> {
    match beside(file, text, 0o600)?.persist_noclobber(file) {
        Ok(_) => Ok(true),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error).with_context(|| format!("cannot write {}", file.display())),
    }
}

/// Writes a file, whole or not at all, in place of what was there.
fn replace(file: &Path, text: &str) -> anyhow::Result<()> {
    beside(file, text, 0o644)?
        .persist(file)
        .map(drop)
        .with_context(|| format!("cannot write {}", file.display()))
}

/// A file that is to be renamed to another. Its name begins with that, so that git ignores it as well.
fn beside(file: &Path, text: &str, mode: u32) -> anyhow::Result<tempfile::NamedTempFile> {
    let written = || {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let mut beside = Builder::new()
            .prefix(&format!("{name}."))
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(file.parent().unwrap_or(Path::new(".")))?;
        beside.write_all(text.as_bytes())?;
        beside.as_file().sync_all()?;
        std::io::Result::Ok(beside)
    };
    written().with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tempfile::TempDir;

    use super::*;

    /// A repository with nothing but the overlay's folders.
    fn repository() -> TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(OVERLAY).join(FOLDER)).unwrap();
        root
    }

    fn issuer(root: &TempDir) -> Issuer {
        Issuer::of_overlay(&root.path().join(OVERLAY)).unwrap()
    }

    #[test]
    fn the_key_is_made_once_and_is_for_the_user_alone() {
        let root = repository();
        let first = issuer(&root);
        assert!(first.new);
        let mode = fs::metadata(&first.file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = issuer(&root);
        assert!(!second.new && !second.changed);
        assert_eq!(first.key.id(), second.key.id());
        // Nothing else is left behind.
        let names: BTreeSet<_> = fs::read_dir(first.file.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names, BTreeSet::from([KEY, JWKS].map(str::to_owned)));
        // Another checkout has another.
        assert_ne!(first.key.id(), issuer(&repository()).key.id());
    }

    #[test]
    fn of_many_who_need_it_first_all_get_the_same() {
        let root = repository();
        let ids: Vec<(String, bool)> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        let issuer = issuer(&root);
                        (issuer.key.id().to_owned(), issuer.new)
                    })
                })
                .collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(ids.iter().filter(|(_, new)| *new).count(), 1);
        let (key, _) = ids.first().unwrap();
        assert!(ids.iter().all(|(id, _)| id == key), "{ids:?}");
        let jwks = fs::read_to_string(root.path().join(OVERLAY).join(FOLDER).join(JWKS)).unwrap();
        assert!(jwks.contains(&format!("\"kid\":\"{key}\"")), "{jwks}");
    }

    #[test]
    fn the_jwks_follows_the_key() {
        let root = repository();
        let folder = root.path().join(OVERLAY).join(FOLDER);
        let first = issuer(&root);
        for gone in [JWKS, KEY] {
            fs::remove_file(folder.join(gone)).unwrap();
            assert!(issuer(&root).changed, "{gone}");
        }
        let now = issuer(&root);
        assert_ne!(now.key.id(), first.key.id());
        let jwks = fs::read_to_string(folder.join(JWKS)).unwrap();
        assert!(jwks.contains(now.key.id()) && !jwks.contains(first.key.id()));
    }

    #[test]
    fn only_manifests_that_ask_for_it_make_it() {
        let root = repository();
        let folder = root.path().join(OVERLAY).join(FOLDER);
        let other = root.path().join("istio/base");
        fs::create_dir_all(&other).unwrap();
        let nothing = [folder.join("kustomization.yaml"), other.join(JWKS)];
        assert_eq!(complete(&nothing), Ok(false));
        assert!(!folder.join(KEY).exists());
        assert_eq!(complete(&[folder.join(JWKS)]), Ok(true));
        assert_eq!(complete(&[folder.join(JWKS)]), Ok(false));
        assert!(folder.join(KEY).exists() && !other.join(JWKS).exists());
    }

    #[test]
    fn what_is_in_its_way_is_told() {
        let root = repository();
        let folder = root.path().join(OVERLAY).join(FOLDER);
        fs::write(folder.join(KEY), "-").unwrap();
        let problem = complete(&[folder.join(JWKS)]).unwrap_err();
        assert_eq!(
            problem.to_string(),
            format!(
                "{0}/jwks.yaml:1: the local issuer: {0}/key.pem: is no private key of the curve P-256 as PEM; remove the file, and a new \
                 key is made; tokens of the old one are worth nothing then",
                folder.display()
            )
        );
        let error = Issuer::of_overlay(root.path()).unwrap_err();
        assert_eq!(
            crate::error::render(&error),
            format!(
                "error: {} is no folder istio/overlays/local, where the local issuer is\nhint: copy that of Tollgate into your repository, \
                 under the same path\n",
                root.path().display()
            )
        );
        fs::remove_dir_all(&folder).unwrap();
        let error = Issuer::of_overlay(&root.path().join(OVERLAY)).unwrap_err();
        assert_eq!(
            crate::error::render(&error),
            format!(
                "error: there is no folder {}\nhint: it is a part of istio/overlays/local: copy it whole\n",
                folder.display()
            )
        );
    }

    #[test]
    fn the_overlay_is_known_by_where_it_is() {
        let root = repository();
        let overlay = root.path().join(OVERLAY);
        let base = root.path().join("istio/base");
        fs::create_dir_all(&base).unwrap();
        assert!(in_overlay(&overlay.join("a.yaml")));
        assert!(in_overlay(&overlay.join(FOLDER).join(JWKS)));
        assert!(is_overlay(&overlay));
        assert!(!is_overlay(overlay.parent().unwrap()));
        assert!(!in_overlay(&overlay));
        assert!(!in_overlay(&base.join("a.yaml")));
        // A link out of it is a file of elsewhere, a link to it is it.
        issuer(&root);
        std::os::unix::fs::symlink(overlay.join(FOLDER).join(JWKS), base.join(JWKS)).unwrap();
        assert!(!in_overlay(&base.join(JWKS)));
        std::os::unix::fs::symlink(&overlay, root.path().join("mine")).unwrap();
        assert!(in_overlay(&root.path().join("mine/a.yaml")));
    }
}
