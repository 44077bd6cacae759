//! The keys and values that one sequence has computed so far.

use candle_core::Tensor;

use crate::kernel::with_elements;

use super::ModelError;

/// One sequence's keys and values in every layer, f32.
#[derive(Clone)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    /// Floats a token in keys, and in values.
    width: usize,
    len: usize,
}

#[derive(Clone, Default)]
pub(super) struct LayerCache {
    /// (tokens, kv_heads, head_dim)
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
}

impl KvCache {
    pub(super) fn new(layers: usize, width: usize) -> Self {
        Self {
            layers: vec![LayerCache::default(); layers],
            width,
            len: 0,
        }
    }

    /// Tokens cached.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True before the first token.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all tokens from position `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        for layer in &mut self.layers {
            layer.keys.truncate(self.len * self.width);
            layer.values.truncate(self.len * self.width);
        }
    }

    pub(super) fn layer(&self, index: usize) -> &LayerCache {
        &self.layers[index]
    }

    /// Appends rows `start..start + len` of (tokens, kv_heads, head_dim) keys and values to one
    /// layer; `advance` counts them once all layers have them.
    pub(super) fn append(
        &mut self,
        layer: usize,
        rows: (usize, usize),
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<(), ModelError> {
        let (start, len) = rows;
        let range = start * self.width..(start + len) * self.width;
        let layer = &mut self.layers[layer];
        with_elements(keys, |keys| {
            layer.keys.extend_from_slice(&keys[range.clone()])
        })?;
        with_elements(values, |values| {
            layer.values.extend_from_slice(&values[range])
        })?;
        Ok(())
    }

    pub(super) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }
}
