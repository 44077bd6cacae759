//! Keys and values of many sequences, in blocks of one pool.
//!
//! Who owns which block is not decided here: a forward pass is told by each sequence's table.

use crate::kernel::matmul::{Packing, Precision};
use crate::kernel::team::{CachedBlocks, Kept, Rows};
use crate::kernel::{BLOCK_TOKENS, Pages};

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
    numbers: Numbers,
    layers: usize,
    kv_heads: usize,
    /// Numbers of one head's keys of a block, and of its values.
    width: usize,
    blocks: usize,
    workspace: Workspace,
}

/// The keys and the values, laid out as [`Kept`] says.
enum Numbers {
    F32(Pages<f32>, Pages<f32>),
    Bf16(Pages<u16>, Pages<u16>),
}

impl KvPool {
    /// So many blocks for `(kv_heads, head_dim)` in each layer.
    pub(super) fn new(
        numbers: KvNumbers,
        layers: usize,
        (kv_heads, head_dim): (usize, usize),
        blocks: usize,
    ) -> Self {
        let width = BLOCK_TOKENS * head_dim;
        let size = blocks * layers * kv_heads * width;
        Self {
            numbers: match numbers {
                KvNumbers::F32 => Numbers::F32(Pages::new(size), Pages::new(size)),
                KvNumbers::Bf16 => Numbers::Bf16(Pages::new(size), Pages::new(size)),
            },
            layers,
            kv_heads,
            width,
            blocks,
            workspace: Workspace::default(),
        }
    }

    /// Takes the memory of all blocks now, so that none is missing later and the first to write to
    /// a block need not wait for it.
    pub fn populate(&self) {
        let populated = match &self.numbers {
            Numbers::F32(keys, values) => keys.populate().and_then(|()| values.populate()),
            Numbers::Bf16(keys, values) => keys.populate().and_then(|()| values.populate()),
        };
        if let Err(error) = populated {
            tracing::warn!(%error, "memory for keys and values is taken when it is used");
        }
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Lends a pass what it works with, and the blocks of the first layer.
    pub(super) fn lend<R>(
        &mut self,
        pass: impl FnOnce(&mut Workspace, CachedBlocks<'_>) -> R,
    ) -> R {
        let rows = self.blocks * self.layers * self.kv_heads;
        let (workspace, width) = (&mut self.workspace, self.width);
        match &mut self.numbers {
            Numbers::F32(keys, values) => {
                let both = (
                    &Rows::over(keys, rows, width),
                    &Rows::over(values, rows, width),
                );
                let kept = Kept::new(both, self.layers, self.kv_heads);
                pass(workspace, CachedBlocks::F32(kept))
            }
            Numbers::Bf16(keys, values) => {
                let both = (
                    &Rows::over(keys, rows, width),
                    &Rows::over(values, rows, width),
                );
                let kept = Kept::new(both, self.layers, self.kv_heads);
                pass(workspace, CachedBlocks::Bf16(kept))
            }
        }
    }
}
