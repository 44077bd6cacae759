//! The gate of gated feed-forward layers: `activation(gate) * up` (arXiv 2002.05202).

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::math::exp;
use super::storage::{elements, with_elements};

/// The function applied to the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// Gaussian error linear unit, in the approximation by tanh.
    GeluTanh,
    /// Gaussian error linear unit, by the error function.
    Gelu,
}

/// `activation(gate) * up`, element by element; both f32 of one shape.
pub fn gated(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor> {
    gate.contiguous()?
        .apply_op2(&up.contiguous()?, Gated(activation))
}

struct Gated(Activation);

const TASK: usize = 8192;

/// `x * sigmoid(x)` and its derivative.
#[inline(always)]
fn silu<const FMA: bool>(x: f32) -> (f32, f32) {
    let s = 1.0 / (1.0 + exp::<FMA>(-x));
    (x * s, s * (1.0 + x * (1.0 - s)))
}

#[inline(always)]
fn gelu_tanh<const FMA: bool>(x: f32) -> (f32, f32) {
    const ROOT: f32 = 0.797_884_6; // sqrt(2 / pi)
    const CUBE: f32 = 0.044_715;
    let inner = ROOT * (x + CUBE * x * x * x);
    // tanh by way of exp of a non-positive number, so that nothing overflows
    let e = exp::<FMA>(-2.0 * inner.abs());
    let tanh = ((1.0 - e) / (1.0 + e)).copysign(inner);
    let slope = ROOT * (1.0 + 3.0 * CUBE * x * x);
    (
        0.5 * x * (1.0 + tanh),
        0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * slope,
    )
}

fn gelu(x: f32) -> (f32, f32) {
    let cdf = 0.5 * (1.0 + candle_core::cpu::erf::erf_f64(x as f64 / std::f64::consts::SQRT_2));
    let density = (-0.5 * (x as f64) * (x as f64)).exp() * 0.398_942_280_401_432_7;
    ((x as f64 * cdf) as f32, (cdf + x as f64 * density) as f32)
}

simd_dispatch! {
    /// `out = activation(gate) * up`, for slices of one length.
    pub(super) fn gated_rows(gate: &[f32], up: &[f32], kind: Activation, out: &mut [f32]) = forward_body;
}

#[inline(always)]
fn forward_body<const FMA: bool>(gate: &[f32], up: &[f32], kind: Activation, out: &mut [f32]) {
    match kind {
        Activation::Silu => gated_by(silu::<FMA>, gate, up, out),
        Activation::GeluTanh => gated_by(gelu_tanh::<FMA>, gate, up, out),
        Activation::Gelu => gated_by(gelu, gate, up, out),
    }
}

#[inline(always)]
fn gated_by(activation: impl Fn(f32) -> (f32, f32), gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = activation(*gate).0 * up;
    }
}

/// What gradients are made of; slices of one length.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) gate: &'a [f32],
    pub(super) up: &'a [f32],
    /// The gradient of what came out.
    pub(super) grad: &'a [f32],
}

simd_dispatch! {
    /// Gradients of `gate` and `up`, and `activation(gate) * up` once more.
    pub(super) fn gated_back(
        inputs: Inputs<'_>,
        kind: Activation,
        d_gate: &mut [f32],
        d_up: &mut [f32],
        out: &mut [f32],
    ) = gated_back_body;
}

#[inline(always)]
fn gated_back_body<const FMA: bool>(
    inputs: Inputs<'_>,
    kind: Activation,
    d_gate: &mut [f32],
    d_up: &mut [f32],
    out: &mut [f32],
) {
    match kind {
        Activation::Silu => back_by(silu::<FMA>, inputs, d_gate, d_up, out),
        Activation::GeluTanh => back_by(gelu_tanh::<FMA>, inputs, d_gate, d_up, out),
        Activation::Gelu => back_by(gelu, inputs, d_gate, d_up, out),
    }
}

/// One loop for each activation: with the choice inside, it is not made of vectors.
#[inline(always)]
fn back_by(
    activation: impl Fn(f32) -> (f32, f32),
    Inputs { gate, up, grad }: Inputs<'_>,
    d_gate: &mut [f32],
    d_up: &mut [f32],
    out: &mut [f32],
) {
    let len = grad.len();
    let (gate, up) = (&gate[..len], &up[..len]);
    let (d_gate, d_up, out) = (&mut d_gate[..len], &mut d_up[..len], &mut out[..len]);
    for i in 0..len {
        let (value, slope) = activation(gate[i]);
        out[i] = value * up[i];
        d_up[i] = grad[i] * value;
        d_gate[i] = grad[i] * up[i] * slope;
    }
}

impl CustomOp2 for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (elements(gate, gate_layout)?, elements(up, up_layout)?);
        if gate.len() != up.len() {
            bail!(
                "gated: gate has {} elements, up has {}",
                gate.len(),
                up.len()
            );
        }
        let mut out = vec![0f32; gate.len()];
        out.par_chunks_mut(TASK)
            .zip(gate.par_chunks(TASK).zip(up.par_chunks(TASK)))
            .for_each(|(out, (gate, up))| gated_rows(gate, up, self.0, out));
        Ok((CpuStorage::F32(out), gate_layout.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut d_gate = vec![0f32; gate.elem_count()];
        let mut d_up = vec![0f32; gate.elem_count()];
        with_elements(gate, |gate| {
            with_elements(up, |up| {
                with_elements(grad, |grad| {
                    let inputs = gate
                        .par_chunks(TASK)
                        .zip(up.par_chunks(TASK))
                        .zip(grad.par_chunks(TASK))
                        .map(|((gate, up), grad)| Inputs { gate, up, grad });
                    d_gate
                        .par_chunks_mut(TASK)
                        .zip(d_up.par_chunks_mut(TASK))
                        .zip(inputs)
                        .for_each(|((d_gate, d_up), inputs)| {
                            let mut out = vec![0f32; d_up.len()];
                            gated_back(inputs, self.0, d_gate, d_up, &mut out);
                        });
                })
            })
        })???;
        let shape = gate.shape();
        Ok((
            Some(Tensor::from_vec(d_gate, shape, gate.device())?),
            Some(Tensor::from_vec(d_up, shape, gate.device())?),
        ))
    }
}
