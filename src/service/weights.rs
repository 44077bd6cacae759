//! What a base model is loaded from: a folder of safetensors, or a GGUF file.

use std::path::{Path, PathBuf};

use super::error::LoadError;
use super::sampling::SamplingDefaults;
use crate::gguf::{GgufError, GgufFile};
#[cfg(feature = "cuda")]
use crate::model::CudaDecoder;
use crate::model::{Decoder, Dtype};
use crate::text::PromptEncoder;
use crate::training::fingerprint::{base_hash, hash_files};
use crate::types::TokenId;

/// Where a base model's tensors, tokenizer and configuration are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weights {
    /// In files of a folder.
    Folder(PathBuf),
    /// All in one file.
    Gguf(PathBuf),
}

impl Weights {
    /// The folder or the file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Gguf(path) => path,
        }
    }

    /// The decoder.
    ///
    /// # Errors
    /// It cannot be read or is not supported.
    pub(super) fn decoder(&self, dtype: Dtype) -> Result<Decoder, LoadError> {
        let loaded = match self {
            Self::Folder(dir) => Decoder::load_with(dir, dtype),
            Self::Gguf(path) => Decoder::load_gguf(&open(path)?, dtype),
        };
        loaded.map_err(|source| LoadError::Model {
            dir: self.path().to_owned(),
            source,
        })
    }

    /// The decoder on a CUDA device.
    ///
    /// # Errors
    /// It cannot be read, is not supported, or the device cannot be used.
    #[cfg(feature = "cuda")]
    pub(super) fn device_decoder(
        &self,
        dtype: Dtype,
        ordinal: usize,
    ) -> Result<CudaDecoder, LoadError> {
        let loaded = match self {
            Self::Folder(dir) => CudaDecoder::load(dir, dtype, ordinal),
            Self::Gguf(path) => CudaDecoder::load_gguf(path, dtype, ordinal),
        };
        loaded.map_err(|source| LoadError::Model {
            dir: self.path().to_owned(),
            source,
        })
    }

    /// The tokenizer and the chat template.
    ///
    /// # Errors
    /// They cannot be read or are not supported.
    pub(super) fn encoder(&self) -> Result<PromptEncoder, LoadError> {
        let loaded = match self {
            Self::Folder(dir) => PromptEncoder::load(dir),
            Self::Gguf(path) => PromptEncoder::load_gguf(&open(path)?),
        };
        loaded.map_err(|source| LoadError::Text {
            dir: self.path().to_owned(),
            source,
        })
    }

    /// The hash of the content, in hex.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn hash(&self) -> Result<String, LoadError> {
        let hash = match self {
            Self::Folder(dir) => base_hash(dir),
            Self::Gguf(path) => {
                let (dir, name) = (path.parent(), path.file_name());
                let name = name.unwrap_or_default().to_string_lossy();
                hash_files(dir.unwrap_or(Path::new("")), &[&name])
                    .map(|hash| hash.to_hex().to_string())
            }
        };
        hash.map_err(LoadError::Hash)
    }

    /// How tokens are chosen where nobody says; a GGUF file says nothing.
    ///
    /// # Errors
    /// The folder's `generation_config.json` cannot be read.
    pub(super) fn sampling(
        &self,
        eos: &[TokenId],
        max_tokens: usize,
    ) -> Result<SamplingDefaults, LoadError> {
        match self {
            Self::Folder(dir) => SamplingDefaults::load(dir, eos, max_tokens),
            Self::Gguf(_) => Ok(SamplingDefaults::unstated(eos, max_tokens)),
        }
    }

    /// What the files are, in a line.
    pub(super) fn described(&self) -> Result<String, LoadError> {
        let path = self.path().display();
        Ok(match self {
            Self::Folder(_) => format!("folder: {path}"),
            Self::Gguf(file) => {
                let formats = open(file)?.bytes_by_format();
                let each = formats
                    .iter()
                    .map(|(format, bytes)| match *bytes as f64 / 1024.0 {
                        kib if kib < 1024.0 => format!("{format} {kib:.0} KiB"),
                        kib => format!("{format} {:.0} MiB", kib / 1024.0),
                    });
                let each = each.collect::<Vec<_>>().join(", ");
                format!("GGUF file: {path}, tensors: {each}")
            }
        })
    }
}

fn open(path: &Path) -> Result<GgufFile, LoadError> {
    GgufFile::open(path).map_err(|source: GgufError| LoadError::Gguf { source })
}
