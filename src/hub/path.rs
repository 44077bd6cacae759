//! Names of a repository's files. They come from elsewhere and become paths on this disk, so a
//! name that leads out of its folder cannot be had as one.

use std::fmt;

/// Where a file lies in its repository: `config.json`, `policies/kind/steering.json`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RepoPath(String);

impl RepoPath {
    /// A relative path of plain parts between slashes; none where it could lead elsewhere.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_plain = |part: &str| {
            let odd = |c: char| c.is_control() || c == '\\';
            !matches!(part, "" | "." | "..") && part.len() <= 255 && !part.contains(odd)
        };
        text.split('/').all(is_plain).then(|| Self(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the last slash, slash included; empty for a file of the root.
    pub(super) fn folder(&self) -> &str {
        let end = self.0.rfind('/').map_or(0, |slash| slash + 1);
        &self.0[..end]
    }

    /// What stands behind the last slash.
    pub(super) fn file_name(&self) -> &str {
        &self.0[self.folder().len()..]
    }

    pub(super) fn is_gguf(&self) -> bool {
        let end = self.0.len().checked_sub(".gguf".len());
        end.and_then(|end| self.0.get(end..))
            .is_some_and(|tail| tail.eq_ignore_ascii_case(".gguf"))
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_in_its_folder() {
        for sound in [
            "config.json",
            "a b/ü.json",
            "policies/x/steering.json",
            "..a",
            "a..b",
        ] {
            assert!(RepoPath::parse(sound).is_some(), "{sound}");
        }
        for hostile in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "a/../x",
            "a/..",
            ".",
            "./a",
            "a//b",
            "a/",
            "a\\..\\b",
            "a\0b",
            "a\nb",
        ] {
            assert_eq!(RepoPath::parse(hostile), None, "{hostile:?}");
        }
    }

    #[test]
    fn a_path_is_a_folder_and_a_name() {
        let path = RepoPath::parse("a/b/c.gguf").expect("sound");
        assert_eq!((path.folder(), path.file_name()), ("a/b/", "c.gguf"));
        let path = RepoPath::parse("c.json").expect("sound");
        assert_eq!(
            (path.folder(), path.file_name(), path.is_gguf()),
            ("", "c.json", false)
        );
    }
}
