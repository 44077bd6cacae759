//! Why a checkpoint cannot be kept, found or used.

use std::path::PathBuf;

use super::manifest::CheckpointId;
use crate::storage::StorageError;
use crate::store::StoreError;

/// A checkpoint that cannot be used, or a registry that cannot be reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A text that is no checkpoint's id.
    #[error("`{0}` is no checkpoint id; expected 64 digits of lower-case hexadecimal")]
    BadId(String),
    /// A folder that lacks a file every checkpoint has.
    #[error(
        "there is no file `{file}`; only policies can be promoted, an adapter \
         (`adapter_config.json`, `adapter_model.safetensors`) with its manifest `steering.json`"
    )]
    Incomplete {
        /// The file that is missing.
        file: &'static str,
    },
    /// No checkpoint of this id, on this disk or in the bucket.
    #[error("there is no checkpoint {id} in the registry")]
    NotThere {
        /// The id.
        id: String,
    },
    /// A checkpoint whose bytes are not those it was written with.
    #[error("the checkpoint {id} is damaged: {file} {problem}")]
    Damaged {
        /// The id.
        id: String,
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that was uploaded for jobs and cannot be had as it was.
    #[error("the file {id} {problem}")]
    Upload {
        /// Its id.
        id: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that was uploaded for jobs and is not on this machine.
    #[error(
        "the file {id} is not on this machine, and no bucket is set that may have it \
         (`--registry`)"
    )]
    UploadMissing {
        /// Its id.
        id: String,
    },
    /// A file or folder cannot be read or written.
    #[error("cannot access {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The bucket cannot be asked.
    #[error("the registry's bucket cannot be read or written")]
    Storage(#[from] StorageError),
    /// The store cannot be asked.
    #[error("the registry's rows cannot be read or written")]
    Store(#[from] StoreError),
}

impl RegistryError {
    pub(super) fn damaged(id: &CheckpointId, file: &str, problem: impl Into<String>) -> Self {
        Self::Damaged {
            id: id.to_string(),
            file: file.to_owned(),
            problem: problem.into(),
        }
    }

    pub(super) fn file(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::File {
            path: path.into(),
            source,
        }
    }
}
