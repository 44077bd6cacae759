//! The gated feed-forward network of a layer.

use candle_core::Tensor;

use crate::kernel::{Activation, gated};

use super::super::ModelError;
use super::super::config::DecoderConfig;
use super::super::linear::{Linear, LinearSettings, LinearShape};
use super::super::tensors::TensorSource;
use super::Pass;

/// `down(activation(gate(x)) * up(x))`
pub(super) struct Mlp {
    pub(super) projections: GateUp,
    pub(super) down: Linear,
    pub(super) activation: Activation,
    width: usize,
}

/// One matrix each, or both in one.
pub(super) enum GateUp {
    Separate { gate: Linear, up: Linear },
    Fused(Linear),
}

impl Mlp {
    pub(super) fn load(
        source: &mut dyn TensorSource,
        at: &str,
        config: &DecoderConfig,
        settings: LinearSettings,
    ) -> Result<Self, ModelError> {
        let (hidden, width, bias) = (
            config.hidden_size,
            config.intermediate_size,
            config.mlp_bias,
        );
        let mut load = |name: &str, inputs: usize, outputs: usize| {
            let shape = LinearShape {
                inputs,
                outputs,
                bias,
            };
            Linear::load(source, format!("{at}.mlp.{name}"), shape, settings)
        };
        let projections = if config.family.has_fused_projections() {
            GateUp::Fused(load("gate_up_proj", hidden, 2 * width)?)
        } else {
            let gate = load("gate_proj", hidden, width)?;
            GateUp::Separate {
                gate,
                up: load("up_proj", hidden, width)?,
            }
        };
        let down = load("down_proj", width, hidden)?;
        Ok(Self {
            projections,
            down,
            activation: config.activation,
            width,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor, ModelError> {
        let (gate, up) = match &self.projections {
            GateUp::Separate { gate, up } => (
                gate.forward(x, pass.segments)?,
                up.forward(x, pass.segments)?,
            ),
            GateUp::Fused(both) => {
                let both = both.forward(x, pass.segments)?;
                (
                    both.narrow(1, 0, self.width)?,
                    both.narrow(1, self.width, self.width)?,
                )
            }
        };
        self.down
            .forward(&gated(&gate, &up, self.activation)?, pass.segments)
    }
}
