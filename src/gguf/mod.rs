//! GGUF files as they lie on disk: their metadata, where each tensor is, and what its blocks hold.
//!
//! Knows no model and no tokenizer. Nothing is allocated for a length that the file cannot hold,
//! and every tensor lies inside the file before anything is read of it. The format is described in
//! ggml's `docs/gguf.md`.

mod cursor;
mod dequantize;
mod error;
mod file;
mod format;
mod metadata;
mod super_blocks;

pub use dequantize::{dequantize, dequantize_into};
pub use error::GgufError;
pub use file::{GgufFile, GgufTensor, is_gguf};
pub use format::BlockFormat;
pub use metadata::{Metadata, Value};
