//! Where a checkpoint is had from: this disk, where it is sound there, else the bucket.

use std::path::{Path, PathBuf};

use tokio::runtime::Handle;

use super::manifest::CheckpointId;
use super::remote::{self, Place};
use super::{FOLDER, RegistryError, files, verify};
use crate::storage::Bucket;

/// The folder of a checkpoint, as `Registry::checked` finds it, for whoever has no store: a worker
/// whose job starts from a policy that was promoted. `data_dir` is the worker's own. Blocks, on a
/// thread that runs no task of `runtime`.
///
/// # Errors
/// The checkpoint is not there, or any bit of it has changed.
pub fn checked_below(
    data_dir: &Path,
    bucket: Option<&Bucket>,
    runtime: &Handle,
    id: &CheckpointId,
) -> Result<PathBuf, RegistryError> {
    let root = data_dir.join(FOLDER);
    files::make_root(&root)?;
    let own = bucket.map(|bucket| Place::new(bucket.clone(), runtime.clone(), remote::OWN));
    checked_or_fetched(&root, id, own.as_ref())
}

/// The checkpoint that a folder is in the registry of a data folder; `None` for folders elsewhere.
pub fn checkpoint_at(data_dir: &Path, folder: &Path) -> Option<CheckpointId> {
    let name = folder.strip_prefix(data_dir.join(FOLDER)).ok()?;
    CheckpointId::parse(name.to_str()?).ok()
}

/// The folder of a checkpoint that is as it was written, fetched where it is not.
pub(super) fn checked_or_fetched(
    root: &Path,
    id: &CheckpointId,
    bucket: Option<&Place>,
) -> Result<PathBuf, RegistryError> {
    match (verify::checked(root, id), bucket) {
        (Err(RegistryError::NotThere { .. } | RegistryError::Damaged { .. }), Some(bucket)) => {
            bucket.fetch(root, id)?;
            verify::checked(root, id)
        }
        (found, _) => found,
    }
}

/// Imports what must have this content: from the folder where it is there and has it, else from
/// where its worker uploaded it.
pub(super) fn import_as(
    root: &Path,
    folder: &Path,
    id: &CheckpointId,
    uploaded: Option<&Place>,
) -> Result<(CheckpointId, i64), RegistryError> {
    let here = match files::describe(folder) {
        Ok(manifest) if CheckpointId::of(&manifest.to_bytes()) == *id => {
            files::import(root, folder)
        }
        Ok(_) => Err(RegistryError::damaged(
            id,
            "one of its files",
            "is not what its job wrote",
        )),
        Err(_) if !folder.exists() => Err(RegistryError::NotThere { id: id.to_string() }),
        Err(error) => Err(error),
    };
    match (here, uploaded) {
        (Err(_), Some(uploaded)) => Ok((id.clone(), uploaded.fetch(root, id)?)),
        (here, _) => here,
    }
}
