//! Checks a checkpoint folder against its name: every file, every byte, and nothing beside them.

use std::fs::{self, File};
use std::io::Read;
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
    let manifest = read_manifest(&folder, id).map_err(|problem| damaged(MANIFEST_FILE, problem))?;
    for (name, record) in &manifest.files {
        check(&folder.join(name), record).map_err(|problem| damaged(name, problem))?;
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

fn read_manifest(folder: &Path, id: &CheckpointId) -> Result<CheckpointManifest, String> {
    let path = folder.join(MANIFEST_FILE);
    let length = path.metadata().map_err(|error| unreadable(&error))?.len();
    if length > MANIFEST_LIMIT {
        return Err(format!("has {length} bytes, expected a short list"));
    }
    let bytes = fs::read(&path).map_err(|error| unreadable(&error))?;
    if CheckpointId::of(&bytes) != *id {
        return Err("is not what its folder is named after".to_owned());
    }
    CheckpointManifest::parse(&bytes)
}

pub(super) fn check(path: &Path, record: &FileRecord) -> Result<(), String> {
    let found = path
        .symlink_metadata()
        .map_err(|error| unreadable(&error))?;
    if !found.is_file() {
        return Err("is no plain file".to_owned());
    }
    if found.len() != record.bytes {
        return Err(format!(
            "has {} bytes, expected {}",
            found.len(),
            record.bytes
        ));
    }
    let mut file = File::open(path).map_err(|error| unreadable(&error))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer).map_err(|error| unreadable(&error))? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        };
    }
    match hasher.finalize().to_hex().as_str() == record.blake3 {
        true => Ok(()),
        false => Err("does not have the content it was written with".to_owned()),
    }
}

fn unreadable(error: &std::io::Error) -> String {
    format!("cannot be read: {error}")
}
