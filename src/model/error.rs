//! What can be wrong with a checkpoint, or go wrong while it runs.

use std::path::PathBuf;

use crate::gguf::GgufError;
#[cfg(feature = "cuda")]
use crate::kernel::cuda::CudaError;

/// A checkpoint that cannot be used, or a computation that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file could not be read or written.
    #[error("cannot access {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is there but not what it should be.
    #[error("{} is not valid: {reason}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// The checkpoint asks for something that this program does not do.
    #[error("{} asks for {feature}, which is not supported; {supported}", path.display())]
    Unsupported {
        /// Which file.
        path: PathBuf,
        /// What it asks for, with its value.
        feature: String,
        /// What can be used instead.
        supported: String,
    },
    /// No tensors in the folder.
    #[error(
        "{} holds no model.safetensors and no model.safetensors.index.json; point to a folder with \
         config.json, tokenizer.json and safetensors files",
        path.display()
    )]
    NoTensors {
        /// The folder.
        path: PathBuf,
    },
    /// Only pickle files in the folder.
    #[error(
        "{} is a pickle file; loading one can run arbitrary code, so only safetensors are read: \
         convert it with transformers' save_pretrained(safe_serialization=True)",
        path.display()
    )]
    Pickle {
        /// The pickle file.
        path: PathBuf,
    },
    /// A tensor is missing, of another shape, or not expected.
    #[error("tensor `{name}`: {reason}")]
    Tensor {
        /// Its name in the checkpoint.
        name: String,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// A GGUF file cannot be read.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A CUDA device cannot be used, or failed.
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// The arithmetic failed.
    #[error("computation failed")]
    Compute(#[from] candle_core::Error),
}
