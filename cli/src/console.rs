//! What people read: lines for the person who watches, on standard error (standard output is for results and events), and
//! how paths are written in them.

use std::fmt::Display;
use std::io::{self, Write};

/// Says what happens. A terminal that has gone is no reason to stop: whoever started things must still end them.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A text for people: paths below the current folder begin there, as they would be typed. What machines read keeps the paths
/// that were given.
pub(crate) fn shown(text: impl Display) -> String {
    let text = text.to_string();
    match std::env::current_dir() {
        Ok(folder) => below(&folder.to_string_lossy(), &text),
        Err(_) => text,
    }
}

/// The text without this folder, wherever a path begins with it.
fn below(folder: &str, text: &str) -> String {
    let prefix = format!("{}/", folder.trim_end_matches('/'));
    if prefix == "/" {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(&prefix) {
        shown.push_str(before);
        // The middle of a longer path is no beginning, and a folder alone would be nothing.
        let begins = !shown.ends_with(|c: char| c.is_alphanumeric() || "/._-~\\".contains(c));
        let goes_on = behind.starts_with(|c: char| !c.is_whitespace());
        if !(begins && goes_on) {
            shown.push_str(&prefix);
        }
        rest = behind;
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_the_current_folder_begin_there() {
        let shown = |text: &str| below("/work/my shop", text);
        assert_eq!(
            shown(
                "/work/my shop/a.yaml:7: x: is also in /work/my shop/b.yaml:3 (\"/work/my shop/c\")"
            ),
            "a.yaml:7: x: is also in b.yaml:3 (\"c\")"
        );
        for other in [
            "/work/my shop",
            "/work/my shop/",
            "/work/my shopping/a.yaml",
            "/home/work/my shop/a.yaml",
            "file:///work/my shop/a.yaml",
            "../work/my shop/a.yaml",
        ] {
            assert_eq!(shown(other), other);
        }
        assert_eq!(below("/", "/a.yaml"), "/a.yaml");
        let here = std::env::current_dir().unwrap().join("a.yaml");
        assert_eq!(super::shown(here.display()), "a.yaml");
    }
}
