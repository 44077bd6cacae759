//! Checks a checkpoint folder against its name: every file, every byte, and nothing beside them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::RegistryError;
use super::manifest::{CheckpointId, CheckpointManifest, FileRecord, MANIFEST_FILE};

const BUFFER: usize = 1 << 20;
/// A manifest lists three files; anything much larger is none.
pub(super) const MANIFEST_LIMIT: u64 = 64 << 10;

/// The folder of a checkpoint that is as it was written.
pub(super) fn checked(root: &Path, id: &CheckpointId) -> Result<PathBuf, RegistryError> {
    let folder = root.join(id.as_str());
    if !folder.is_dir() {
        return Err(RegistryError::NotThere { id: id.to_string() });
    }
    let damaged = |file: &str, problem: String| RegistryError::damaged(id, file, problem);
    let unsound = |file: &str, unsound: Unsound| match unsound {
        Unsound::Differs(problem) => damaged(file, problem),
        Unsound::Unreadable(source) => RegistryError::file(folder.join(file), source),
    };
    let manifest = read_manifest(&folder, id).map_err(|error| unsound(MANIFEST_FILE, error))?;
    for (name, record) in &manifest.files {
        check(&folder.join(name), record).map_err(|error| unsound(name, error))?;
    }
    let failed = |source| RegistryError::file(&folder, source);
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        if name != MANIFEST_FILE && !manifest.files.contains_key(&*name) {
            return Err(damaged(&name, "does not belong to it".to_owned()));
        }
    }
    Ok(folder)
}

/// Why a file is not taken for what it should be.
#[derive(Debug)]
pub(super) enum Unsound {
    /// It is missing, or something else: it must be had anew.
    Differs(String),
    /// It may be sound; the system does not let it be read now.
    Unreadable(io::Error),
}

impl From<io::Error> for Unsound {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Self::Differs(format!("cannot be read: {error}"))
            }
            _ => Self::Unreadable(error),
        }
    }
}

fn read_manifest(folder: &Path, id: &CheckpointId) -> Result<CheckpointManifest, Unsound> {
    let path = folder.join(MANIFEST_FILE);
    let length = path.metadata()?.len();
    if length > MANIFEST_LIMIT {
        let problem = format!("has {length} bytes, expected a short list");
        return Err(Unsound::Differs(problem));
    }
    let bytes = fs::read(&path)?;
    if CheckpointId::of(&bytes) != *id {
        let problem = "is not what its folder is named after";
        return Err(Unsound::Differs(problem.to_owned()));
    }
    CheckpointManifest::parse(&bytes).map_err(Unsound::Differs)
}

/// Holds a file against its record.
pub(super) fn check(path: &Path, record: &FileRecord) -> Result<(), Unsound> {
    let found = path.symlink_metadata()?;
    if !found.is_file() {
        return Err(Unsound::Differs("is no plain file".to_owned()));
    }
    if found.len() != record.bytes {
        let (found, expected) = (found.len(), record.bytes);
        let problem = format!("has {found} bytes, expected {expected}");
        return Err(Unsound::Differs(problem));
    }
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        };
    }
    match hasher.finalize().to_hex().as_str() == record.blake3 {
        true => Ok(()),
        false => {
            let problem = "does not have the content it was written with";
            Err(Unsound::Differs(problem.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(kind: io::ErrorKind) -> Unsound {
        io::Error::from(kind).into()
    }

    #[test]
    fn only_what_is_gone_or_differs_is_damage() {
        for kind in [
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::StaleNetworkFileHandle,
            io::ErrorKind::Other,
        ] {
            assert!(matches!(errors(kind), Unsound::Unreadable(_)), "{kind}");
        }
        assert!(matches!(
            errors(io::ErrorKind::NotFound),
            Unsound::Differs(_)
        ));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("f");
        let record = FileRecord {
            bytes: 1,
            blake3: blake3::hash(b"a").to_hex().to_string(),
        };
        let found = check(&path, &record);
        assert!(matches!(found, Err(Unsound::Differs(_))), "{found:?}");
        fs::write(&path, "b").expect("written");
        let found = check(&path, &record);
        assert!(matches!(found, Err(Unsound::Differs(_))), "{found:?}");
        fs::write(&path, "a").expect("written");
        assert!(check(&path, &record).is_ok());
    }
}
