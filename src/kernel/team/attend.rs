//! Phases over attention: new keys and values go to their blocks, then every row looks back.
//!
//! Each row and head is computed by itself, in an order that depends on its own position alone, so a
//! sequence gets the same bits alone, in a batch, whether its prompt came whole or in chunks, and
//! wherever its blocks lie.

use std::cell::RefCell;
use std::ops::Range;

use super::super::attention::AttentionShape;
use super::super::math::{exp_shifted, max, mul_add};
use super::super::norm::norm_in_place;
use super::super::rope::RopeTable;
use super::{Member, NormTensor, Rows, share};
use crate::kernel::BLOCK_TOKENS;

/// One layer's keys and values in blocks, shared by the members of one pass.
///
/// Keys are (blocks, kv_heads, head_dim, BLOCK_TOKENS): those of 16 tokens lie side by side, so that
/// 16 scores are made at once. Values are (blocks, kv_heads, BLOCK_TOKENS, head_dim).
pub struct CachedBlocks<'a> {
    keys: Rows<'a>,
    values: Rows<'a>,
}

impl<'a> CachedBlocks<'a> {
    /// So many blocks of `keys` and `values`, for `kv_heads` heads of `head_dim`.
    pub fn new(
        keys: &'a mut Vec<f32>,
        values: &'a mut Vec<f32>,
        blocks: usize,
        (kv_heads, head_dim): (usize, usize),
    ) -> Self {
        let width = BLOCK_TOKENS * head_dim;
        Self {
            keys: Rows::of(keys, blocks * kv_heads, width),
            values: Rows::of(values, blocks * kv_heads, width),
        }
    }

    /// # Safety
    /// Nobody else reaches this slot of this block before the members meet again.
    unsafe fn write(&self, (block, slot): (usize, usize), key: &[f32], value: &[f32]) {
        let head_dim = self.values.width() / BLOCK_TOKENS;
        let heads = key.chunks_exact(head_dim).zip(value.chunks_exact(head_dim));
        let first = block * heads.len();
        for (head, (key, value)) in heads.enumerate() {
            let keys = self.keys.place(first + head, slot);
            for (d, number) in key.iter().enumerate() {
                // SAFETY: slot < 16 and d < head_dim, so it lies inside the head's keys of this
                // block, and no one else's slot is touched.
                unsafe { keys.add(d * BLOCK_TOKENS).write(*number) };
            }
            let columns = slot * head_dim..(slot + 1) * head_dim;
            // SAFETY: the caller vouches for the slot.
            unsafe { self.values.part_mut(first + head, columns) }.copy_from_slice(value);
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
        unsafe { cache.write(place, k, v) };
    };
    member.phase(tasks, |task| share(rows.len(), task, tasks).for_each(put));
}

/// Attention of each row to the cached tokens of its sequence up to and including itself.
///
/// `qkv` as `place` left it, `out` (rows, queries).
pub fn attend(
    member: &Member<'_>,
    (qkv, rows): (&Rows<'_>, &[Placed<'_>]),
    (shape, cache): (&AttentionShape, &CachedBlocks<'_>),
    out: &Rows<'_>,
) {
    let group = shape.heads / shape.kv_heads;
    // Heads that share their keys are taken together, unless that leaves members without work.
    let together = if rows.len() * shape.kv_heads >= 4 * member.count() {
        group
    } else {
        1
    };
    let parts = shape.heads / together;
    let all = rows.len() * parts;
    let tasks = member.tasks(all, 8);
    let one = |index: usize| {
        let (row, first) = (index / parts, index % parts * together);
        let columns = first * shape.head_dim..(first + together) * shape.head_dim;
        // SAFETY: nobody writes to `qkv` in this phase; the heads of `out` are shared out.
        let (q, out) = unsafe {
            let q = &qkv.read(row..row + 1)[columns.clone()];
            (q, out.part_mut(row, columns))
        };
        let heads = Heads {
            row: &rows[row],
            kv_head: first / group,
            cache,
            shape,
        };
        SCORES.with_borrow_mut(|scores| look_back(q, &heads, scores, out));
    };
    // In turns: later rows look back further.
    member.phase(tasks, |task| (task..all).step_by(tasks).for_each(one));
}

thread_local! {
    static SCORES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Heads of one row that share their keys and values.
struct Heads<'a> {
    row: &'a Placed<'a>,
    kv_head: usize,
    cache: &'a CachedBlocks<'a>,
    shape: &'a AttentionShape,
}

impl Heads<'_> {
    /// The shared keys and values of the block that holds the positions `16 * index..`.
    #[inline(always)]
    fn block(&self, index: usize) -> (&[f32], &[f32]) {
        let row = self.row.blocks[index] as usize * self.shape.kv_heads + self.kv_head;
        // SAFETY: keys and values are written by `place` only, which another phase than this is.
        unsafe {
            let keys = self.cache.keys.read(row..row + 1);
            (keys, self.cache.values.read(row..row + 1))
        }
    }
}

simd_dispatch! {
    fn look_back(q: &[f32], heads: &Heads<'_>, scores: &mut Vec<f32>, out: &mut [f32]) = look_back_body;
}

/// Heads whose scores are made side by side, to use each key that is read for all of them.
const SIDE_BY_SIDE: usize = 4;

#[inline(always)]
fn look_back_body<const FMA: bool>(
    q: &[f32],
    heads: &Heads<'_>,
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    let head_dim = heads.shape.head_dim;
    let mut first = 0;
    let count = q.len() / head_dim;
    while first < count {
        let taken = if count - first >= SIDE_BY_SIDE {
            SIDE_BY_SIDE
        } else {
            1
        };
        let part = first * head_dim..(first + taken) * head_dim;
        if taken == SIDE_BY_SIDE {
            side_by_side::<FMA, SIDE_BY_SIDE>(&q[part.clone()], heads, scores, &mut out[part]);
        } else {
            side_by_side::<FMA, 1>(&q[part.clone()], heads, scores, &mut out[part]);
        }
        first += taken;
    }
}

#[inline(always)]
fn side_by_side<const FMA: bool, const N: usize>(
    q: &[f32],
    heads: &Heads<'_>,
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    let shape = heads.shape;
    let position = heads.row.position;
    let visible = shape.first_visible(position)..position + 1;
    let blocks = visible.start / BLOCK_TOKENS..visible.end.div_ceil(BLOCK_TOKENS);
    let length = blocks.len() * BLOCK_TOKENS;
    if scores.len() < N * length {
        scores.resize(N * length, 0.0);
    }
    let scores = &mut scores[..N * length];
    for block in blocks.clone() {
        let (keys, _) = heads.block(block);
        let sums = scores_of_block::<FMA, N>(q, keys, shape.head_dim);
        let at = (block - blocks.start) * BLOCK_TOKENS;
        for head in 0..N {
            let to = &mut scores[head * length + at..][..BLOCK_TOKENS];
            for slot in 0..BLOCK_TOKENS {
                to[slot] = shape.scale * sums[head][slot];
            }
        }
    }
    let first = blocks.start * BLOCK_TOKENS;
    let seen = visible.start - first..visible.end - first;
    let mut totals = [0.0; N];
    for head in 0..N {
        let scores = &mut scores[head * length..(head + 1) * length][seen.clone()];
        if let Some(cap) = shape.softcap {
            for score in &mut *scores {
                *score = cap * (*score / cap).tanh();
            }
        }
        let top = max(scores);
        totals[head] = exp_shifted::<FMA>(scores, top);
    }
    out.fill(0.0);
    for block in blocks.clone() {
        let (_, values) = heads.block(block);
        let at = block * BLOCK_TOKENS;
        let slots = visible.start.max(at) - at..visible.end.min(at + BLOCK_TOKENS) - at;
        let shares = Shares {
            scores,
            length,
            at: at - first,
            slots,
        };
        add_values::<FMA, N>(&shares, values, out);
    }
    for (out, total) in out.chunks_exact_mut(shape.head_dim).zip(totals) {
        for sum in out {
            *sum /= total;
        }
    }
}

/// Products of `N` queries with the 16 keys of a block.
#[inline(always)]
fn scores_of_block<const FMA: bool, const N: usize>(
    q: &[f32],
    keys: &[f32],
    head_dim: usize,
) -> [[f32; BLOCK_TOKENS]; N] {
    let mut sums = [[0.0f32; BLOCK_TOKENS]; N];
    let (keys, _) = keys.as_chunks::<BLOCK_TOKENS>();
    let queries: [&[f32]; N] =
        std::array::from_fn(|head| &q[head * head_dim..(head + 1) * head_dim]);
    for d in 0..head_dim {
        let keys = &keys[d];
        for head in 0..N {
            let number = queries[head][d];
            for slot in 0..BLOCK_TOKENS {
                sums[head][slot] = mul_add::<FMA>(number, keys[slot], sums[head][slot]);
            }
        }
    }
    sums
}

/// The shares that some slots of a block have in `N` sums.
struct Shares<'a> {
    /// (heads, length)
    scores: &'a [f32],
    length: usize,
    /// Where the block's own begin.
    at: usize,
    slots: Range<usize>,
}

/// Columns whose sums stay in registers.
const LANES: usize = 16;

#[inline(always)]
fn add_values<const FMA: bool, const N: usize>(
    shares: &Shares<'_>,
    values: &[f32],
    out: &mut [f32],
) {
    let head_dim = out.len() / N;
    let whole = head_dim / LANES * LANES;
    for column in (0..whole).step_by(LANES) {
        let mut sums = [[0.0f32; LANES]; N];
        for (head, sums) in sums.iter_mut().enumerate() {
            sums.copy_from_slice(&out[head * head_dim + column..][..LANES]);
        }
        for slot in shares.slots.clone() {
            let values = &values[slot * head_dim + column..][..LANES];
            for (head, sums) in sums.iter_mut().enumerate() {
                let share = shares.scores[head * shares.length + shares.at + slot];
                for lane in 0..LANES {
                    sums[lane] = mul_add::<FMA>(share, values[lane], sums[lane]);
                }
            }
        }
        for (head, sums) in sums.iter().enumerate() {
            out[head * head_dim + column..][..LANES].copy_from_slice(sums);
        }
    }
    for head in 0..N {
        for column in whole..head_dim {
            let out = &mut out[head * head_dim + column];
            for slot in shares.slots.clone() {
                let share = shares.scores[head * shares.length + shares.at + slot];
                *out = mul_add::<FMA>(share, values[slot * head_dim + column], *out);
            }
        }
    }
}
