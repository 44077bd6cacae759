//! Keeps a job's folder to one run: two would write each other's states and metrics.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use super::TrainingError;

/// The file that is locked; it stays, and means nothing while nobody holds it.
const NAME: &str = "run.lock";

/// Held as long as a job runs. The system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct FolderLock(#[expect(dead_code, reason = "held, not used")] File);

impl FolderLock {
    /// Locks a job's folder, which exists.
    pub(super) fn take(folder: &Path) -> Result<Self, TrainingError> {
        let path = folder.join(NAME);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| TrainingError::file(&path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(TrainingError::InUse {
                path: folder.to_owned(),
            }),
            // a file system without locks: as before there were any
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                Ok(Self(file))
            }
            Err(TryLockError::Error(source)) => Err(TrainingError::file(path, source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_runs_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::take(folder.path()).unwrap();
        let refused = FolderLock::take(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("another run"), "{refused}");
        drop(first);
        FolderLock::take(folder.path()).unwrap();
    }
}
