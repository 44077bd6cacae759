//! Causal attention inside packed sequences, with gradients, and without a mask tensor.
//!
//! Grouped-query heads, sliding windows and the soft-cap of Gemma 2 are handled from lengths
//! alone. Scores of one head of one sequence live in a scratch buffer and are recomputed in
//! backward, so nothing of size tokens x tokens stays in memory between the two.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::math::{dot, exp_shifted, max, mul_add};
use super::storage::{elements, with_elements};

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

/// Rows computed together; with 16 columns they fill eight vector registers.
const ROWS: usize = 8;
const COLS: usize = 16;

fn padded(n: usize, to: usize) -> usize {
    n.div_ceil(to) * to
}

/// One sequence's view of q, k, v (or a gradient) for one head, copied out and padded.
struct HeadMatrix {
    /// (tokens padded to ROWS and COLS, head_dim padded to COLS), row-major.
    rows: Vec<f32>,
    width: usize,
}

impl HeadMatrix {
    fn gather(data: &[f32], span: SpanRange, heads: usize, head: usize, dim: usize) -> Self {
        let width = padded(dim, COLS);
        let mut rows = vec![0f32; padded(span.len, COLS) * width];
        for (i, row) in rows.chunks_exact_mut(width).take(span.len).enumerate() {
            let at = ((span.start + i) * heads + head) * dim;
            row[..dim].copy_from_slice(&data[at..at + dim]);
        }
        Self { rows, width }
    }

    fn scaled(mut self, factor: f32) -> Self {
        self.rows.iter_mut().for_each(|x| *x *= factor);
        self
    }

    /// (width, tokens padded), row-major.
    fn transposed(&self) -> Self {
        let count = self.rows.len() / self.width;
        let mut rows = vec![0f32; self.rows.len()];
        for (i, row) in self.rows.chunks_exact(self.width).enumerate() {
            for (d, x) in row.iter().enumerate() {
                rows[d * count + i] = *x;
            }
        }
        Self { rows, width: count }
    }
}

/// Left operand of a block product: element (r, k) is `data[offset + r * row + k * col]`.
struct Left<'a> {
    data: &'a [f32],
    offset: usize,
    row: usize,
    col: usize,
}

/// `out[r][c] = sum over k in ks of left(r, k) * right[k][c]` for ROWS rows and `cols`.
#[inline(always)]
fn block_product<const FMA: bool>(
    left: Left<'_>,
    right: &HeadMatrix,
    ks: Range<usize>,
    cols: Range<usize>,
    out: &mut [f32],
) {
    let stride = out.len() / ROWS;
    for col in cols.step_by(COLS) {
        let mut sums = [[0f32; COLS]; ROWS];
        for k in ks.clone() {
            let at = k * right.width + col;
            let b = &right.rows[at..at + COLS];
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = left.data[left.offset + r * left.row + k * left.col];
                for c in 0..COLS {
                    sums[c] = mul_add::<FMA>(a, b[c], sums[c]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            out[r * stride + col..r * stride + col + COLS].copy_from_slice(sums);
        }
    }
}

/// Scores and probabilities of ROWS queries starting at `first`.
struct ScoreBlock {
    first: usize,
    /// Keys that any of the rows sees, widened to whole column blocks.
    keys: Range<usize>,
}

impl ScoreBlock {
    fn at(first: usize, len: usize, shape: &AttentionShape) -> Self {
        let last = (first + ROWS).min(len) - 1;
        let low = shape.first_visible(first) / COLS * COLS;
        Self {
            first,
            keys: low..padded(last + 1, COLS),
        }
    }

    fn rows(&self, len: usize) -> Range<usize> {
        self.first..(self.first + ROWS).min(len)
    }
}

/// Fills `p` (ROWS x padded tokens) with probabilities; entries that a row may not see become 0.
#[inline(always)]
fn probabilities<const FMA: bool>(
    q: &HeadMatrix,
    k_transposed: &HeadMatrix,
    block: &ScoreBlock,
    head: (&AttentionShape, usize),
    p: &mut [f32],
) {
    let (shape, len) = head;
    let stride = p.len() / ROWS;
    let left = Left {
        data: &q.rows,
        offset: block.first * q.width,
        row: q.width,
        col: 1,
    };
    block_product::<FMA>(left, k_transposed, 0..q.width, block.keys.clone(), p);
    for i in block.rows(len) {
        let row = &mut p[(i - block.first) * stride..][..stride];
        let visible = shape.first_visible(i)..i + 1;
        row[block.keys.start..visible.start].fill(0.0);
        row[visible.end..block.keys.end].fill(0.0);
        let scores = &mut row[visible];
        if let Some(cap) = shape.softcap {
            scores.iter_mut().for_each(|s| *s = cap * (*s / cap).tanh());
        }
        let top = max(scores);
        let total = exp_shifted::<FMA>(scores, top);
        scores.iter_mut().for_each(|s| *s /= total);
    }
    for row in block.rows(len).len()..ROWS {
        p[row * stride..][block.keys.clone()].fill(0.0);
    }
}

#[derive(Clone, Copy)]
struct HeadInputs<'a> {
    q: &'a HeadMatrix,
    k_transposed: &'a HeadMatrix,
    v: &'a HeadMatrix,
    shape: &'a AttentionShape,
    len: usize,
}

simd_dispatch! {
    fn head_forward(inputs: &HeadInputs<'_>, out: &mut [f32]) = head_forward_body;
}

#[inline(always)]
fn head_forward_body<const FMA: bool>(inputs: &HeadInputs<'_>, out: &mut [f32]) {
    let HeadInputs {
        q,
        k_transposed,
        v,
        shape,
        len,
    } = *inputs;
    let stride = k_transposed.width;
    let mut p = vec![0f32; ROWS * stride];
    for first in (0..len).step_by(ROWS) {
        let block = ScoreBlock::at(first, len, shape);
        probabilities::<FMA>(q, k_transposed, &block, (shape, len), &mut p);
        let left = Left {
            data: &p,
            offset: 0,
            row: stride,
            col: 1,
        };
        let rows = &mut out[first * v.width..(first + ROWS) * v.width];
        block_product::<FMA>(left, v, block.keys.clone(), 0..v.width, rows);
    }
}

/// Gradients of one query head: `q` (unscaled), and its share of `k` and `v`.
struct HeadGradients {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

struct BackwardInputs<'a> {
    forward: HeadInputs<'a>,
    k: &'a HeadMatrix,
    v_transposed: &'a HeadMatrix,
    grad: &'a HeadMatrix,
}

simd_dispatch! {
    fn head_backward(inputs: &BackwardInputs<'_>, out: &mut HeadGradients) = head_backward_body;
}

#[inline(always)]
fn head_backward_body<const FMA: bool>(inputs: &BackwardInputs<'_>, out: &mut HeadGradients) {
    let HeadInputs {
        k_transposed, len, ..
    } = inputs.forward;
    // (queries, keys): probabilities, and the gradient of the scores
    let size = padded(len, COLS) * k_transposed.width;
    let mut tables = [vec![0f32; size], vec![0f32; size]];
    for first in (0..len).step_by(ROWS) {
        query_block::<FMA>(inputs, first, &mut tables, &mut out.q);
    }
    let scale = inputs.forward.shape.scale;
    out.q.iter_mut().for_each(|x| *x *= scale);
    for first in (0..len).step_by(ROWS) {
        key_block::<FMA>(inputs, first, &tables, out);
    }
}

/// ROWS queries: their rows of both tables, and their gradient before the scale.
#[inline(always)]
fn query_block<const FMA: bool>(
    inputs: &BackwardInputs<'_>,
    first: usize,
    tables: &mut [Vec<f32>; 2],
    dq: &mut [f32],
) {
    let BackwardInputs {
        forward,
        k,
        v_transposed,
        grad,
    } = inputs;
    let HeadInputs {
        q,
        k_transposed,
        shape,
        len,
        ..
    } = *forward;
    let (width, stride) = (q.width, k_transposed.width);
    let block = ScoreBlock::at(first, len, shape);
    let here = first * stride..(first + ROWS) * stride;
    let [p, ds] = tables;
    let (p, ds) = (&mut p[here.clone()], &mut ds[here]);
    probabilities::<FMA>(q, k_transposed, &block, (shape, len), p);
    let rows = |data| Left {
        data,
        offset: first * width,
        row: width,
        col: 1,
    };
    let keys = block.keys.clone();
    block_product::<FMA>(rows(&grad.rows), v_transposed, 0..width, keys.clone(), ds);
    for r in 0..ROWS {
        let keys = r * stride + keys.start..r * stride + keys.end;
        let (p, ds) = (&p[keys.clone()], &mut ds[keys]);
        let shared = dot::<FMA>(p, ds);
        ds.iter_mut()
            .zip(p)
            .for_each(|(d, p)| *d = p * (*d - shared));
    }
    if let Some(cap) = shape.softcap {
        let mut raw = vec![0f32; ROWS * stride];
        block_product::<FMA>(rows(&q.rows), k_transposed, 0..width, keys, &mut raw);
        for (d, raw) in ds.iter_mut().zip(&raw) {
            let tanh = (raw / cap).tanh();
            *d *= 1.0 - tanh * tanh;
        }
    }
    let left = Left {
        data: ds,
        offset: 0,
        row: stride,
        col: 1,
    };
    let dq = &mut dq[first * width..(first + ROWS) * width];
    block_product::<FMA>(left, k, block.keys, 0..width, dq);
}

/// ROWS keys and values: their gradients, from every query that sees them.
#[inline(always)]
fn key_block<const FMA: bool>(
    inputs: &BackwardInputs<'_>,
    first: usize,
    tables: &[Vec<f32>; 2],
    out: &mut HeadGradients,
) {
    let HeadInputs {
        q,
        k_transposed,
        shape,
        len,
        ..
    } = inputs.forward;
    let (width, stride) = (q.width, k_transposed.width);
    let last_query = shape
        .window
        .map_or(len, |window| (first + ROWS - 1 + window).min(len));
    let place = first * width..(first + ROWS) * width;
    let column = |data| Left {
        data,
        offset: first,
        row: 1,
        col: stride,
    };
    let [p, ds] = tables;
    let queries = first..last_query;
    let dk = &mut out.k[place.clone()];
    block_product::<FMA>(column(ds), q, queries.clone(), 0..width, dk);
    let dv = &mut out.v[place];
    block_product::<FMA>(column(p), inputs.grad, queries, 0..width, dv);
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
