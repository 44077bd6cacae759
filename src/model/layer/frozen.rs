//! A layer whose own tensors are frozen, as the kernel's two sublayers.

use std::sync::Arc;

use crate::kernel::RopeTable;
use crate::kernel::sublayer::{
    AttentionSublayer, FeedForwardSublayer, FrozenNorm, LowRanks, Place, Projections, Rotation,
    Stack,
};

use super::super::ModelError;
use super::super::linear::Linear;
use super::super::lora::LoraAdapter;
use super::{GateUp, Layer, Norm, Pass, Projections as Parts};

/// The sublayers, and by which names adapters change their matrices.
pub(super) struct FrozenLayer {
    attention: Arc<AttentionSublayer>,
    attention_paths: Vec<String>,
    feed_forward: Arc<FeedForwardSublayer>,
    feed_forward_paths: Vec<String>,
}

impl FrozenLayer {
    /// Of a layer none of whose tensors is a variable, and whose matrices are packed for the way
    /// back too.
    pub(super) fn of(layer: &Layer) -> Result<Option<Self>, ModelError> {
        let (attention, mlp) = (&layer.attention, &layer.mlp);
        let inputs = match &attention.projections {
            Parts::Separate { q, k, v } => vec![q, k, v],
            Parts::Fused(all) => vec![all],
        };
        let gate_up = match &mlp.projections {
            GateUp::Separate { gate, up } => vec![gate, up],
            GateUp::Fused(both) => vec![both],
        };
        let norms = [
            Some(&layer.input_norm),
            Some(&layer.mlp_norm),
            layer.attention_out_norm.as_ref(),
            layer.mlp_out_norm.as_ref(),
            attention.q_norm.as_ref(),
            attention.k_norm.as_ref(),
        ];
        let linears = inputs
            .iter()
            .chain(&gate_up)
            .copied()
            .chain([&attention.output, &mlp.down]);
        let trained = norms.iter().flatten().any(|norm| norm.is_trained());
        if trained || !linears.clone().all(Linear::is_frozen_both_ways) {
            return Ok(None);
        }
        let names = |inputs: &[&Linear], output: &Linear| {
            let all = inputs.iter().copied().chain([output]);
            all.map(|linear| linear.path().to_owned()).collect()
        };
        let qk_norms = match (&attention.q_norm, &attention.k_norm) {
            (Some(q), Some(k)) => Some([q.frozen()?, k.frozen()?]),
            _ => None,
        };
        Ok(Some(Self {
            attention_paths: names(&inputs, &attention.output),
            feed_forward_paths: names(&gate_up, &mlp.down),
            attention: Arc::new(AttentionSublayer {
                norm: layer.input_norm.frozen()?,
                inputs: projections(&inputs)?,
                qk_norms,
                shape: attention.shape,
                output: projections(&[&attention.output])?,
                out_norm: optional(layer.attention_out_norm.as_ref())?,
            }),
            feed_forward: Arc::new(FeedForwardSublayer {
                norm: layer.mlp_norm.frozen()?,
                gate_up: projections(&gate_up)?,
                activation: mlp.activation,
                down: projections(&[&mlp.down])?,
                out_norm: optional(layer.mlp_out_norm.as_ref())?,
            }),
        }))
    }

    /// Puts both on a stack, through one adapter or none.
    pub(super) fn push_onto(
        &self,
        stack: &mut Stack,
        pass: &Pass<'_>,
        table: Option<&Arc<RopeTable>>,
        adapter: Option<&LoraAdapter>,
    ) -> Result<(), ModelError> {
        let place = Place {
            spans: Arc::clone(&pass.spans),
            rotation: table.map(|table| Rotation {
                table: Arc::clone(table),
                positions: Arc::clone(&pass.positions),
            }),
        };
        let updates = |paths: &[String]| match adapter {
            Some(adapter) => adapter.low_ranks(paths),
            None => Ok(LowRanks::default()),
        };
        let (first, second) = (
            updates(&self.attention_paths)?,
            updates(&self.feed_forward_paths)?,
        );
        self.attention.push_onto(stack, &place, first)?;
        self.feed_forward.push_onto(stack, second)?;
        Ok(())
    }
}

fn projections(linears: &[&Linear]) -> Result<Projections, ModelError> {
    let matrices: Result<Vec<_>, ModelError> = linears
        .iter()
        .map(|linear| linear.frozen_matrix())
        .filter_map(Result::transpose)
        .collect();
    Ok(Projections::new(matrices?))
}

fn optional(norm: Option<&Norm>) -> Result<Option<FrozenNorm>, ModelError> {
    norm.map(Norm::frozen).transpose()
}
