//! Causal attention inside packed sequences, with gradients, and without a mask tensor.
//!
//! Grouped-query heads, sliding windows and the soft-cap of Gemma 2 are handled from lengths
//! alone. Scores of one head of one sequence live in a scratch buffer and are recomputed in
//! backward, so nothing of size tokens x tokens stays in memory between the two.

mod blocks;
mod heads;

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::storage::{elements, with_elements};
pub(super) use blocks::HeadRows;
use blocks::{COLS, HeadMatrix, padded};
use heads::{BackwardInputs, HeadGradients, HeadInputs, head_backward, head_forward};

/// How the heads are laid out and what they may see.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Factor on query-key products.
    pub scale: f32,
    /// A token sees itself and the `window - 1` tokens before it; all of them if absent.
    pub window: Option<usize>,
    /// Scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
}

impl AttentionShape {
    /// First position that position `i` may attend to.
    pub(super) fn first_visible(&self, i: usize) -> usize {
        self.window
            .map_or(0, |window| (i + 1).saturating_sub(window))
    }
}

/// Rows of one sequence among the packed tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanRange {
    /// First row.
    pub start: usize,
    /// Number of rows.
    pub len: usize,
}

/// Attention of each token to the earlier tokens of its own span.
///
/// `q` is (tokens, heads, head_dim), `k` and `v` (tokens, kv_heads, head_dim), all f32; the result
/// has the shape of `q`. Spans must cover all tokens in order.
pub fn causal_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    spans: &Arc<[SpanRange]>,
    shape: AttentionShape,
) -> Result<Tensor> {
    let op = CausalAttention::new(spans, shape, q.dim(0)?)?;
    q.contiguous()?
        .apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

/// Rows of one task that copies.
const ROWS_PER_TASK: usize = 16;

#[derive(Clone)]
pub(super) struct CausalAttention {
    spans: Arc<[SpanRange]>,
    shape: AttentionShape,
}

impl CausalAttention {
    /// Attention inside these spans, which cover `tokens` rows.
    pub(super) fn new(
        spans: &Arc<[SpanRange]>,
        shape: AttentionShape,
        tokens: usize,
    ) -> Result<Self> {
        let covered: usize = spans.iter().map(|s| s.len).sum();
        if covered != tokens {
            bail!("attention: spans cover {covered} tokens of {tokens}");
        }
        let spans = spans.clone();
        Ok(Self { spans, shape })
    }

    /// (span, query head) pairs, the unit of parallel work.
    fn tasks(&self) -> Vec<(SpanRange, usize)> {
        let heads = 0..self.shape.heads;
        self.spans
            .iter()
            .flat_map(|span| heads.clone().map(move |head| (*span, head)))
            .collect()
    }

    /// For each token, the first task of its span and its row there.
    fn places(&self) -> Vec<(usize, usize)> {
        let each = self.spans.iter().enumerate();
        each.flat_map(|(index, span)| (0..span.len).map(move |row| (index, row)))
            .map(|(index, row)| (index * self.shape.heads, row))
            .collect()
    }

    /// Numbers of a token's queries, and of its keys.
    fn widths(&self) -> (usize, usize) {
        let AttentionShape {
            heads,
            kv_heads,
            head_dim,
            ..
        } = self.shape;
        (heads * head_dim, kv_heads * head_dim)
    }

    fn dense<'a>(&self, q: &'a [f32], k: &'a [f32], v: &'a [f32]) -> [HeadRows<'a>; 3] {
        let (width, kv_width) = self.widths();
        [
            HeadRows::dense(q, width),
            HeadRows::dense(k, kv_width),
            HeadRows::dense(v, kv_width),
        ]
    }

    fn group(&self) -> usize {
        self.shape.heads / self.shape.kv_heads
    }

    /// Writes (tokens, heads, head_dim), dense.
    pub(super) fn forward(&self, [q, k, v]: [HeadRows<'_>; 3], out: &mut [f32]) {
        let dim = self.shape.head_dim;
        let results: Vec<Vec<f32>> = self
            .tasks()
            .par_iter()
            .map(|(span, head)| {
                let kv_head = head / self.group();
                let q = HeadMatrix::gather(q, *span, *head, dim).scaled(self.shape.scale);
                let k = HeadMatrix::gather(k, *span, kv_head, dim);
                let v = HeadMatrix::gather(v, *span, kv_head, dim);
                let mut out = vec![0f32; q.rows.len()];
                let inputs = HeadInputs {
                    q: &q,
                    k_transposed: &k.transposed(),
                    v: &v,
                    shape: &self.shape,
                    len: span.len,
                };
                head_forward(&inputs, &mut out);
                out
            })
            .collect();
        out.par_chunks_mut(self.shape.heads * dim)
            .zip(self.places())
            .with_min_len(ROWS_PER_TASK)
            .for_each(|(row, (task, i))| {
                for (head, to) in row.chunks_exact_mut(dim).enumerate() {
                    to.copy_from_slice(head_row(&results[task + head], i, dim));
                }
            });
    }

    /// Gradients for every (span, query head), from those of the output.
    pub(super) fn backward(&self, [q, k, v]: [HeadRows<'_>; 3], grad: HeadRows<'_>) -> Backward {
        let dim = self.shape.head_dim;
        let heads = self
            .tasks()
            .par_iter()
            .map(|(span, head)| {
                let kv_head = head / self.group();
                let q = HeadMatrix::gather(q, *span, *head, dim).scaled(self.shape.scale);
                let grad = HeadMatrix::gather(grad, *span, *head, dim);
                let k = HeadMatrix::gather(k, *span, kv_head, dim);
                let v = HeadMatrix::gather(v, *span, kv_head, dim);
                let zeros = || vec![0f32; q.rows.len()];
                let mut out = HeadGradients {
                    q: zeros(),
                    k: zeros(),
                    v: zeros(),
                };
                let forward = HeadInputs {
                    q: &q,
                    k_transposed: &k.transposed(),
                    v: &v,
                    shape: &self.shape,
                    len: span.len,
                };
                let v_transposed = v.transposed();
                let inputs = BackwardInputs {
                    forward,
                    k: &k,
                    v_transposed: &v_transposed,
                    grad: &grad,
                };
                head_backward(&inputs, &mut out);
                out
            })
            .collect();
        Backward {
            heads,
            places: self.places(),
            group: self.group(),
            dim,
        }
    }
}

/// One token's row of one head's padded rows.
fn head_row(rows: &[f32], i: usize, dim: usize) -> &[f32] {
    &rows[i * padded(dim, COLS)..][..dim]
}

/// The gradients of all heads, to be written token by token.
pub(super) struct Backward {
    heads: Vec<HeadGradients>,
    places: Vec<(usize, usize)>,
    group: usize,
    dim: usize,
}

impl Backward {
    /// Writes one token's gradients: (heads, head_dim) of q, (kv_heads, head_dim) of k and of v. Query
    /// heads that share keys add up in their order.
    pub(super) fn write(&self, token: usize, [q, k, v]: [&mut [f32]; 3]) {
        let (task, i) = self.places[token];
        for (head, to) in q.chunks_exact_mut(self.dim).enumerate() {
            to.copy_from_slice(head_row(&self.heads[task + head].q, i, self.dim));
        }
        let sum = |rows: fn(&HeadGradients) -> &[f32], to: &mut [f32]| {
            for (kv_head, to) in to.chunks_exact_mut(self.dim).enumerate() {
                let first = task + kv_head * self.group;
                let mut each = self.heads[first..first + self.group]
                    .iter()
                    .map(|head| head_row(rows(head), i, self.dim));
                to.copy_from_slice(each.next().unwrap_or_default());
                for more in each {
                    to.iter_mut().zip(more).for_each(|(sum, x)| *sum += x);
                }
            }
        };
        sum(|head| &head.k, k);
        sum(|head| &head.v, v);
    }
}

impl CustomOp3 for CausalAttention {
    fn name(&self) -> &'static str {
        "causal_attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k) = (elements(q, q_layout)?, elements(k, k_layout)?);
        let mut out = vec![0f32; q.len()];
        self.forward(self.dense(q, k, elements(v, v_layout)?), &mut out);
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (width, kv_width) = self.widths();
        let mut dq = vec![0f32; q.elem_count()];
        let (mut dk, mut dv) = (vec![0f32; k.elem_count()], vec![0f32; k.elem_count()]);
        let found = with_elements(q, |q| {
            with_elements(k, |k| {
                with_elements(v, |v| {
                    with_elements(grad, |grad| {
                        self.backward(self.dense(q, k, v), HeadRows::dense(grad, width))
                    })
                })
            })
        })????;
        let rows = dq
            .par_chunks_mut(width)
            .zip(dk.par_chunks_mut(kv_width).zip(dv.par_chunks_mut(kv_width)));
        rows.with_min_len(ROWS_PER_TASK)
            .enumerate()
            .for_each(|(token, (q, (k, v)))| found.write(token, [q, k, v]));
        Ok((
            Some(Tensor::from_vec(dq, q.shape(), q.device())?),
            Some(Tensor::from_vec(dk, k.shape(), k.device())?),
            Some(Tensor::from_vec(dv, v.shape(), v.device())?),
        ))
    }
}
