//! What can be wrong with a GGUF file.

use std::path::PathBuf;

/// A GGUF file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file could not be opened or mapped.
    #[error("cannot access {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not whole, or something else.
    #[error("{} is not a whole GGUF file: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// A metadata entry is missing or of another type.
    #[error("{}: metadata `{key}` {reason}", path.display())]
    Metadata {
        /// Which file.
        path: PathBuf,
        /// The entry's key.
        key: Box<str>,
        /// What is wrong, and what was expected.
        reason: Box<str>,
    },
    /// The file holds something that this program does not read.
    #[error("{} has {feature}, which is not supported; {supported}", path.display())]
    Unsupported {
        /// Which file.
        path: PathBuf,
        /// What it has.
        feature: Box<str>,
        /// What is supported.
        supported: Box<str>,
    },
}
