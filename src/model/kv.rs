//! Keys and values of many sequences, in blocks of one pool.
//!
//! Who owns which block is not decided here: a forward pass is told by each sequence's table.

use crate::kernel::BLOCK_TOKENS;
use crate::kernel::matmul::{Packing, Precision};
use crate::kernel::team::{CachedBlocks, Kept};

use super::serving::Workspace;

/// A block's place in its pool.
pub type BlockId = u32;

/// In what numbers keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KvNumbers {
    /// As they are.
    F32,
    /// Rounded to bf16: half the memory, and half of what is read for each token.
    Bf16,
}

impl KvNumbers {
    /// Those for a decoder whose linear layers are held so: no keys are finer than what made them.
    pub(super) fn beside(packing: Packing) -> Self {
        match packing {
            Packing::Plain(Precision::F32) => Self::F32,
            Packing::Plain(Precision::Bf16) | Packing::Blocks(_) => Self::Bf16,
        }
    }

    /// Bytes of one number.
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// Blocks of keys and values in every layer, and what passes over them work with. Memory is the
/// system's until a block is first written.
pub struct KvPool {
    layers: Vec<LayerPool>,
    heads: (usize, usize),
    blocks: usize,
    workspace: Workspace,
}

/// One layer's.
enum LayerPool {
    F32(Pool<f32>),
    Bf16(Pool<u16>),
}

/// Laid out as [`Kept`] says.
struct Pool<T> {
    keys: Vec<T>,
    values: Vec<T>,
}

impl LayerPool {
    fn new(numbers: KvNumbers, size: usize) -> Self {
        match numbers {
            KvNumbers::F32 => Self::F32(Pool {
                keys: vec![0.0; size],
                values: vec![0.0; size],
            }),
            KvNumbers::Bf16 => Self::Bf16(Pool {
                keys: vec![0; size],
                values: vec![0; size],
            }),
        }
    }

    fn cached(&mut self, blocks: usize, heads: (usize, usize)) -> CachedBlocks<'_> {
        match self {
            Self::F32(Pool { keys, values }) => {
                CachedBlocks::F32(Kept::new(keys, values, blocks, heads))
            }
            Self::Bf16(Pool { keys, values }) => {
                CachedBlocks::Bf16(Kept::new(keys, values, blocks, heads))
            }
        }
    }
}

impl KvPool {
    /// So many blocks for `(kv_heads, head_dim)` in each layer.
    pub(super) fn new(
        numbers: KvNumbers,
        layers: usize,
        heads: (usize, usize),
        blocks: usize,
    ) -> Self {
        let size = blocks * heads.0 * BLOCK_TOKENS * heads.1;
        let layers = std::iter::repeat_with(|| LayerPool::new(numbers, size)).take(layers);
        Self {
            layers: layers.collect(),
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
        let cached = layers.map(|layer| layer.cached(blocks, heads)).collect();
        (&mut self.workspace, cached)
    }
}
