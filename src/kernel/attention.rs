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
    let covered: usize = spans.iter().map(|s| s.len).sum();
    if covered != q.dim(0)? {
        bail!("attention: spans cover {covered} tokens of {}", q.dim(0)?);
    }
    let op = CausalAttention {
        spans: spans.clone(),
        shape,
    };
    q.contiguous()?
        .apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

struct CausalAttention {
    spans: Arc<[SpanRange]>,
    shape: AttentionShape,
}

impl CausalAttention {
    /// (span, query head) pairs, the unit of parallel work.
    fn tasks(&self) -> Vec<(SpanRange, usize)> {
        let heads = 0..self.shape.heads;
        self.spans
            .iter()
            .flat_map(|span| heads.clone().map(move |head| (*span, head)))
            .collect()
    }

    fn group(&self) -> usize {
        self.shape.heads / self.shape.kv_heads
    }

    fn forward(&self, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
        let AttentionShape {
            heads,
            kv_heads,
            head_dim,
            scale,
            ..
        } = self.shape;
        let tasks = self.tasks();
        let results: Vec<Vec<f32>> = tasks
            .par_iter()
            .map(|(span, head)| {
                let kv_head = head / self.group();
                let q = HeadMatrix::gather(q, *span, heads, *head, head_dim).scaled(scale);
                let k = HeadMatrix::gather(k, *span, kv_heads, kv_head, head_dim);
                let v = HeadMatrix::gather(v, *span, kv_heads, kv_head, head_dim);
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
        let mut out = vec![0f32; q.len()];
        for ((span, head), rows) in tasks.iter().zip(&results) {
            scatter(rows, *span, (heads, *head, head_dim), &mut out);
        }
        out
    }

    fn backward(&self, q: &[f32], k: &[f32], v: &[f32], grad: &[f32]) -> [Vec<f32>; 3] {
        let AttentionShape {
            heads,
            kv_heads,
            head_dim,
            scale,
            ..
        } = self.shape;
        let tasks = self.tasks();
        let results: Vec<HeadGradients> = tasks
            .par_iter()
            .map(|(span, head)| {
                let kv_head = head / self.group();
                let q = HeadMatrix::gather(q, *span, heads, *head, head_dim).scaled(scale);
                let grad = HeadMatrix::gather(grad, *span, heads, *head, head_dim);
                let k = HeadMatrix::gather(k, *span, kv_heads, kv_head, head_dim);
                let v = HeadMatrix::gather(v, *span, kv_heads, kv_head, head_dim);
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
        let (mut dq, mut dk, mut dv) = (
            vec![0f32; q.len()],
            vec![0f32; k.len()],
            vec![0f32; v.len()],
        );
        for ((span, head), part) in tasks.iter().zip(&results) {
            let kv_head = head / self.group();
            scatter(&part.q, *span, (heads, *head, head_dim), &mut dq);
            scatter(&part.k, *span, (kv_heads, kv_head, head_dim), &mut dk);
            scatter(&part.v, *span, (kv_heads, kv_head, head_dim), &mut dv);
        }
        [dq, dk, dv]
    }
}

/// Adds one head's padded rows to their place in a packed (tokens, heads, head_dim) buffer.
fn scatter(rows: &[f32], span: SpanRange, place: (usize, usize, usize), out: &mut [f32]) {
    let (heads, head, dim) = place;
    for (i, row) in rows
        .chunks_exact(padded(dim, COLS))
        .take(span.len)
        .enumerate()
    {
        let at = ((span.start + i) * heads + head) * dim;
        out[at..at + dim]
            .iter_mut()
            .zip(row)
            .for_each(|(sum, x)| *sum += x);
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
        let out = self.forward(q, k, elements(v, v_layout)?);
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
        let [dq, dk, dv] = with_elements(q, |q| {
            with_elements(k, |k| {
                with_elements(v, |v| {
                    with_elements(grad, |grad| self.backward(q, k, v, grad))
                })
            })
        })????;
        Ok((
            Some(Tensor::from_vec(dq, q.shape(), q.device())?),
            Some(Tensor::from_vec(dk, k.shape(), k.device())?),
            Some(Tensor::from_vec(dv, v.shape(), v.device())?),
        ))
    }
}
