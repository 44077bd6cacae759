//! Which checkpoints exist, and which one of each policy is live.
//!
//! Files lie below the data folder, in folders named after their content and never changed; rows
//! that say what they are lie in the store. Files come first and rows second, so a row never names
//! files that are not there. Every byte is checked against the name before it is used. With a
//! bucket the files are there too, and what the data folder lacks, or has damaged, is fetched.

mod error;
mod files;
mod history;
mod lookup;
mod manifest;
mod of_job;
mod remote;
mod retention;
mod uploads;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle;

use self::remote::Place;
use crate::storage::Bucket;
use crate::store::{
    PolicyChange, PolicyCheckpointRow, PolicyHistoryRow, PolicyRow, Store, Written,
};

pub use error::RegistryError;
pub use files::CHECKPOINT_FILES;
pub use history::live_before;
pub use lookup::{checked_below, checkpoint_at};
use lookup::{checked_or_fetched, import_as};
pub use manifest::{CheckpointId, CheckpointManifest, FileRecord, MANIFEST_FILE};
pub use of_job::{JobContent, JobShelf, content_of};
pub use uploads::Uploads;

/// The folder below the data folder.
const FOLDER: &str = "checkpoints";

/// Checkpoints on disk and their rows.
#[derive(Clone)]
pub struct Registry {
    root: Arc<Path>,
    store: Store,
    bucket: Option<Bucket>,
}

/// A checkpoint to be added.
#[derive(Debug, Clone)]
pub struct NewCheckpoint {
    /// The policy it is a version of.
    pub policy: String,
    /// The folder with its files, which are copied.
    pub folder: PathBuf,
    /// Where it came from, such as a job's id.
    pub origin: String,
    /// Reads from its folder what was measured of it, JSON.
    pub evaluation: fn(&Path) -> String,
    /// What the files must be, where a job wrote them; with a bucket the folder need not be on
    /// this machine.
    pub content: Option<JobContent>,
    /// Seconds since 1970, now.
    pub at: i64,
}

impl Registry {
    /// Opens the checkpoints below a data folder, which is made where it is missing.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub async fn open(data_dir: &Path, store: Store) -> Result<Self, RegistryError> {
        let root: Arc<Path> = data_dir.join(FOLDER).into();
        let made = Arc::clone(&root);
        blocking(move || files::make_root(&made)).await?;
        Ok(Self {
            root,
            store,
            bucket: None,
        })
    }

    /// The same with a bucket that has every file too.
    #[must_use]
    pub fn with_bucket(self, bucket: Option<Bucket>) -> Self {
        Self { bucket, ..self }
    }

    /// Copies a folder's files and adds the checkpoint as a candidate. The same content has the
    /// same id, and is kept once.
    ///
    /// # Errors
    /// A file is missing, damaged or cannot be copied, or the bucket or the store fails.
    pub async fn add(&self, new: NewCheckpoint) -> Result<CheckpointId, RegistryError> {
        let (root, folder, content) = (Arc::clone(&self.root), new.folder, new.content);
        let (bucket, own, read) = (self.bucket.clone(), self.place(), new.evaluation);
        let runtime = Handle::current();
        let work = move || {
            let (id, bytes) = match content {
                None => files::import(&root, &folder)?,
                Some(content) => {
                    let of_job = |bucket| of_job::place(bucket, &runtime, &content.job);
                    let fallback = bucket.as_ref().map(of_job);
                    import_as(&root, &folder, &content.id, fallback.as_ref())?
                }
            };
            let folder = root.join(id.as_str());
            if let Some(own) = own {
                own.upload(&folder)?;
            }
            Ok((id, bytes, read(&folder)))
        };
        let (id, bytes, evaluation) = blocking(work).await?;
        let row = PolicyCheckpointRow {
            policy: new.policy,
            id: id.to_string(),
            stage: "candidate".to_owned(),
            origin: new.origin,
            evaluation,
            bytes,
            created_at: new.at,
        };
        self.store.add_policy_checkpoint(&row).await?;
        Ok(id)
    }

    /// The folder of a checkpoint, after every file of it was read and found as it was written.
    /// What is missing or damaged is fetched from the bucket, where there is one.
    ///
    /// # Errors
    /// It is not there, or any bit of it has changed.
    pub async fn checked(&self, id: &CheckpointId) -> Result<PathBuf, RegistryError> {
        let (root, id, own) = (Arc::clone(&self.root), id.clone(), self.place());
        blocking(move || checked_or_fetched(&root, &id, own.as_ref())).await
    }

    /// Its own place in the bucket. Called from within the runtime.
    fn place(&self) -> Option<Place> {
        let bucket = self.bucket.clone()?;
        Some(Place::new(bucket, Handle::current(), remote::OWN))
    }

    /// Every policy that was ever changed.
    ///
    /// # Errors
    /// The store fails.
    pub async fn policies(&self) -> Result<Vec<PolicyRow>, RegistryError> {
        Ok(self.store.policies().await?)
    }

    /// A policy's row, where it was ever changed.
    ///
    /// # Errors
    /// The store fails.
    pub async fn policy(&self, id: &str) -> Result<Option<PolicyRow>, RegistryError> {
        Ok(self.store.policy(id).await?)
    }

    /// Every change of a policy, latest first.
    ///
    /// # Errors
    /// The store fails.
    pub async fn history(&self, policy: &str) -> Result<Vec<PolicyHistoryRow>, RegistryError> {
        Ok(self.store.policy_history(policy).await?)
    }

    /// Every checkpoint, by policy, newest first.
    ///
    /// # Errors
    /// The store fails.
    pub async fn checkpoints(&self) -> Result<Vec<PolicyCheckpointRow>, RegistryError> {
        Ok(self.store.policy_checkpoints().await?)
    }

    /// Writes what was measured of a checkpoint.
    ///
    /// # Errors
    /// The store fails.
    pub async fn set_evaluation(
        &self,
        policy: &str,
        id: &CheckpointId,
        evaluation: &str,
    ) -> Result<(), RegistryError> {
        let written = self.store.set_evaluation(policy, id.as_str(), evaluation);
        Ok(written.await?)
    }

    /// Makes a change where the policy is of version `expected`, 0 where it never was changed.
    ///
    /// # Errors
    /// The store fails.
    pub async fn change(
        &self,
        change: &PolicyChange,
        expected: i64,
    ) -> Result<Written<i64>, RegistryError> {
        Ok(self.store.change_policy(change, expected).await?)
    }

    /// Removes a policy's checkpoints that nothing needs any more; returns which.
    ///
    /// # Errors
    /// The store fails, or a file cannot be removed.
    pub async fn clear_old(&self, policy: &str) -> Result<Vec<String>, RegistryError> {
        let all = self.store.policy_checkpoints().await?;
        let own: Vec<_> = all.iter().filter(|row| row.policy == policy).collect();
        let needed = match self.store.policy(policy).await? {
            Some(row) => {
                let history = self.store.policy_history(policy).await?;
                let before = live_before(&history, row.live.as_deref());
                [row.live.clone(), row.canary, before.flatten()]
            }
            None => [None, None, None],
        };
        let needed: Vec<&str> = needed.iter().flatten().map(String::as_str).collect();
        let mut removed = Vec::new();
        for id in retention::removable(&own, &needed) {
            // the row first: no row may name files that are not there
            if !self.store.remove_policy_checkpoint(policy, &id).await? {
                continue;
            }
            let shared = all.iter().any(|row| row.id == id && row.policy != policy);
            if let (false, Ok(gone)) = (shared, CheckpointId::parse(&id)) {
                let (root, own) = (Arc::clone(&self.root), self.place());
                let work = move || {
                    files::remove(&root, &gone)?;
                    own.map_or(Ok(()), |own| own.remove(&gone))
                };
                blocking(work).await?;
            }
            removed.push(id);
        }
        Ok(removed)
    }
}

/// Runs what reads and writes whole files beside the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
