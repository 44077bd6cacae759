//! One head of one sequence, forward and backward, ROWS queries or keys at a time.

use super::super::math::dot;
use super::AttentionShape;
use super::blocks::{
    COLS, HeadMatrix, Left, ROWS, ScoreBlock, block_product, padded, probabilities,
};

#[derive(Clone, Copy)]
pub(super) struct HeadInputs<'a> {
    pub(super) q: &'a HeadMatrix,
    pub(super) k_transposed: &'a HeadMatrix,
    pub(super) v: &'a HeadMatrix,
    pub(super) shape: &'a AttentionShape,
    pub(super) len: usize,
}

simd_dispatch! {
    pub(super) fn head_forward(inputs: &HeadInputs<'_>, out: &mut [f32]) = head_forward_body;
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
pub(super) struct HeadGradients {
    pub(super) q: Vec<f32>,
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
}

pub(super) struct BackwardInputs<'a> {
    pub(super) forward: HeadInputs<'a>,
    pub(super) k: &'a HeadMatrix,
    pub(super) v_transposed: &'a HeadMatrix,
    pub(super) grad: &'a HeadMatrix,
}

simd_dispatch! {
    pub(super) fn head_backward(inputs: &BackwardInputs<'_>, out: &mut HeadGradients) = head_backward_body;
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
