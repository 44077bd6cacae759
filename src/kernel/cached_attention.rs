//! Attention of new tokens to a sequence's cached keys and values.
//!
//! Each row is computed by itself, in an order that depends on its own position alone, so a
//! sequence gets the same bits alone, in a batch, and whether its prompt came whole or in chunks.

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::attention::AttentionShape;
use super::math::{dot, exp_shifted, max, mul_add};
use super::storage::with_elements;

/// New tokens of one sequence and everything it has cached, these tokens included.
pub struct CachedSpan<'a> {
    /// First row among the packed tokens.
    pub start: usize,
    /// Number of new tokens.
    pub len: usize,
    /// (cached tokens, kv_heads, head_dim), row-major.
    pub keys: &'a [f32],
    /// Like `keys`.
    pub values: &'a [f32],
}

/// Attention of each new token to the cached tokens up to and including itself.
///
/// `q` is (tokens, heads, head_dim) f32; the result has its shape. No gradient.
pub fn cached_attention(
    q: &Tensor,
    spans: &[CachedSpan<'_>],
    shape: AttentionShape,
) -> Result<Tensor> {
    let (tokens, heads, head_dim) = q.dims3()?;
    if (heads, head_dim) != (shape.heads, shape.head_dim) {
        bail!("attention: queries of {heads} heads x {head_dim}, expected {shape:?}");
    }
    let mut rows: Vec<Row<'_>> = Vec::with_capacity(tokens);
    let width = shape.kv_heads * shape.head_dim;
    for span in spans {
        let cached = span.keys.len() / width;
        if cached < span.len || span.start != rows.len() {
            bail!(
                "attention: {} new tokens but only {cached} cached",
                span.len
            );
        }
        rows.extend((cached - span.len..cached).map(|position| Row { span, position }));
    }
    let mut out = vec![0f32; tokens * heads * head_dim];
    with_elements(q, |q| {
        out.par_chunks_mut(head_dim)
            .zip(q.par_chunks(head_dim))
            .enumerate()
            .with_min_len(2)
            .for_each(|(index, (out, q))| {
                let head = Head {
                    row: &rows[index / heads],
                    index: index % heads,
                    shape: &shape,
                };
                attend(q, head, out);
            });
    })?;
    Tensor::from_vec(out, q.shape(), q.device())
}

struct Row<'a> {
    span: &'a CachedSpan<'a>,
    position: usize,
}

struct Head<'a> {
    row: &'a Row<'a>,
    index: usize,
    shape: &'a AttentionShape,
}

simd_dispatch! {
    fn attend(q: &[f32], head: Head<'_>, out: &mut [f32]) = attend_body;
}

#[inline(always)]
fn attend_body<const FMA: bool>(q: &[f32], head: Head<'_>, out: &mut [f32]) {
    let Head { row, index, shape } = head;
    let kv_head = index / (shape.heads / shape.kv_heads);
    let width = shape.kv_heads * shape.head_dim;
    let visible = shape.first_visible(row.position)..row.position + 1;
    let at = |j: usize| j * width + kv_head * shape.head_dim;
    let mut scores: Vec<f32> = visible
        .clone()
        .map(|j| shape.scale * dot::<FMA>(q, &row.span.keys[at(j)..at(j) + shape.head_dim]))
        .collect();
    if let Some(cap) = shape.softcap {
        scores.iter_mut().for_each(|s| *s = cap * (*s / cap).tanh());
    }
    let top = max(&scores);
    let total = exp_shifted::<FMA>(&mut scores, top);
    for (p, j) in scores.iter().zip(visible) {
        let value = &row.span.values[at(j)..at(j) + shape.head_dim];
        for (sum, v) in out.iter_mut().zip(value) {
            *sum = mul_add::<FMA>(*p, *v, *sum);
        }
    }
    out.iter_mut().for_each(|sum| *sum /= total);
}
