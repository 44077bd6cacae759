//! One linear layer, and what adapters add to its rows.

use std::sync::Arc;

use candle_core::Tensor;

use crate::kernel::matmul::{PackedMatrix, Packing, Precision, frozen_linear, linear};
use crate::kernel::sublayer::FrozenMatrix;
use crate::kernel::{BufferPool, HeadWeight, with_elements};

use super::ModelError;
use super::batch::Segment;
use super::serving::{ServedLinear, Slot};
use super::tensors::TensorSource;

/// `y = x wᵀ + b`, plus the low-rank product of each row's adapter.
pub(super) struct Linear {
    /// Module path in the checkpoint, by which adapters name it.
    path: String,
    bias: Option<Tensor>,
    kind: Kind,
}

enum Kind {
    /// Packed once; gradients reach the input only, and that only where its transpose is packed too.
    Frozen(Arc<PackedMatrix>, Option<Arc<PackedMatrix>>),
    /// A variable, (out, in); gradients reach it too.
    Trainable(Tensor, Precision),
}

/// How linear layers keep their weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct LinearSettings {
    /// In what numbers they multiply.
    pub(super) packing: Packing,
    /// Matrices that are stored in blocks stay so, whatever `packing` says.
    pub(super) as_stored: bool,
    /// Packs the transposes too, for gradients to pass through.
    pub(super) gradients: bool,
}

impl From<Precision> for LinearSettings {
    fn from(precision: Precision) -> Self {
        Self {
            packing: precision.into(),
            as_stored: false,
            gradients: true,
        }
    }
}

impl LinearSettings {
    /// Packs a matrix of that name without keeping its tensor.
    pub(super) fn pack(
        self,
        source: &mut dyn TensorSource,
        name: &str,
        shape: [usize; 2],
    ) -> Result<PackedMatrix, ModelError> {
        let stored = self.as_stored.then(|| source.packing(name)).flatten();
        let packing = stored.unwrap_or(self.packing);
        PackedMatrix::pack_from(shape.into(), packing, |rows, to| {
            source.rows((name, shape), rows, to)
        })
    }
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
        settings: LinearSettings,
    ) -> Result<Self, ModelError> {
        let LinearShape {
            inputs,
            outputs,
            bias,
        } = shape;
        let name = format!("{path}.weight");
        let kind = if settings.gradients {
            let weight = source.tensor(&name, &[outputs, inputs])?;
            Kind::of(weight, settings.packing)?
        } else {
            let packed = settings.pack(source, &name, [outputs, inputs])?;
            Kind::Frozen(Arc::new(packed), None)
        };
        let bias = bias
            .then(|| source.tensor(&format!("{path}.bias"), &[outputs]))
            .transpose()?;
        Ok(Self { path, bias, kind })
    }

    /// From its weight, (out, in), and bias, (out,).
    pub(super) fn new(
        path: String,
        weight: Tensor,
        bias: Option<Tensor>,
        packing: Packing,
    ) -> Result<Self, ModelError> {
        let kind = Kind::of(weight, packing)?;
        Ok(Self { path, bias, kind })
    }

    /// Without a bias; with gradients where the transpose is given too.
    pub(super) fn packed(
        path: String,
        matrix: Arc<PackedMatrix>,
        back: Option<Arc<PackedMatrix>>,
    ) -> Self {
        Self {
            path,
            bias: None,
            kind: Kind::Frozen(matrix, back),
        }
    }

    /// Module path in the checkpoint.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Whether nothing of it is trained, and gradients pass through it.
    pub(super) fn is_frozen_both_ways(&self) -> bool {
        let bias = self.bias.as_ref().is_some_and(Tensor::track_op);
        matches!(self.kind, Kind::Frozen(_, Some(_))) && !bias
    }

    /// In plain numbers, where gradients pass through it and nothing of it is trained.
    pub(super) fn frozen_matrix(&self) -> Result<Option<FrozenMatrix>, ModelError> {
        let Kind::Frozen(packed, Some(back)) = &self.kind else {
            return Ok(None);
        };
        let numbers = |bias: &Tensor| with_elements(bias, |bias| Arc::from(bias));
        Ok(Some(FrozenMatrix {
            packed: Arc::clone(packed),
            back: Arc::clone(back),
            bias: self.bias.as_ref().map(numbers).transpose()?,
        }))
    }

    /// Its weight as an output embedding, unless it was packed for serving alone.
    pub(super) fn head_weight<'a>(
        &'a self,
        buffers: &'a Arc<BufferPool>,
    ) -> Option<HeadWeight<'a>> {
        match &self.kind {
            Kind::Frozen(packed, back) => back.as_ref().map(|back| HeadWeight::Frozen {
                packed,
                back,
                buffers,
            }),
            Kind::Trainable(weight, _) => Some(HeadWeight::Tensor(weight)),
        }
    }

    /// In plain numbers, unless it changes in training.
    pub(super) fn served(&self, slot: Slot) -> Result<Option<ServedLinear>, ModelError> {
        let Kind::Frozen(matrix, _) = &self.kind else {
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
            Kind::Frozen(packed, back) => frozen_linear(x, packed, back.as_ref())?,
            Kind::Trainable(weight, precision) => linear(x, weight, *precision)?,
        };
        let changed = |segment: &Segment| {
            let adapter = segment.adapter.as_ref();
            adapter.is_some_and(|adapter| adapter.pair(&self.path).is_some())
        };
        if let [only] = segments {
            y = self.adapt(x, y, only)?;
        } else if segments.iter().any(changed) {
            let parts: Result<Vec<Tensor>, ModelError> = segments
                .iter()
                .map(|segment| {
                    let rows = |t: &Tensor| t.narrow(0, segment.start, segment.len);
                    self.adapt(&rows(x)?, rows(&y)?, segment)
                })
                .collect();
            y = Tensor::cat(&parts?, 0)?;
        }
        match &self.bias {
            Some(bias) => Ok(y.broadcast_add(bias)?),
            None => Ok(y),
        }
    }

    fn adapt(&self, x: &Tensor, y: Tensor, segment: &Segment) -> Result<Tensor, ModelError> {
        match segment
            .adapter
            .as_ref()
            .and_then(|adapter| adapter.pair(&self.path))
        {
            Some(pair) => pair.add_to(&y, x),
            None => Ok(y),
        }
    }
}

impl Kind {
    fn of(weight: Tensor, packing: Packing) -> Result<Self, ModelError> {
        if weight.is_variable() {
            return Ok(Self::Trainable(weight, packing.precision()));
        }
        let [packed, back] = both_ways(&weight, packing)?;
        Ok(Self::Frozen(packed, Some(back)))
    }
}

/// A frozen weight, (out, in), packed for `x wᵀ`, and its transpose for the way back.
pub(super) fn both_ways(
    weight: &Tensor,
    packing: Packing,
) -> Result<[Arc<PackedMatrix>; 2], ModelError> {
    let (outputs, inputs) = weight.dims2()?;
    let precision = packing.precision();
    Ok(with_elements(weight, |numbers| {
        [
            PackedMatrix::pack(numbers, outputs, inputs, packing),
            PackedMatrix::pack_transposed(numbers, (outputs, inputs), precision),
        ]
        .map(Arc::new)
    })?)
}
