//! Why a bucket cannot be used.

use std::path::PathBuf;

/// A bucket that does not answer as it should, or cannot be one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// A text that is no bucket's address.
    #[error("`{0}` is no address of a bucket; expected s3://BUCKET/PREFIX")]
    Address(String),
    /// The environment says something of it that cannot be.
    #[error("the bucket cannot be used as the variables AWS_… say")]
    Settings(#[source] Box<object_store::Error>),
    /// A request was refused, or never answered.
    #[error("the bucket {address} failed to {verb} `{key}`")]
    Request {
        /// Which bucket.
        address: String,
        /// What was asked.
        verb: &'static str,
        /// Of which object.
        key: String,
        /// The client's reason.
        #[source]
        source: Box<object_store::Error>,
    },
    /// It stopped in the middle of an object.
    #[error("the bucket {address} sent nothing of `{key}` for {seconds} s")]
    Silent {
        /// Which bucket.
        address: String,
        /// The object.
        key: String,
        /// How long.
        seconds: u64,
    },
    /// A piece of an object could not be taken.
    #[error("the object `{key}` cannot be taken")]
    Taken {
        /// The object.
        key: String,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be read.
    #[error("cannot access {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
}

impl StorageError {
    pub(super) fn file(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::File {
            path: path.into(),
            source,
        }
    }
}
