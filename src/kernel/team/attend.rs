//! Phases over attention: new keys and values go to their blocks, then every row looks back.
//!
//! Each row and head is computed by itself, in an order that depends on its own position alone, so a
//! sequence gets the same bits alone, in a batch, whether its prompt came whole or in chunks, and
//! wherever its blocks lie.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod fetch;
mod look_back;
mod number;
mod products;

use std::ops::Range;

use super::super::attention::AttentionShape;
use super::super::norm::norm_in_place;
use super::super::rope::RopeTable;
use super::{Member, NormTensor, Rows, share};
use crate::kernel::BLOCK_TOKENS;

use look_back::Tile;
use products::MOST_ROWS;

pub use number::CacheNumber;

/// One layer's keys and values in blocks, shared by the members of one pass.
#[derive(Clone, Copy)]
pub enum CachedBlocks<'a> {
    /// As they are.
    F32(Kept<'a, f32>),
    /// Rounded to bf16.
    Bf16(Kept<'a, u16>),
}

/// One layer's keys and values in numbers of one kind.
///
/// The keys of all layers are (blocks, layers, kv_heads, head_dim, BLOCK_TOKENS): those of 16 tokens
/// lie side by side, so that 16 scores are made at once. The values are (blocks, layers, kv_heads,
/// BLOCK_TOKENS, head_dim). Blocks that nobody has written to take no memory.
pub struct Kept<'a, T> {
    keys: &'a Rows<'a, T>,
    values: &'a Rows<'a, T>,
    /// Which of how many layers.
    layer: (usize, usize),
    kv_heads: usize,
}

impl<T> Clone for Kept<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Kept<'_, T> {}

impl<'a, T: CacheNumber> Kept<'a, T> {
    /// The first of so many layers, for `kv_heads` heads, of keys and values whose rows are one
    /// head's of a block.
    #[must_use]
    pub fn new(
        (keys, values): (&'a Rows<'a, T>, &'a Rows<'a, T>),
        layers: usize,
        kv_heads: usize,
    ) -> Self {
        assert_eq!(keys.width(), values.width(), "a head's keys and values");
        Self {
            keys,
            values,
            layer: (0, layers),
            kv_heads,
        }
    }

    /// Another layer's.
    fn at(self, layer: usize) -> Self {
        Self {
            layer: (layer, self.layer.1),
            ..self
        }
    }

    /// The row of a block's head.
    fn row(&self, block: usize, head: usize) -> usize {
        (block * self.layer.1 + self.layer.0) * self.kv_heads + head
    }

    /// # Safety
    /// Nobody else reaches this slot of this block before the members meet again.
    unsafe fn write(&self, (block, slot): (usize, usize), key: &[f32], value: &[f32]) {
        let head_dim = self.values.width() / BLOCK_TOKENS;
        let heads = key.chunks_exact(head_dim).zip(value.chunks_exact(head_dim));
        for (head, (key, value)) in heads.enumerate() {
            let row = self.row(block, head);
            let keys = self.keys.place(row, slot);
            for (d, number) in key.iter().enumerate() {
                // SAFETY: slot < 16 and d < head_dim, so it lies inside the head's keys of this
                // block, and no one else's slot is touched.
                unsafe { keys.add(d * BLOCK_TOKENS).write(T::nearest(*number)) };
            }
            let columns = slot * head_dim..(slot + 1) * head_dim;
            // SAFETY: the caller vouches for the slot.
            let values = unsafe { self.values.part_mut(row, columns) };
            for (to, number) in values.iter_mut().zip(value) {
                *to = T::nearest(*number);
            }
        }
    }
}

impl CachedBlocks<'_> {
    /// Another layer's.
    #[must_use]
    pub fn at(self, layer: usize) -> Self {
        match self {
            Self::F32(kept) => Self::F32(kept.at(layer)),
            Self::Bf16(kept) => Self::Bf16(kept.at(layer)),
        }
    }
}

/// Where a row stands in its sequence, and where that lies.
#[derive(Debug, Clone, Copy)]
pub struct Placed<'a> {
    /// The sequence's blocks in order: position `p` lies in the block at `p / BLOCK_TOKENS`.
    pub blocks: &'a [u32],
    /// Its position.
    pub position: usize,
}

/// What happens to queries and keys before they meet.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    /// Norms of each head of the queries and the keys.
    pub norms: Option<[NormTensor<'a>; 2]>,
    /// Rotation by position.
    pub rope: Option<&'a RopeTable>,
}

/// Norms and rotates queries and keys in place, and puts keys and values into their blocks.
///
/// `qkv` is (rows, queries + keys + values). No two of the rows have one place.
pub fn place(
    member: &Member<'_>,
    (qkv, rows): (&Rows<'_>, &[Placed<'_>]),
    (shape, turn): (&AttentionShape, Turn<'_>),
    cache: &CachedBlocks<'_>,
) {
    let (queries, keys) = (
        shape.heads * shape.head_dim,
        shape.kv_heads * shape.head_dim,
    );
    let tasks = member.tasks(rows.len(), 4);
    let put = |index: usize| {
        let Placed { blocks, position } = rows[index];
        // SAFETY: rows are shared out among the tasks.
        let row = unsafe { qkv.row_mut(index) };
        let (q, kv) = row.split_at_mut(queries);
        let (k, v) = kv.split_at_mut(keys);
        for (part, index) in [(&mut *q, 0), (&mut *k, 1)] {
            if let Some(norms) = &turn.norms {
                let NormTensor {
                    weight,
                    eps,
                    offset,
                } = norms[index];
                norm_in_place(part, weight, eps, offset);
            }
            if let Some(rope) = turn.rope {
                rope.rotate(part, shape.head_dim, position);
            }
        }
        let place = (
            blocks[position / BLOCK_TOKENS] as usize,
            position % BLOCK_TOKENS,
        );
        // SAFETY: no two rows have one place, and rows are shared out among the tasks.
        unsafe {
            match cache {
                CachedBlocks::F32(kept) => kept.write(place, k, v),
                CachedBlocks::Bf16(kept) => kept.write(place, k, v),
            }
        }
    };
    member.phase(tasks, |task| share(rows.len(), task, tasks).for_each(put));
}

/// The queries of a pass, shared out in tiles.
pub struct Tiles {
    /// Neighbouring rows of one sequence.
    rows: Vec<Range<usize>>,
    /// Into how many parts the heads go that share their keys and values.
    splits: usize,
}

impl Tiles {
    /// Tiles for a team of so many members.
    #[must_use]
    pub fn new(placed: &[Placed<'_>], shape: &AttentionShape, members: usize) -> Self {
        let group = shape.heads / shape.kv_heads;
        // Heads that share their keys are taken together, unless that leaves members without work.
        let splits = if placed.len() * shape.kv_heads >= 4 * members {
            group.div_ceil(MOST_ROWS)
        } else {
            group
        };
        let most = MOST_ROWS / group.div_ceil(splits);
        let mut rows: Vec<Range<usize>> = Vec::with_capacity(placed.len());
        for (index, row) in placed.iter().enumerate() {
            let goes_on = |tile: &&mut Range<usize>| {
                let before = &placed[index - 1];
                tile.len() < most
                    && std::ptr::eq(before.blocks, row.blocks)
                    && before.position + 1 == row.position
            };
            match rows.last_mut().filter(goes_on) {
                Some(tile) => tile.end += 1,
                None => rows.push(index..index + 1),
            }
        }
        Self { rows, splits }
    }
}

/// Attention of each row to the cached tokens of its sequence up to and including itself.
///
/// `qkv` as `place` left it, `out` (rows, queries). The tiles are those of these rows and of heads
/// like these.
pub fn attend(
    member: &Member<'_>,
    queries: (&Rows<'_>, &[Placed<'_>], &Tiles),
    (shape, cache): (&AttentionShape, &CachedBlocks<'_>),
    out: &Rows<'_>,
) {
    match cache {
        CachedBlocks::F32(kept) => attend_to(member, queries, (shape, kept), out),
        CachedBlocks::Bf16(kept) => attend_to(member, queries, (shape, kept), out),
    }
}

fn attend_to<T: CacheNumber>(
    member: &Member<'_>,
    (qkv, rows, tiles): (&Rows<'_>, &[Placed<'_>], &Tiles),
    (shape, cache): (&AttentionShape, &Kept<'_, T>),
    out: &Rows<'_>,
) {
    let group = shape.heads / shape.kv_heads;
    let parts = shape.kv_heads * tiles.splits;
    let all = tiles.rows.len() * parts;
    let tasks = member.tasks(all, 8);
    let one = |index: usize| {
        let (tile, part) = (&tiles.rows[index / parts], index % parts);
        let kv_head = part / tiles.splits;
        let heads = share(group, part % tiles.splits, tiles.splits);
        let tile = Tile {
            placed: (&rows[tile.clone()], tile.start),
            heads: kv_head * group + heads.start..kv_head * group + heads.end,
            kv_head,
            cache,
            shape,
        };
        // SAFETY: nobody writes to `qkv` or the cache in this phase; tiles and heads are shared out.
        unsafe { tile.look_back(qkv, out) };
    };
    // In turns: later rows look back further.
    member.phase(tasks, |task| (task..all).step_by(tasks).for_each(one));
}
