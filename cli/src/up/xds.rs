//! Writes what Envoys read. Envoy takes a file again only when another is renamed over it, so that is how every file is
//! written, the first time as well.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Writes these files in their order, which is the order in which a running Envoy may learn of them.
pub(crate) fn write(files: &[(PathBuf, String)]) -> anyhow::Result<()> {
    for (path, text) in files {
        replace(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().context("it has no folder")?;
    fs::create_dir_all(folder)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().context("it has no name")?);
    name.push(".new");
    let new = folder.join(name);
    fs::write(&new, text)?;
    fs::rename(&new, path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rds").join("http.8080.json");
        for text in ["{\"a\": 1}", "{}"] {
            write(&[(path.clone(), text.to_owned())]).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let path = folder.path().join("file").join("lds.json");
        let error = write(&[(path.clone(), String::new())]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("cannot write {}", path.display())),
            "{error:#}"
        );
    }
}
