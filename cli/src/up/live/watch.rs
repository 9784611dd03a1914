//! Sees that manifests were edited, and reads them when whoever edits is done.
//!
//! What is watched are the folders of everything that was read, not the files: editors replace a file by renaming another
//! over it, tools remove a whole folder and make it anew, and a link may point elsewhere from one moment to the next. Of
//! what happens in a folder most is no edit, so the contents of the files decide, not the events.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tollgate_mesh::{Loaded, Problem};

use crate::error::Hint;
use crate::issuer;

/// Read at most so often in a row while somebody goes on writing; then what was read counts, and what is written next comes
/// as the next edit.
const ATTEMPTS: usize = 20;

/// How many times as long as quiet was asked for it is waited for.
const LONGEST: u32 = 10;

/// What a file holds: a hash of it, and whether it is empty; nothing for one that is not there or is no plain file.
type Content = Option<(u64, bool)>;

/// What all files hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents(BTreeMap<PathBuf, Content>);

impl Contents {
    fn of(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let content = |file: &Path| {
            // A pipe can be read only once, and that is for who parses it.
            let bytes = file.is_file().then(|| std::fs::read(file).ok())??;
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            let empty = bytes.iter().all(u8::is_ascii_whitespace);
            Some((hasher.finish(), empty))
        };
        Self(
            files
                .into_iter()
                .map(|file| (file.clone(), content(&file)))
                .collect(),
        )
    }

    fn content(&self, file: &Path) -> Content {
        self.0.get(file).copied().flatten()
    }

    /// The files that hold something else than before, or came or went.
    pub(crate) fn changed_since(&self, before: &Self) -> Vec<PathBuf> {
        let files: BTreeSet<&PathBuf> = self.0.keys().chain(before.0.keys()).collect();
        files
            .into_iter()
            .filter(|file| self.content(file) != before.content(file))
            .cloned()
            .collect()
    }

    /// Whether a file that held something is empty or gone. Most often it is being written or replaced.
    pub(crate) fn emptied_since(&self, before: &Self) -> bool {
        before.0.iter().any(|(file, content)| {
            content.is_some_and(|(_, empty)| !empty)
                && self.content(file).is_none_or(|(_, empty)| empty)
        })
    }
}

/// What the manifests say, and where.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) loaded: Loaded,
    pub(crate) contents: Contents,
}

/// Reads manifests, and watches everything that would change what they say.
#[derive(Debug)]
pub(crate) struct Reader {
    paths: Vec<PathBuf>,
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    files: Vec<PathBuf>,
}

impl Reader {
    /// Begins to watch with the first reading.
    pub(crate) fn new(paths: Vec<PathBuf>) -> anyhow::Result<(Self, Changes)> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.as_ref().map_or(true, |event| concerns(&event.kind)) {
                // Nobody listens any more when everything ends.
                let _ = sender.send(Instant::now());
            }
        });
        let watcher = watcher
            .context("cannot watch the manifests for edits")
            .hint(
                "on Linux: each watcher is an inotify instance, of which `sysctl \
                 fs.inotify.max_user_instances` says how many a user may have",
            )?;
        let reader = Self {
            paths,
            watcher,
            watched: BTreeSet::new(),
            files: Vec::new(),
        };
        Ok((reader, Changes(receiver)))
    }

    /// Reads everything as it is at one moment, and watches what was read.
    pub(crate) fn read(&mut self) -> Result<Read, Problem> {
        for _ in 1..ATTEMPTS {
            let before = Contents::of(self.files.drain(..));
            let read = self.once()?;
            if read.contents.changed_since(&before).is_empty() {
                return Ok(read);
            }
        }
        self.once()
    }

    fn once(&mut self) -> Result<Read, Problem> {
        let mut loaded = tollgate_mesh::load_watched(&self.paths);
        // What is not in git is there when manifests ask for it, from the first moment and after an edit.
        if issuer::complete(&loaded.files)? {
            loaded = tollgate_mesh::load_watched(&self.paths);
        }
        self.watch(&loaded)?;
        self.files.clone_from(&loaded.files);
        let contents = Contents::of(loaded.files.iter().cloned());
        Ok(Read { loaded, contents })
    }

    fn watch(&mut self, loaded: &Loaded) -> Result<(), Problem> {
        let mut wanted: BTreeSet<PathBuf> = loaded.folders.iter().cloned().collect();
        // A link is changed in the folder that it is in.
        let mut links = BTreeSet::new();
        for path in loaded.folders.iter().chain(&loaded.files) {
            collect_links(path, &mut links);
        }
        let around = links.iter().filter_map(|link| link.parent());
        wanted.extend(around.map(|folder| {
            if folder.as_os_str().is_empty() {
                PathBuf::from(".")
            } else {
                folder.to_owned()
            }
        }));
        for gone in self.watched.difference(&wanted) {
            // It may be gone in every sense.
            let _ = self.watcher.unwatch(gone);
        }
        let mut watched = BTreeSet::new();
        for folder in wanted {
            // Again also what is watched already: a folder that was removed and made anew is another one.
            match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => _ = watched.insert(folder),
                // Named in vain, or removed just now; then its parent tells when it comes back.
                Err(_) if !folder.is_dir() => {}
                Err(error) => {
                    let reason = format!(
                        "cannot be watched for edits: {error}; on Linux `sysctl fs.inotify.max_user_watches` says how many \
                         folders a user may watch"
                    );
                    return Err(Problem::at(folder, 1, reason));
                }
            }
        }
        self.watched = watched;
        Ok(())
    }
}

/// All links on the way to a path, and on the ways that they lead.
fn collect_links(path: &Path, links: &mut BTreeSet<PathBuf>) {
    for link in path.ancestors().filter(|part| part.is_symlink()) {
        if links.insert(link.to_owned())
            && let (Some(folder), Ok(target)) = (link.parent(), std::fs::read_link(link))
        {
            collect_links(&folder.join(target), links);
        }
    }
}

/// Whether something may have been changed. We open and read ourselves what we watch.
fn concerns(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

/// The moments at which something changed.
#[derive(Debug)]
pub(crate) struct Changes(mpsc::UnboundedReceiver<Instant>);

impl Changes {
    /// When the next change was.
    pub(crate) async fn next(&mut self) -> Instant {
        match self.0.recv().await {
            Some(moment) => moment,
            // Whoever watches lives as long as we do.
            None => std::future::pending().await,
        }
    }

    /// Waits until nothing has changed for a while. Whether something has.
    pub(crate) async fn settle(&mut self, quiet: Duration) -> bool {
        // Something that is written all the time must not keep everything else from being seen.
        let end = Instant::now() + quiet * LONGEST;
        let mut changed = false;
        while Instant::now() < end
            && let Ok(_moment) = tokio::time::timeout(quiet, self.next()).await
        {
            changed = true;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Generous, and never waited for unless something is broken.
    const DEADLINE: Duration = Duration::from_secs(30);

    const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";

    fn namespaces(read: &Read) -> Vec<String> {
        let manifests = read.loaded.result.as_ref().unwrap();
        let namespaces = manifests.objects.namespaces.iter();
        namespaces.map(|namespace| namespace.name.clone()).collect()
    }

    async fn changed(changes: &mut Changes) {
        tokio::time::timeout(DEADLINE, changes.next())
            .await
            .unwrap();
    }

    /// What is read after an edit, however many events it makes.
    async fn read_until(
        reader: &mut Reader,
        changes: &mut Changes,
        as_wanted: impl Fn(&Read) -> bool,
    ) -> Read {
        loop {
            changed(changes).await;
            let read = reader.read().unwrap();
            if as_wanted(&read) {
                return read;
            }
        }
    }

    #[tokio::test]
    async fn every_way_of_saving_is_seen_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, NAMESPACE).unwrap();
        let (mut reader, mut changes) = Reader::new(vec![folder.path().to_owned()]).unwrap();
        let first = reader.read().unwrap();
        assert_eq!(namespaces(&first), ["shop"]);
        // Reading is no change.
        assert!(!changes.settle(Duration::from_millis(50)).await);

        // In place.
        fs::write(&file, NAMESPACE.replace("shop", "two")).unwrap();
        let wanted = |name: &'static str| {
            move |read: &Read| read.loaded.result.is_ok() && namespaces(read) == [name]
        };
        let second = read_until(&mut reader, &mut changes, wanted("two")).await;
        assert_eq!(
            second.contents.changed_since(&first.contents),
            std::slice::from_ref(&file)
        );

        // By rename.
        fs::write(
            folder.path().join(".a.yaml.swp"),
            NAMESPACE.replace("shop", "three"),
        )
        .unwrap();
        fs::rename(folder.path().join(".a.yaml.swp"), &file).unwrap();
        let third = read_until(&mut reader, &mut changes, wanted("three")).await;
        assert_eq!(third.contents.changed_since(&second.contents), [file]);

        // A new file, and a file that goes.
        let other = folder.path().join("b.yaml");
        fs::write(&other, NAMESPACE.replace("shop", "four")).unwrap();
        let both = read_until(&mut reader, &mut changes, |read| {
            read.loaded.result.is_ok() && namespaces(read).len() == 2
        })
        .await;
        assert_eq!(
            both.contents.changed_since(&third.contents),
            std::slice::from_ref(&other)
        );
        assert!(!both.contents.emptied_since(&third.contents));
        fs::remove_file(&other).unwrap();
        let gone = read_until(&mut reader, &mut changes, wanted("three")).await;
        assert!(gone.contents.emptied_since(&both.contents));
    }

    #[tokio::test]
    async fn a_folder_behind_a_link_and_one_made_anew_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        for (version, name) in [("v1", "one"), ("v2", "two")] {
            fs::create_dir(folder.path().join(version)).unwrap();
            let file = folder.path().join(version).join("a.yaml");
            fs::write(file, NAMESPACE.replace("shop", name)).unwrap();
        }
        let link = folder.path().join("current");
        symlink("v1", &link).unwrap();
        let (mut reader, mut changes) = Reader::new(vec![link.clone()]).unwrap();
        assert_eq!(namespaces(&reader.read().unwrap()), ["one"]);

        symlink("v2", folder.path().join("next")).unwrap();
        fs::rename(folder.path().join("next"), &link).unwrap();
        let wanted = |name: &'static str| {
            move |read: &Read| read.loaded.result.is_ok() && namespaces(read) == [name]
        };
        read_until(&mut reader, &mut changes, wanted("two")).await;

        fs::remove_dir_all(folder.path().join("v2")).unwrap();
        read_until(&mut reader, &mut changes, |read| {
            read.loaded.result.is_err()
        })
        .await;
        fs::create_dir(folder.path().join("v2")).unwrap();
        let file = folder.path().join("v2").join("a.yaml");
        fs::write(file, NAMESPACE.replace("shop", "three")).unwrap();
        read_until(&mut reader, &mut changes, wanted("three")).await;
    }

    #[tokio::test]
    async fn a_link_that_a_link_leads_through_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        for (version, name) in [("v1", "one"), ("v2", "two")] {
            fs::create_dir(elsewhere.path().join(version)).unwrap();
            let file = elsewhere.path().join(version).join("a.yaml");
            fs::write(file, NAMESPACE.replace("shop", name)).unwrap();
        }
        let current = elsewhere.path().join("current");
        symlink("v1", &current).unwrap();
        symlink(current.join("a.yaml"), folder.path().join("a.yaml")).unwrap();
        let (mut reader, mut changes) = Reader::new(vec![folder.path().to_owned()]).unwrap();
        assert_eq!(namespaces(&reader.read().unwrap()), ["one"]);

        symlink("v2", elsewhere.path().join("next")).unwrap();
        fs::rename(elsewhere.path().join("next"), &current).unwrap();
        read_until(&mut reader, &mut changes, |read| {
            namespaces(read) == ["two"]
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_made_for_the_manifests_is_there_at_once_and_is_no_edit() {
        let folder = tempfile::tempdir().unwrap();
        let issuer = folder.path().join("istio/overlays/local/issuer");
        fs::create_dir_all(&issuer).unwrap();
        fs::write(issuer.join("namespace.yaml"), NAMESPACE).unwrap();
        let without = "resources: [namespace.yaml]\n";
        fs::write(issuer.join("kustomization.yaml"), without).unwrap();
        let (mut reader, mut changes) = Reader::new(vec![issuer.clone()]).unwrap();
        let first = reader.read().unwrap();
        assert!(!issuer.join("key.pem").exists());

        // An edit that names what is not there yet. The patch finds nothing to change here, and is read all the same.
        let with = format!(
            "{without}patches: [{{path: jwks.yaml, target: {{kind: RequestAuthentication}}}}]\n"
        );
        fs::write(issuer.join("kustomization.yaml"), with).unwrap();
        let made = read_until(&mut reader, &mut changes, |read| {
            read.loaded.files.contains(&issuer.join("jwks.yaml"))
        })
        .await;
        let problems = made.loaded.result.unwrap_err().to_string();
        assert!(
            problems.contains("kustomization.yaml:2: ") && !problems.contains("cannot be read"),
            "{problems}"
        );
        assert!(issuer.join("key.pem").exists());
        let changed = made.contents.changed_since(&first.contents);
        assert_eq!(
            changed,
            [issuer.join("jwks.yaml"), issuer.join("kustomization.yaml")]
        );

        // Its own writing is seen, and says nothing new.
        while changes.settle(Duration::from_millis(50)).await {}
        let again = reader.read().unwrap();
        assert_eq!(
            again.contents.changed_since(&made.contents),
            Vec::<PathBuf>::new()
        );
    }

    #[test]
    fn a_file_that_is_being_written_is_known_by_its_emptiness() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        let contents = |text: &str| {
            fs::write(&file, text).unwrap();
            Contents::of([file.clone()])
        };
        let (full, empty) = (contents("a: 1\n"), contents("\n"));
        assert!(empty.emptied_since(&full));
        assert!(!full.emptied_since(&empty));
        assert!(!empty.emptied_since(&empty));
        assert!(!contents("a: 2\n").emptied_since(&full));
    }
}
