//! Checkpoints of training jobs, before any of them is a policy's: their content's id, and where a
//! bucket keeps them for servers that do not see the worker's disk.

use std::path::Path;

use tokio::runtime::Handle;

use super::RegistryError;
use super::files;
use super::manifest::CheckpointId;
use super::remote::Place;
use crate::storage::Bucket;

/// What a job's checkpoint holds, as its worker wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobContent {
    /// The job.
    pub job: String,
    /// The content's id.
    pub id: CheckpointId,
}

/// The id of a folder's content, which is read for it; `None` where the folder holds no policy.
///
/// # Errors
/// A file cannot be read.
pub fn content_of(folder: &Path) -> Result<Option<CheckpointId>, RegistryError> {
    match files::describe(folder) {
        Ok(manifest) => Ok(Some(CheckpointId::of(&manifest.to_bytes()))),
        Err(RegistryError::Incomplete { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A job's place in a bucket. Its calls block, on a thread that runs no task of the runtime.
pub struct JobShelf(Place);

impl JobShelf {
    /// That of a job.
    pub fn new(bucket: &Bucket, runtime: &Handle, job: &str) -> Self {
        Self(place(bucket, runtime, job))
    }

    /// Writes a policy's folder; its content's id.
    ///
    /// # Errors
    /// A file is missing or cannot be read, or the bucket fails.
    pub fn upload(&self, folder: &Path) -> Result<CheckpointId, RegistryError> {
        self.0.upload(folder)
    }

    /// Removes what has this content.
    ///
    /// # Errors
    /// It is no content's id, or the bucket fails.
    pub fn remove(&self, content: &str) -> Result<(), RegistryError> {
        self.0.remove(&CheckpointId::parse(content)?)
    }
}

pub(super) fn place(bucket: &Bucket, runtime: &Handle, job: &str) -> Place {
    Place::new(bucket.clone(), runtime.clone(), format!("jobs/{job}"))
}
