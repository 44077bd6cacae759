//! Keys and values of many sequences, in blocks of one pool.
//!
//! Who owns which block is not decided here: a forward pass is told by each sequence's table.

use crate::kernel::BLOCK_TOKENS;
use crate::kernel::team::CachedBlocks;

use super::serving::Workspace;

/// A block's place in its pool.
pub type BlockId = u32;

/// Blocks of keys and values in every layer, f32, and what passes over them work with. Memory is
/// the system's until a block is first written.
pub struct KvPool {
    layers: Vec<LayerPool>,
    heads: (usize, usize),
    blocks: usize,
    workspace: Workspace,
}

/// Laid out as [`CachedBlocks`] says.
struct LayerPool {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl KvPool {
    /// So many blocks for `(kv_heads, head_dim)` in each layer.
    pub(super) fn new(layers: usize, heads: (usize, usize), blocks: usize) -> Self {
        let size = blocks * heads.0 * BLOCK_TOKENS * heads.1;
        let layer = || LayerPool {
            keys: vec![0.0; size],
            values: vec![0.0; size],
        };
        Self {
            layers: std::iter::repeat_with(layer).take(layers).collect(),
            heads,
            blocks,
            workspace: Workspace::default(),
        }
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// What a pass works with, and the blocks of each layer.
    pub(super) fn parts(&mut self) -> (&mut Workspace, Vec<CachedBlocks<'_>>) {
        let (blocks, heads) = (self.blocks, self.heads);
        let layers = self.layers.iter_mut();
        let cached = layers
            .map(|layer| CachedBlocks::new(&mut layer.keys, &mut layer.values, blocks, heads))
            .collect();
        (&mut self.workspace, cached)
    }
}
