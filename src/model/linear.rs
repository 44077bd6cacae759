//! One linear layer, and what adapters add to its rows.

use std::sync::Arc;

use candle_core::Tensor;

use crate::kernel::matmul::{PackedMatrix, Precision, frozen_linear, linear};
use crate::kernel::with_elements;

use super::ModelError;
use super::batch::Segment;
use super::serving::{ServedLinear, Slot};
use super::tensors::TensorSource;

/// `y = x wᵀ + b`, plus the low-rank product of each row's adapter.
pub(super) struct Linear {
    /// Module path in the checkpoint, by which adapters name it.
    path: String,
    /// (out, in)
    weight: Tensor,
    bias: Option<Tensor>,
    kind: Kind,
}

enum Kind {
    /// Packed once; gradients reach the input only.
    Frozen(Arc<PackedMatrix>),
    /// A variable; gradients reach the weight too.
    Trainable(Precision),
}

/// Sizes of a linear layer, and whether it has a bias.
#[derive(Debug, Clone, Copy)]
pub(super) struct LinearShape {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) bias: bool,
}

impl Linear {
    pub(super) fn load(
        source: &mut dyn TensorSource,
        path: String,
        shape: LinearShape,
        precision: Precision,
    ) -> Result<Self, ModelError> {
        let LinearShape {
            inputs,
            outputs,
            bias,
        } = shape;
        let weight = source.tensor(&format!("{path}.weight"), &[outputs, inputs])?;
        let bias = bias
            .then(|| source.tensor(&format!("{path}.bias"), &[outputs]))
            .transpose()?;
        Self::new(path, weight, bias, precision)
    }

    pub(super) fn new(
        path: String,
        weight: Tensor,
        bias: Option<Tensor>,
        precision: Precision,
    ) -> Result<Self, ModelError> {
        let (outputs, inputs) = weight.dims2()?;
        let kind = if weight.is_variable() {
            Kind::Trainable(precision)
        } else {
            let packed = with_elements(&weight, |w| {
                PackedMatrix::pack(w, outputs, inputs, precision)
            })?;
            Kind::Frozen(Arc::new(packed))
        };
        Ok(Self {
            path,
            weight,
            bias,
            kind,
        })
    }

    /// The weight, (out, in).
    pub(super) fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// In plain numbers, unless it changes in training.
    pub(super) fn served(&self, slot: Slot) -> Result<Option<ServedLinear>, ModelError> {
        let Kind::Frozen(matrix) = &self.kind else {
            return Ok(None);
        };
        let numbers = |bias: &Tensor| with_elements(bias, |bias| Arc::from(bias));
        Ok(Some(ServedLinear {
            matrix: Arc::clone(matrix),
            bias: self.bias.as_ref().map(numbers).transpose()?,
            slot,
        }))
    }

    /// (tokens, in) to (tokens, out).
    pub(super) fn forward(&self, x: &Tensor, segments: &[Segment]) -> Result<Tensor, ModelError> {
        let mut y = match &self.kind {
            Kind::Frozen(packed) => frozen_linear(x, packed, &self.weight)?,
            Kind::Trainable(precision) => linear(x, &self.weight, *precision)?,
        };
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(bias)?;
        }
        match segments {
            [only] => self.adapt(x, y, only),
            _ if segments.iter().all(|segment| segment.adapter.is_none()) => Ok(y),
            _ => {
                let parts: Result<Vec<Tensor>, ModelError> = segments
                    .iter()
                    .map(|segment| {
                        let rows = |t: &Tensor| t.narrow(0, segment.start, segment.len);
                        self.adapt(&rows(x)?, rows(&y)?, segment)
                    })
                    .collect();
                Ok(Tensor::cat(&parts?, 0)?)
            }
        }
    }

    fn adapt(&self, x: &Tensor, y: Tensor, segment: &Segment) -> Result<Tensor, ModelError> {
        match segment
            .adapter
            .as_ref()
            .and_then(|adapter| adapter.pair(&self.path))
        {
            Some(pair) => Ok((y + pair.delta(x)?)?),
            None => Ok(y),
        }
    }
}
