//! The input embedding, which is often the output embedding too.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::kernel::matmul::{PackedMatrix, Packing, Precision};
use crate::types::TokenId;

use super::ModelError;
use super::config::DecoderConfig;
use super::linear::{Linear, LinearSettings, both_ways};
use super::tensors::TensorSource;

/// (vocabulary, hidden)
pub(super) enum Embedding {
    /// A tensor, through which gradients pass.
    Tensor(Tensor),
    /// Packed as a linear layer is; shared with the head where they are one, and then its transpose
    /// is packed too where gradients pass through the head.
    Packed(Arc<PackedMatrix>, Option<Arc<PackedMatrix>>),
}

impl Embedding {
    pub(super) fn load(
        source: &mut dyn TensorSource,
        config: &DecoderConfig,
        settings: LinearSettings,
    ) -> Result<Self, ModelError> {
        let name = "model.embed_tokens.weight";
        let shape = [config.vocab_size, config.hidden_size];
        if !settings.gradients {
            let packed = settings.pack(source, name, shape)?;
            return Ok(Self::Packed(Arc::new(packed), None));
        }
        let tensor = source.tensor(name, &shape)?;
        // Packed in f32 its rows are the tensor's to the bit.
        let exact = settings.packing == Packing::Plain(Precision::F32);
        if !config.tied || !exact || tensor.is_variable() {
            return Ok(Self::Tensor(tensor));
        }
        let [packed, back] = both_ways(&tensor, settings.packing)?;
        Ok(Self::Packed(packed, Some(back)))
    }

    /// The linear layer that makes logits.
    pub(super) fn head(
        &self,
        source: &mut dyn TensorSource,
        config: &DecoderConfig,
        settings: LinearSettings,
    ) -> Result<Linear, ModelError> {
        let (path, name) = ("lm_head".to_owned(), "lm_head.weight");
        let shape = [config.vocab_size, config.hidden_size];
        match self {
            Self::Tensor(tensor) => {
                let weight = match config.tied {
                    true => tensor.clone(),
                    false => source.tensor(name, &shape)?,
                };
                Linear::new(path, weight, None, settings.packing)
            }
            Self::Packed(packed, back) if config.tied => {
                Ok(Linear::packed(path, Arc::clone(packed), back.clone()))
            }
            Self::Packed(..) => {
                let packed = settings.pack(source, name, shape)?;
                Ok(Linear::packed(path, Arc::new(packed), None))
            }
        }
    }

    /// Whether it changes in training.
    pub(super) fn wants_gradient(&self) -> bool {
        match self {
            Self::Tensor(tensor) => tensor.track_op(),
            Self::Packed(..) => false,
        }
    }

    /// The rows of these tokens, (tokens, hidden).
    pub(super) fn rows(&self, tokens: &[TokenId]) -> Result<Tensor, ModelError> {
        match self {
            Self::Tensor(tensor) => {
                let ids = Tensor::from_slice(tokens, tokens.len(), &Device::Cpu)?;
                Ok(tensor.index_select(&ids, 0)?)
            }
            Self::Packed(packed, _) => {
                let width = packed.in_features();
                let mut rows = vec![0.0; tokens.len() * width];
                for (token, row) in tokens.iter().zip(rows.chunks_exact_mut(width)) {
                    packed.row_into(*token as usize, row);
                }
                Ok(Tensor::from_vec(rows, (tokens.len(), width), &Device::Cpu)?)
            }
        }
    }
}
