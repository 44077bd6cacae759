//! Keys and values of many sequences, in blocks of one pool.
//!
//! Who owns which block is not decided here: a forward pass is told by each sequence's table.

use candle_core::Tensor;

use crate::kernel::{BLOCK_TOKENS, CachedRows, CachedSpan, with_elements};

use super::ModelError;

/// A block's place in its pool.
pub type BlockId = u32;

/// Blocks of keys and values in every layer, f32. Memory is the system's until a block is first
/// written.
pub struct KvPool {
    layers: Vec<LayerPool>,
    kv_heads: usize,
    head_dim: usize,
    blocks: usize,
}

/// Keys and values, each (blocks, kv_heads, BLOCK_TOKENS, head_dim).
struct LayerPool {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// What one pass reads and writes: a pool, and where its spans lie in it.
pub(super) struct Paged<'a> {
    pub(super) pool: &'a mut KvPool,
    pub(super) spans: &'a [CachedSpan<'a>],
}

impl KvPool {
    pub(super) fn new(layers: usize, (kv_heads, head_dim): (usize, usize), blocks: usize) -> Self {
        let size = blocks * kv_heads * BLOCK_TOKENS * head_dim;
        let layer = || LayerPool {
            keys: vec![0.0; size],
            values: vec![0.0; size],
        };
        Self {
            layers: std::iter::repeat_with(layer).take(layers).collect(),
            kv_heads,
            head_dim,
            blocks,
        }
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    pub(super) fn layer(&self, index: usize) -> CachedRows<'_> {
        let layer = &self.layers[index];
        CachedRows {
            keys: &layer.keys,
            values: &layer.values,
        }
    }

    /// Puts (tokens, kv_heads, head_dim) keys and values of packed spans into one layer.
    pub(super) fn write(
        &mut self,
        layer: usize,
        spans: &[CachedSpan<'_>],
        (keys, values): (&Tensor, &Tensor),
    ) -> Result<(), ModelError> {
        let (kv_heads, head_dim) = (self.kv_heads, self.head_dim);
        let layer = &mut self.layers[layer];
        for (tensor, pool) in [(keys, &mut layer.keys), (values, &mut layer.values)] {
            with_elements(tensor, |rows| {
                let mut rows = rows.chunks_exact(head_dim);
                for span in spans {
                    for position in span.first_position..span.first_position + span.len {
                        let block = span.blocks[position / BLOCK_TOKENS] as usize;
                        let slot = position % BLOCK_TOKENS;
                        for (head, row) in rows.by_ref().take(kv_heads).enumerate() {
                            let at = ((block * kv_heads + head) * BLOCK_TOKENS + slot) * head_dim;
                            pool[at..at + head_dim].copy_from_slice(row);
                        }
                    }
                }
            })?;
        }
        Ok(())
    }
}
