//! The encoder layer of BERT and its kin: attention and feed-forward, each followed by a norm.

use candle_core::Tensor;

use super::super::config_reader::ConfigReader;
use super::super::linear::Linear;
use super::super::tensors::TensorFiles;
use super::disentangled::RelativePositions;
use super::ops::{LayerNorm, Nonlinearity, apply, dense, softmax};
use super::pack::Pack;
use super::settings::{head_width, read_nonlinearity};
use crate::model::ModelError;

/// The sizes of an encoder's layers.
#[derive(Debug, Clone, Copy)]
pub(super) struct EncoderShape {
    pub(super) hidden: usize,
    pub(super) inner: usize,
    pub(super) heads: usize,
    pub(super) head_width: usize,
    pub(super) eps: f64,
    pub(super) activation: Nonlinearity,
}

impl EncoderShape {
    /// Reads the keys that BERT, RoBERTa and DeBERTa share; `eps` where none is stated.
    pub(super) fn read(reader: &mut ConfigReader, eps: f64) -> Result<Self, ModelError> {
        let hidden = reader.required_count("hidden_size")?;
        let heads = reader.required_count("num_attention_heads")?;
        Ok(Self {
            hidden,
            inner: reader.required_count("intermediate_size")?,
            heads,
            head_width: head_width(reader, hidden, heads)?,
            eps: reader.number("layer_norm_eps")?.unwrap_or(eps),
            activation: read_nonlinearity(reader, "hidden_act", "gelu")?,
        })
    }
}

/// What a family calls the parts of a layer, below the layer's own path.
pub(super) struct LayerNames {
    pub(super) query: &'static str,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
    pub(super) attention_output: &'static str,
    pub(super) attention_norm: &'static str,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
    pub(super) output_norm: &'static str,
}

/// One layer.
pub(super) struct EncoderLayer {
    pub(super) query: Linear,
    pub(super) key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    output_norm: LayerNorm,
    shape: EncoderShape,
}

impl EncoderLayer {
    pub(super) fn load(
        files: &mut TensorFiles,
        path: &str,
        names: &LayerNames,
        shape: EncoderShape,
    ) -> Result<Self, ModelError> {
        let EncoderShape {
            hidden, inner, eps, ..
        } = shape;
        let at = |name: &str| format!("{path}.{name}");
        Ok(Self {
            query: dense(files, &at(names.query), hidden, hidden)?,
            key: dense(files, &at(names.key), hidden, hidden)?,
            value: dense(files, &at(names.value), hidden, hidden)?,
            attention_output: dense(files, &at(names.attention_output), hidden, hidden)?,
            attention_norm: LayerNorm::load(files, &at(names.attention_norm), hidden, eps)?,
            up: dense(files, &at(names.up), hidden, inner)?,
            down: dense(files, &at(names.down), inner, hidden)?,
            output_norm: LayerNorm::load(files, &at(names.output_norm), hidden, eps)?,
            shape,
        })
    }

    /// (tokens, hidden) to the same; every token sees its whole sequence.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        pack: &Pack,
        relative: Option<&RelativePositions>,
    ) -> Result<Tensor, ModelError> {
        let attended = self.attend(x, pack, relative)?;
        let attended = apply(&self.attention_output, &attended)?;
        let x = self.attention_norm.forward(&(attended + x)?)?;
        let inner = self.shape.activation.apply(&apply(&self.up, &x)?)?;
        self.output_norm.forward(&(apply(&self.down, &inner)? + x)?)
    }

    fn attend(
        &self,
        x: &Tensor,
        pack: &Pack,
        relative: Option<&RelativePositions>,
    ) -> Result<Tensor, ModelError> {
        let query = apply(&self.query, x)?;
        let key = apply(&self.key, x)?;
        let value = apply(&self.value, x)?;
        let factor = relative.map_or(1, RelativePositions::scale_factor);
        let scale = ((self.shape.head_width * factor) as f64).sqrt().recip();
        let mut parts = Vec::with_capacity(pack.spans().len());
        for span in pack.spans() {
            let of_span = |rows: &Tensor| self.heads(&rows.narrow(0, span.start, span.len)?);
            let (query, key, value) = (of_span(&query)?, of_span(&key)?, of_span(&value)?);
            let mut scores = query.matmul(&key.t()?)?;
            if let Some(relative) = relative {
                scores = relative.add_to(&scores, &query, &key)?;
            }
            let weights = softmax(&(scores * scale)?)?;
            let mixed = weights.matmul(&value)?;
            parts.push(mixed.transpose(0, 1)?.contiguous()?.flatten_from(1)?);
        }
        Ok(Tensor::cat(&parts, 0)?)
    }

    /// (tokens, hidden) to (heads, tokens, head width).
    pub(super) fn heads(&self, rows: &Tensor) -> Result<Tensor, ModelError> {
        let split = (rows.dim(0)?, self.shape.heads, self.shape.head_width);
        Ok(rows.reshape(split)?.transpose(0, 1)?.contiguous()?)
    }
}
