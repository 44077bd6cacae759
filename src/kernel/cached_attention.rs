//! Attention of new tokens to a sequence's cached keys and values, which lie in blocks of a pool.
//!
//! Each row is computed by itself, in an order that depends on its own position alone, so a
//! sequence gets the same bits alone, in a batch, whether its prompt came whole or in chunks, and
//! wherever its blocks lie.

use std::ops::Range;

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::attention::AttentionShape;
use super::math::{dot, exp_shifted, max, mul_add};
use super::storage::with_elements;

/// Tokens of one block. All keys of a head in a block lie side by side, and so do its values.
pub const BLOCK_TOKENS: usize = 16;

/// New tokens of one sequence, and where everything that it has cached lies.
#[derive(Debug, Clone, Copy)]
pub struct CachedSpan<'a> {
    /// First row among the packed tokens.
    pub start: usize,
    /// Number of new tokens.
    pub len: usize,
    /// Position of the first new token: so many are cached before it.
    pub first_position: usize,
    /// The sequence's blocks in order: the token at position `p` lies in the block at
    /// `p / BLOCK_TOKENS`.
    pub blocks: &'a [u32],
}

/// One layer's keys and values, each (blocks, kv_heads, BLOCK_TOKENS, head_dim), row-major.
#[derive(Debug, Clone, Copy)]
pub struct CachedRows<'a> {
    /// The keys.
    pub keys: &'a [f32],
    /// The values.
    pub values: &'a [f32],
}

/// Attention of each new token to the cached tokens up to and including itself.
///
/// `q` is (tokens, heads, head_dim) f32; the result has its shape. No gradient.
pub fn cached_attention(
    q: &Tensor,
    spans: &[CachedSpan<'_>],
    cached: CachedRows<'_>,
    shape: AttentionShape,
) -> Result<Tensor> {
    let (tokens, heads, head_dim) = q.dims3()?;
    if (heads, head_dim) != (shape.heads, shape.head_dim) {
        bail!("attention: queries of {heads} heads x {head_dim}, expected {shape:?}");
    }
    let block = shape.kv_heads * BLOCK_TOKENS * shape.head_dim;
    let blocks = cached.keys.len().min(cached.values.len()) / block;
    let mut rows: Vec<Row<'_>> = Vec::with_capacity(tokens);
    for span in spans {
        let positions = span.first_position..span.first_position + span.len;
        let needed = positions.end.div_ceil(BLOCK_TOKENS);
        if span.start != rows.len() || span.blocks.len() < needed {
            bail!(
                "attention: {positions:?} at row {} have {} blocks, expected {needed}",
                span.start,
                span.blocks.len()
            );
        }
        if let Some(stray) = span.blocks.iter().find(|block| **block as usize >= blocks) {
            bail!("attention: block {stray} of {blocks}");
        }
        rows.extend(positions.map(|position| Row {
            blocks: span.blocks,
            position,
        }));
    }
    if rows.len() != tokens {
        bail!("attention: spans cover {} tokens of {tokens}", rows.len());
    }
    let mut out = vec![0f32; tokens * heads * head_dim];
    with_elements(q, |q| {
        out.par_chunks_mut(head_dim)
            .zip(q.par_chunks(head_dim))
            .enumerate()
            .with_min_len(2)
            .for_each_init(Vec::new, |scores, (index, (out, q))| {
                let head = Head {
                    row: &rows[index / heads],
                    index: index % heads,
                    cached,
                    shape: &shape,
                };
                attend(q, head, scores, out);
            });
    })?;
    Tensor::from_vec(out, q.shape(), q.device())
}

struct Row<'a> {
    blocks: &'a [u32],
    position: usize,
}

struct Head<'a> {
    row: &'a Row<'a>,
    index: usize,
    cached: CachedRows<'a>,
    shape: &'a AttentionShape,
}

impl Head<'_> {
    /// Where in the pool the rows of these positions, all of one block, lie for this head.
    #[inline(always)]
    fn place(&self, run: Range<usize>) -> Range<usize> {
        let AttentionShape {
            heads,
            kv_heads,
            head_dim,
            ..
        } = *self.shape;
        let block = self.row.blocks[run.start / BLOCK_TOKENS] as usize;
        let kv_head = self.index / (heads / kv_heads);
        let first = (block * kv_heads + kv_head) * BLOCK_TOKENS + run.start % BLOCK_TOKENS;
        first * head_dim..(first + run.len()) * head_dim
    }
}

/// The positions in order, those of each block together.
#[inline(always)]
fn runs(positions: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let blocks = positions.start / BLOCK_TOKENS..positions.end.div_ceil(BLOCK_TOKENS);
    blocks.map(move |block| {
        let first = block * BLOCK_TOKENS;
        first.max(positions.start)..(first + BLOCK_TOKENS).min(positions.end)
    })
}

simd_dispatch! {
    fn attend(q: &[f32], head: Head<'_>, scores: &mut Vec<f32>, out: &mut [f32]) = attend_body;
}

#[inline(always)]
fn attend_body<const FMA: bool>(q: &[f32], head: Head<'_>, scores: &mut Vec<f32>, out: &mut [f32]) {
    let shape = head.shape;
    let visible = shape.first_visible(head.row.position)..head.row.position + 1;
    scores.clear();
    for run in runs(visible.clone()) {
        let keys = head.cached.keys[head.place(run)].chunks_exact(shape.head_dim);
        scores.extend(keys.map(|key| shape.scale * dot::<FMA>(q, key)));
    }
    if let Some(cap) = shape.softcap {
        scores.iter_mut().for_each(|s| *s = cap * (*s / cap).tanh());
    }
    let top = max(scores);
    let total = exp_shifted::<FMA>(scores, top);
    let mut left: &[f32] = scores;
    for run in runs(visible) {
        let (here, rest) = left.split_at(run.len());
        left = rest;
        let values = head.cached.values[head.place(run)].chunks_exact(shape.head_dim);
        for (p, value) in here.iter().zip(values) {
            for (sum, v) in out.iter_mut().zip(value) {
                *sum = mul_add::<FMA>(*p, *v, *sum);
            }
        }
    }
    out.iter_mut().for_each(|sum| *sum /= total);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_every_position_in_order_and_stay_within_blocks() {
        for start in 0..40 {
            for end in start + 1..60 {
                let runs: Vec<_> = runs(start..end).collect();
                let positions: Vec<usize> = runs.iter().cloned().flatten().collect();
                assert_eq!(positions, (start..end).collect::<Vec<_>>());
                for run in runs {
                    assert_eq!(run.start / BLOCK_TOKENS, (run.end - 1) / BLOCK_TOKENS);
                }
            }
        }
    }
}
