//! Files and folders of states, each written so that it outlives a crash.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::Serialize;

use crate::training::TrainingError;

/// Writes a file and waits until the disk has it.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), TrainingError> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| TrainingError::file(path, source))
}

/// Copies a file and waits until the disk has the copy.
pub(super) fn copy_synced(from: &Path, to: &Path) -> Result<(), TrainingError> {
    let mut input = File::open(from).map_err(|source| TrainingError::file(from, source))?;
    let mut copy = || -> std::io::Result<()> {
        let mut output = File::create(to)?;
        std::io::copy(&mut input, &mut output)?;
        output.sync_all()
    };
    copy().map_err(|source| TrainingError::file(to, source))
}

/// Waits until the disk has a folder's names.
pub(super) fn sync_folder(path: &Path) -> Result<(), TrainingError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| TrainingError::file(path, source))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TrainingError> {
    fs::read(path).map_err(|source| TrainingError::file(path, source))
}

pub(super) fn remove(folder: &Path) -> Result<(), TrainingError> {
    match fs::remove_dir_all(folder) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(TrainingError::file(folder, source))
        }
        _ => Ok(()),
    }
}

pub(super) fn json<T: Serialize>(value: &T, folder: &Path) -> Result<Vec<u8>, TrainingError> {
    serde_json::to_vec_pretty(value).map_err(|error| TrainingError::State {
        path: folder.to_owned(),
        reason: format!("cannot be written as JSON: {error}"),
    })
}
