//! Root-mean-square normalisation over the last dimension (arXiv 1910.07467).

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::math::{LANES, dot, fold, mul_add};
use super::storage::{elements, with_elements};

/// `x / rms(x) * (weight + offset)` over the last dimension.
///
/// `x` is (.., width) f32 and contiguous, `weight` (width,). Gemma stores weights around zero and
/// sets `offset` to 1; all others use 0.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32, offset: f32) -> Result<Tensor> {
    x.contiguous()?.apply_op2(weight, RmsNorm { eps, offset })
}

/// The norm's constants.
pub(super) struct RmsNorm {
    pub(super) eps: f32,
    pub(super) offset: f32,
}

/// Rows handed to one task: enough work to be worth a wake-up.
const ROWS_PER_TASK: usize = 16;

simd_dispatch! {
    /// Norms rows of `weight.len()` numbers.
    pub(super) fn norm_rows(x: &[f32], weight: &[f32], norm: &RmsNorm, out: &mut [f32]) = forward_body;
}

#[inline(always)]
fn forward_body<const FMA: bool>(x: &[f32], weight: &[f32], norm: &RmsNorm, out: &mut [f32]) {
    let width = weight.len();
    for (row, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let scale = inverse_rms::<FMA>(row, norm.eps);
        for i in 0..width {
            out[i] = row[i] * scale * (weight[i] + norm.offset);
        }
    }
}

simd_dispatch! {
    /// As `norm_rows`, in place.
    pub(super) fn norm_in_place(x: &mut [f32], weight: &[f32], eps: f32, offset: f32) = in_place_body;
}

#[inline(always)]
fn in_place_body<const FMA: bool>(x: &mut [f32], weight: &[f32], eps: f32, offset: f32) {
    for row in x.chunks_exact_mut(weight.len()) {
        let scale = inverse_rms::<FMA>(row, eps);
        for (x, weight) in row.iter_mut().zip(weight) {
            *x = *x * scale * (weight + offset);
        }
    }
}

#[inline(always)]
fn inverse_rms<const FMA: bool>(row: &[f32], eps: f32) -> f32 {
    1.0 / (dot::<FMA>(row, row) / row.len() as f32 + eps).sqrt()
}

struct Backward<'a> {
    x: &'a [f32],
    grad: &'a [f32],
    weight: &'a [f32],
}

simd_dispatch! {
    fn backward_rows(rows: Backward<'_>, norm: &RmsNorm, dx: &mut [f32], dw: &mut [f32]) = backward_body;
}

#[inline(always)]
fn backward_body<const FMA: bool>(
    rows: Backward<'_>,
    norm: &RmsNorm,
    dx: &mut [f32],
    dw: &mut [f32],
) {
    let width = rows.weight.len();
    let mut scaled = vec![0f32; width];
    let each = rows
        .x
        .chunks_exact(width)
        .zip(rows.grad.chunks_exact(width));
    for ((x, g), dx) in each.zip(dx.chunks_exact_mut(width)) {
        let scale = inverse_rms::<FMA>(x, norm.eps);
        for i in 0..width {
            scaled[i] = g[i] * (rows.weight[i] + norm.offset);
            dw[i] = mul_add::<FMA>(g[i] * x[i], scale, dw[i]);
        }
        let shared = dot::<FMA>(&scaled, x) * scale * scale / width as f32;
        for i in 0..width {
            dx[i] = scale * mul_add::<FMA>(-shared, x[i], scaled[i]);
        }
    }
}

/// The sum of `x * grad * (weight + offset)`.
#[inline(always)]
fn shared_part<const FMA: bool>((x, grad): (&[f32], &[f32]), weight: &[f32], offset: f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (grads, grad_rest) = grad.as_chunks::<LANES>();
    let (weights, weight_rest) = weight.as_chunks::<LANES>();
    for ((x, grad), weight) in xs.iter().zip(grads).zip(weights) {
        for i in 0..LANES {
            lanes[i] = mul_add::<FMA>(grad[i] * (weight[i] + offset), x[i], lanes[i]);
        }
    }
    let rest = x_rest.iter().zip(grad_rest).zip(weight_rest);
    for (i, ((x, grad), weight)) in rest.enumerate() {
        lanes[i] = mul_add::<FMA>(grad * (weight + offset), *x, lanes[i]);
    }
    fold(lanes)
}

simd_dispatch! {
    /// Adds the input's gradient, row by row, to `sum`; the weight gets none.
    pub(super) fn norm_back_onto(
        x: &[f32],
        grad: &[f32],
        weight: &[f32],
        norm: &RmsNorm,
        sum: &mut [f32],
    ) = back_onto_body;
}

#[inline(always)]
fn back_onto_body<const FMA: bool>(
    x: &[f32],
    grad: &[f32],
    weight: &[f32],
    norm: &RmsNorm,
    sum: &mut [f32],
) {
    let width = weight.len();
    let each = x.chunks_exact(width).zip(grad.chunks_exact(width));
    for ((x, grad), sum) in each.zip(sum.chunks_exact_mut(width)) {
        let (x, grad, sum) = (&x[..width], &grad[..width], &mut sum[..width]);
        let scale = inverse_rms::<FMA>(x, norm.eps);
        let shared = shared_part::<FMA>((x, grad), weight, norm.offset);
        let shared = shared * scale * scale / width as f32;
        for i in 0..width {
            let scaled = grad[i] * (weight[i] + norm.offset);
            sum[i] += scale * mul_add::<FMA>(-shared, x[i], scaled);
        }
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (elements(x, x_layout)?, elements(weight, weight_layout)?);
        let width = weight.len();
        if x_layout.dims().last() != Some(&width) {
            candle_core::bail!(
                "rms_norm: rows of {:?} against a weight of {width}",
                x_layout.dims()
            );
        }
        let mut out = vec![0f32; x.len()];
        let task = width * ROWS_PER_TASK;
        out.par_chunks_mut(task)
            .zip(x.par_chunks(task))
            .for_each(|(out, x)| norm_rows(x, weight, self, out));
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = with_elements(x, |x| -> Result<(Vec<f32>, Vec<f32>)> {
            with_elements(grad, |grad| -> Result<(Vec<f32>, Vec<f32>)> {
                with_elements(weight, |weight| backward(self, x, grad, weight))?
            })?
        })??;
        let dx = Tensor::from_vec(dx, x.shape(), x.device())?;
        let dw = Tensor::from_vec(dw, weight.shape(), weight.device())?;
        Ok((Some(dx), Some(dw)))
    }
}

fn backward(
    norm: &RmsNorm,
    x: &[f32],
    grad: &[f32],
    weight: &[f32],
) -> Result<(Vec<f32>, Vec<f32>)> {
    let width = weight.len();
    let task = width * ROWS_PER_TASK * 4;
    let mut dx = vec![0f32; x.len()];
    // Partial sums are added in row order, so that the result does not depend on the threads.
    let partial: Vec<Vec<f32>> = dx
        .par_chunks_mut(task)
        .zip(x.par_chunks(task).zip(grad.par_chunks(task)))
        .map(|(dx, (x, grad))| {
            let mut dw = vec![0f32; width];
            backward_rows(Backward { x, grad, weight }, norm, dx, &mut dw);
            dw
        })
        .collect();
    let mut dw = vec![0f32; width];
    for part in partial {
        dw.iter_mut()
            .zip(part)
            .for_each(|(sum, value)| *sum += value);
    }
    Ok((dx, dw))
}
