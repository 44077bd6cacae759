//! Writes and removes checkpoint folders: a folder of the right name is always whole.
//!
//! Each file is written and synced in a draft beside its place, then the draft's own names are
//! synced, then it is renamed, then the names above it are synced. A crash leaves the old or the
//! new, and perhaps a draft, which nobody reads.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::RegistryError;
use super::manifest::{CheckpointId, CheckpointManifest, FileRecord, MANIFEST_FILE};
use super::verify;

/// The files of a checkpoint. Nothing else of a folder is copied: who may promote should not be
/// able to have the server copy what lies anywhere.
pub const CHECKPOINT_FILES: [&str; 3] = [
    "adapter_config.json",
    "adapter_model.safetensors",
    "steering.json",
];
const BUFFER: usize = 1 << 20;

/// Makes the folder of all checkpoints, for its owner alone.
pub(super) fn make_root(root: &Path) -> Result<(), RegistryError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(root);
    made.map_err(|source| RegistryError::file(root, source))
}

/// Copies a folder's files to their place; the id and the size of all.
pub(super) fn import(root: &Path, from: &Path) -> Result<(CheckpointId, i64), RegistryError> {
    import_with(root, |draft| {
        let mut files = BTreeMap::new();
        for name in CHECKPOINT_FILES {
            let source = plain_file(from, name)?;
            files.insert(name.to_owned(), copy(&source, &draft.join(name))?);
        }
        Ok(CheckpointManifest::new(files))
    })
}

/// Puts what `fill` writes into a draft to its place; the id and the size of all.
pub(super) fn import_with(
    root: &Path,
    fill: impl FnOnce(&Path) -> Result<CheckpointManifest, RegistryError>,
) -> Result<(CheckpointId, i64), RegistryError> {
    let draft = root.join(format!(".draft-{}", Uuid::new_v4().simple()));
    let placed = fs::create_dir(&draft)
        .map_err(|source| RegistryError::file(&draft, source))
        .and_then(|()| fill(&draft))
        .and_then(|manifest| {
            seal(&draft, &manifest)?;
            place(root, &draft, &manifest)
        });
    if placed.is_err() {
        // what a full disk left behind should not keep it full; the first error is the one to tell
        let _ = fs::remove_dir_all(&draft);
    }
    placed
}

/// What a folder holds of a checkpoint's files; reads all of them.
pub(super) fn describe(folder: &Path) -> Result<CheckpointManifest, RegistryError> {
    let mut files = BTreeMap::new();
    for name in CHECKPOINT_FILES {
        let source = plain_file(folder, name)?;
        files.insert(name.to_owned(), read(&source, |_| Ok(()))?);
    }
    Ok(CheckpointManifest::new(files))
}

/// A checkpoint's file in a folder. A link could lead anywhere.
fn plain_file(folder: &Path, name: &'static str) -> Result<PathBuf, RegistryError> {
    let path = folder.join(name);
    match path.symlink_metadata().is_ok_and(|found| found.is_file()) {
        true => Ok(path),
        false => Err(RegistryError::Incomplete { file: name }),
    }
}

/// Writes the manifest, and waits until the disk has the draft's names.
fn seal(draft: &Path, manifest: &CheckpointManifest) -> Result<(), RegistryError> {
    let path = draft.join(MANIFEST_FILE);
    let write = || -> std::io::Result<()> {
        let mut file = File::create_new(&path)?;
        file.write_all(&manifest.to_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| RegistryError::file(&path, source))?;
    sync_names(draft)
}

/// Copies a file and waits until the disk has it.
fn copy(from: &Path, to: &Path) -> Result<FileRecord, RegistryError> {
    let writing = |source| RegistryError::file(to, source);
    let mut output = File::create_new(to).map_err(writing)?;
    let record = read(from, |piece| output.write_all(piece).map_err(writing))?;
    output.sync_all().map_err(writing)?;
    Ok(record)
}

/// Reads a file in pieces; its size and hash.
fn read(
    from: &Path,
    mut take: impl FnMut(&[u8]) -> Result<(), RegistryError>,
) -> Result<FileRecord, RegistryError> {
    let reading = |source| RegistryError::file(from, source);
    let mut input = File::open(from).map_err(reading)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER];
    let mut bytes = 0;
    loop {
        let count = input.read(&mut buffer).map_err(reading)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        take(&buffer[..count])?;
        bytes += count as u64;
    }
    Ok(FileRecord {
        bytes,
        blake3: hasher.finalize().to_hex().to_string(),
    })
}

fn place(
    root: &Path,
    draft: &Path,
    manifest: &CheckpointManifest,
) -> Result<(CheckpointId, i64), RegistryError> {
    let id = CheckpointId::of(&manifest.to_bytes());
    let target = root.join(id.as_str());
    match verify::checked(root, &id) {
        Ok(_) => {
            // the same content is there already
            remove_folder(draft)?;
        }
        Err(RegistryError::NotThere { .. }) => rename(draft, &target)?,
        Err(RegistryError::Damaged { .. }) => {
            let aside = root.join(format!(".damaged-{id}-{}", Uuid::new_v4().simple()));
            rename(&target, &aside)?;
            rename(draft, &target)?;
        }
        Err(other) => return Err(other),
    }
    sync_names(root)?;
    let bytes: u64 = manifest.files.values().map(|file| file.bytes).sum();
    Ok((id, i64::try_from(bytes).unwrap_or(i64::MAX)))
}

/// Removes a checkpoint: its name goes first, so that half a folder never has one.
pub(super) fn remove(root: &Path, id: &CheckpointId) -> Result<(), RegistryError> {
    let target = root.join(id.as_str());
    if !target.exists() {
        return Ok(());
    }
    let gone = root.join(format!(".gone-{}", Uuid::new_v4().simple()));
    rename(&target, &gone)?;
    sync_names(root)?;
    remove_folder(&gone)
}

fn rename(from: &Path, to: &PathBuf) -> Result<(), RegistryError> {
    fs::rename(from, to).map_err(|source| RegistryError::file(to, source))
}

fn remove_folder(path: &Path) -> Result<(), RegistryError> {
    fs::remove_dir_all(path).map_err(|source| RegistryError::file(path, source))
}

/// Waits until the disk has a folder's names.
fn sync_names(path: &Path) -> Result<(), RegistryError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|source| RegistryError::file(path, source))
}
