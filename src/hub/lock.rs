//! One process at a time fetches a blob; the same locks as Hugging Face's own library takes.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// How often a lock that somebody else holds is tried.
const EVERY: Duration = Duration::from_millis(200);

/// Held while a blob is written. The system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct BlobLock(#[expect(dead_code, reason = "held, not used")] File);

impl BlobLock {
    /// Waits for the lock; `waits` hears of it once where somebody else has it.
    pub(super) async fn take(path: &Path, waits: impl FnOnce()) -> io::Result<Self> {
        let mut waits = Some(waits);
        loop {
            let mut options = OpenOptions::new();
            let file = options
                .create(true)
                .truncate(false)
                .write(true)
                // whoever shares the cache must be able to wait too
                .mode(0o664)
                .open(path)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, path) => return Ok(Self(file)),
                // whoever held it removed the file: the lock is that of a new one
                Ok(()) => continue,
                // a file system without locks: two processes may fetch the same bytes
                Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                    return Ok(Self(file));
                }
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {}
            }
            if let Some(waits) = waits.take() {
                waits();
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// Whether the path still leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn the_second_waits_for_the_first_and_says_so_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.lock");
        let told = AtomicU32::new(0);
        let tell = || {
            told.fetch_add(1, Ordering::Relaxed);
        };
        let first = BlobLock::take(&path, tell).await.expect("free");
        assert_eq!(told.load(Ordering::Relaxed), 0);
        let second = BlobLock::take(&path, tell);
        let freed = async {
            tokio::task::yield_now().await;
            drop(first);
        };
        let (second, ()) = tokio::join!(second, freed);
        second.expect("free again");
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_lock_whose_file_was_removed_is_not_taken_for_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.lock");
        let file = File::create(&path).expect("made");
        assert!(is_at(&file, &path));
        std::fs::remove_file(&path).expect("removed");
        assert!(!is_at(&file, &path));
        BlobLock::take(&path, || ()).await.expect("made anew");
    }
}
