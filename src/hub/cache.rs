//! The cache that Hugging Face's own tools share: `models--ORG--NAME/` with `blobs/ETAG`,
//! `snapshots/COMMIT/PATH` (relative links to blobs) and `refs/REVISION` (a commit).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::etag::Etag;
use super::path::RepoPath;

const SNAPSHOTS: &str = "snapshots";
const PREFIX: &str = "models--";
/// Folders inside folders that are looked into: `policies/NAME/`, with room.
const DEPTH: usize = 4;

/// What names a state of a repository: 40 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit(String);

impl Commit {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_commit = text.len() == 40 && text.chars().all(|c| c.is_ascii_hexdigit());
        is_commit.then(|| Self(text.to_ascii_lowercase()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// One repository's part of the cache.
#[derive(Debug)]
pub(super) struct RepoCache {
    root: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    /// Of `ORG/NAME`, in the folder of all repositories.
    pub(super) fn new(cache: &Path, repository: &str) -> Self {
        let name = format!("{PREFIX}{}", repository.replace('/', "--"));
        Self {
            locks: cache.join(".locks").join(&name),
            root: cache.join(name),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn snapshot(&self, commit: &Commit) -> PathBuf {
        self.root.join(SNAPSHOTS).join(commit.as_str())
    }

    pub(super) fn blob(&self, etag: &Etag) -> PathBuf {
        self.root.join("blobs").join(etag.as_str())
    }

    pub(super) fn incomplete(&self, etag: &Etag) -> PathBuf {
        self.root.join("blobs").join(format!("{etag}.incomplete"))
    }

    pub(super) fn lock(&self, etag: &Etag) -> PathBuf {
        self.locks.join(format!("{etag}.lock"))
    }

    /// Makes the folders that blobs and locks lie in.
    pub(super) fn prepare(&self) -> io::Result<()> {
        fs::create_dir_all(self.root.join("blobs"))?;
        fs::create_dir_all(&self.locks)
    }

    /// The commit of a revision, as it was when it was last asked for.
    pub(super) fn commit_of(&self, revision: &str) -> Option<Commit> {
        let noted = fs::read_to_string(self.root.join("refs").join(revision));
        match noted {
            Ok(text) => Commit::parse(text.trim()),
            Err(_) => Commit::parse(revision),
        }
    }

    /// Notes which commit a revision is, unless that is known; a commit is its own.
    pub(super) fn note(&self, revision: &str, commit: &Commit) -> io::Result<()> {
        if self.commit_of(revision).as_ref() == Some(commit) {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        replace(&path, |new| fs::write(new, commit.as_str()))
    }

    /// Whether a file of a snapshot is here, whole.
    pub(super) fn has(&self, commit: &Commit, path: &RepoPath) -> bool {
        self.snapshot(commit).join(path.as_str()).is_file()
    }

    /// Puts a blob into a snapshot.
    pub(super) fn link(&self, commit: &Commit, path: &RepoPath, etag: &Etag) -> io::Result<()> {
        let depth = path.as_str().matches('/').count();
        let blob = format!("{}blobs/{etag}", "../".repeat(2 + depth));
        let link = self.snapshot(commit).join(path.as_str());
        replace(&link, |new| std::os::unix::fs::symlink(blob, new))
    }

    /// All files of a snapshot that are here; none where there is no such snapshot.
    pub(super) fn files(&self, commit: &Commit) -> BTreeSet<RepoPath> {
        let mut found = BTreeSet::new();
        gather(&self.snapshot(commit), "", DEPTH, &mut found);
        found
    }
}

fn gather(dir: &Path, prefix: &str, depth: usize, found: &mut BTreeSet<RepoPath>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let (path, name) = (entry.path(), format!("{prefix}{name}"));
        if path.is_file() {
            found.extend(RepoPath::parse(&name));
        } else if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            gather(&path, &format!("{name}/"), depth - 1, found);
        }
    }
}

/// Makes something under another name and puts it in the place of whatever is there: who looks
/// meanwhile finds the old or the new.
fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidFilename.into());
    };
    fs::create_dir_all(folder)?;
    let new = folder.join(format!(
        ".{}.{}",
        name.to_string_lossy(),
        std::process::id()
    ));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    make(&new)?;
    fs::rename(&new, path)
}

/// The model that a folder of the cache is a snapshot of, without its owner: `Qwen2.5-0.5B` for
/// `…/models--Qwen--Qwen2.5-0.5B/snapshots/COMMIT`. The folder's own name is only a commit.
pub fn name_of_snapshot(folder: &Path) -> Option<&str> {
    let mut parts = folder.components().rev().map(Component::as_os_str);
    let (commit, snapshots, repository) = (parts.next()?, parts.next()?, parts.next()?);
    Commit::parse(commit.to_str()?)?;
    let repository = repository.to_str()?.strip_prefix(PREFIX)?;
    let name = repository
        .rsplit_once("--")
        .map_or(repository, |(_, name)| name);
    (snapshots == SNAPSHOTS).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn cache() -> (tempfile::TempDir, RepoCache, Commit) {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = RepoCache::new(folder.path(), "org/name");
        cache.prepare().expect("made");
        (folder, cache, Commit::parse(COMMIT).expect("sound"))
    }

    #[test]
    fn a_revision_is_found_again() {
        let (folder, cache, commit) = cache();
        assert_eq!(cache.commit_of("main"), None);
        assert_eq!(cache.commit_of(COMMIT), Some(commit.clone()));
        for revision in ["main", "refs/pr/1", COMMIT] {
            cache.note(revision, &commit).expect("written");
            assert_eq!(cache.commit_of(revision), Some(commit.clone()));
        }
        let refs = folder.path().join("models--org--name/refs");
        assert_eq!(
            fs::read_to_string(refs.join("main")).expect("there"),
            COMMIT
        );
        assert!(!refs.join(COMMIT).exists());
    }

    #[test]
    fn a_snapshot_holds_relative_links_and_counts_whole_files_only() {
        let (folder, cache, commit) = cache();
        let etag = Etag::parse("abc").expect("sound");
        let path = RepoPath::parse("policies/kind/steering.json").expect("sound");
        for _ in 0..2 {
            cache.link(&commit, &path, &etag).expect("linked");
        }
        assert!(!cache.has(&commit, &path) && cache.files(&commit).is_empty());
        fs::write(cache.blob(&etag), "{}").expect("written");
        assert!(cache.has(&commit, &path));
        assert_eq!(cache.files(&commit), BTreeSet::from([path.clone()]));
        let link = fs::read_link(cache.snapshot(&commit).join(path.as_str())).expect("a link");
        assert_eq!(link, Path::new("../../../../blobs/abc"));
        // the whole cache may move
        let moved = folder.path().join("elsewhere");
        fs::rename(folder.path().join("models--org--name"), &moved).expect("moved");
        let there = moved.join(SNAPSHOTS).join(COMMIT).join(path.as_str());
        assert_eq!(fs::read_to_string(there).expect("there"), "{}");
    }

    #[test]
    fn a_snapshot_has_its_models_name() {
        let of = |path: &str| name_of_snapshot(Path::new(path)).map(str::to_owned);
        let at = |repository: &str| format!("/c/{repository}/snapshots/{COMMIT}");
        assert_eq!(
            of(&at("models--Qwen--Qwen2.5-0.5B")),
            Some("Qwen2.5-0.5B".into())
        );
        assert_eq!(of(&at("models--gpt2")), Some("gpt2".into()));
        for other in [
            &*at("datasets--a--b"),
            "/c/models--a--b/snapshots/main",
            "/models/demo",
            "/",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
