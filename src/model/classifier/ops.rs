//! The arithmetic that classifiers share: layers loaded by name, norms, activations, softmax.

use candle_core::{D, Tensor};

use super::super::linear::{Linear, LinearShape};
use super::super::tensors::{TensorFiles, TensorSource};
use crate::kernel::matmul::Precision;
use crate::model::ModelError;

/// A fully connected layer with bias, `PATH.weight` (out, in) and `PATH.bias`.
pub(super) fn dense(
    files: &mut TensorFiles,
    path: &str,
    inputs: usize,
    outputs: usize,
) -> Result<Linear, ModelError> {
    let shape = LinearShape {
        inputs,
        outputs,
        bias: true,
    };
    Linear::load(files, path.to_owned(), shape, Precision::F32.into())
}

/// A layer of GPT-2's kind: `PATH.weight` is (in, out).
pub(super) fn conv1d(
    files: &mut TensorFiles,
    path: &str,
    inputs: usize,
    outputs: usize,
) -> Result<Linear, ModelError> {
    let weight = files.tensor(&format!("{path}.weight"), &[inputs, outputs])?;
    let bias = files.tensor(&format!("{path}.bias"), &[outputs])?;
    Linear::new(
        path.to_owned(),
        weight.t()?.contiguous()?,
        Some(bias),
        Precision::F32.into(),
    )
}

/// `PATH.weight`, (rows, width).
pub(super) fn table(
    files: &mut TensorFiles,
    path: &str,
    rows: usize,
    width: usize,
) -> Result<Tensor, ModelError> {
    files.tensor(&format!("{path}.weight"), &[rows, width])
}

/// `y = x wᵀ + b` for all rows; each row's result is its own, whatever the others are.
pub(super) fn apply(layer: &Linear, x: &Tensor) -> Result<Tensor, ModelError> {
    layer.forward(&x.contiguous()?, &[])
}

/// Mean and variance normalisation over the last dimension, with weight and bias.
pub(super) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub(super) fn load(
        files: &mut TensorFiles,
        path: &str,
        width: usize,
        eps: f64,
    ) -> Result<Self, ModelError> {
        let weight = files.tensor(&format!("{path}.weight"), &[width])?;
        let bias = files.tensor(&format!("{path}.bias"), &[width])?;
        Ok(Self { weight, bias, eps })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let scaled = centred.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        Ok(scaled
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)?)
    }
}

/// Softmax over the last dimension.
pub(super) fn softmax(scores: &Tensor) -> Result<Tensor, ModelError> {
    let shifted = scores
        .broadcast_sub(&scores.max_keepdim(D::Minus1)?)?
        .exp()?;
    Ok(shifted.broadcast_div(&shifted.sum_keepdim(D::Minus1)?)?)
}

/// The non-linear functions that configurations name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nonlinearity {
    Gelu,
    GeluTanh,
    Relu,
    Silu,
    Tanh,
}

impl Nonlinearity {
    pub(super) const NAMES: &str =
        "supported: gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu, silu, swish, tanh";

    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "gelu" => Some(Self::Gelu),
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Some(Self::GeluTanh),
            "relu" => Some(Self::Relu),
            "silu" | "swish" => Some(Self::Silu),
            "tanh" => Some(Self::Tanh),
            _ => None,
        }
    }

    pub(super) fn apply(self, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(match self {
            Self::Gelu => x.gelu_erf()?,
            Self::GeluTanh => x.gelu()?,
            Self::Relu => x.relu()?,
            Self::Silu => x.silu()?,
            Self::Tanh => x.tanh()?,
        })
    }
}
