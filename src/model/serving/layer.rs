//! One layer's tensors in plain numbers, as the serving pass reads them.

use std::sync::Arc;

use crate::kernel::AttentionShape;
use crate::kernel::matmul::PackedMatrix;
use crate::kernel::team::{NormTensor, Projection};

/// Which linear layer of a layer something belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Queries, or queries, keys and values in one.
    Query,
    Key,
    Value,
    Output,
    /// The gate, or gate and up in one.
    Gate,
    Up,
    Down,
}

/// Number of slots.
pub(crate) const SLOTS: usize = 7;

impl Slot {
    /// By the last part of a module's path.
    pub(crate) fn of_module(name: &str) -> Option<Self> {
        Some(match name {
            "q_proj" | "qkv_proj" => Self::Query,
            "k_proj" => Self::Key,
            "v_proj" => Self::Value,
            "o_proj" => Self::Output,
            "gate_proj" | "gate_up_proj" => Self::Gate,
            "up_proj" => Self::Up,
            "down_proj" => Self::Down,
            _ => return None,
        })
    }
}

/// A root-mean-square norm.
pub(crate) struct ServedNorm {
    /// (width,)
    pub(crate) weight: Arc<[f32]>,
    pub(crate) eps: f32,
    pub(crate) offset: f32,
}

/// A linear layer.
pub(crate) struct ServedLinear {
    /// (out, in)
    pub(crate) matrix: Arc<PackedMatrix>,
    /// (out,)
    pub(crate) bias: Option<Arc<[f32]>>,
    pub(crate) slot: Slot,
}

impl ServedLinear {
    /// As a projection whose outputs begin at `column`.
    pub(crate) fn projection(&self, column: usize) -> Projection<'_> {
        Projection {
            matrix: &self.matrix,
            bias: self.bias.as_deref(),
            column,
            slot: self.slot as usize,
        }
    }
}

/// One transformer layer.
pub(crate) struct ServedLayer {
    pub(crate) input_norm: ServedNorm,
    /// Queries, keys and values: one linear layer or three.
    pub(crate) projections: Vec<ServedLinear>,
    /// Of the heads of queries and keys.
    pub(crate) qk_norms: Option<[ServedNorm; 2]>,
    pub(crate) output: ServedLinear,
    pub(crate) shape: AttentionShape,
    pub(crate) attention_out_norm: Option<ServedNorm>,
    pub(crate) mlp_norm: ServedNorm,
    /// Gate and up: one linear layer or two.
    pub(crate) gates: Vec<ServedLinear>,
    pub(crate) down: ServedLinear,
    pub(crate) mlp_out_norm: Option<ServedNorm>,
}

impl ServedLayer {
    pub(super) fn qkv(&self) -> Vec<Projection<'_>> {
        side_by_side(&self.projections)
    }

    pub(super) fn gate_up(&self) -> Vec<Projection<'_>> {
        side_by_side(&self.gates)
    }
}

/// Linear layers whose outputs lie one after the other in a row.
fn side_by_side(linears: &[ServedLinear]) -> Vec<Projection<'_>> {
    let mut column = 0;
    let projections = linears.iter().map(|linear| {
        let projection = linear.projection(column);
        column += linear.matrix.out_features();
        projection
    });
    projections.collect()
}

impl ServedNorm {
    pub(super) fn plain(&self) -> NormTensor<'_> {
        NormTensor {
            weight: &self.weight,
            eps: self.eps,
            offset: self.offset,
        }
    }
}
