//! The forward passes of one loss, and the way back through them to the gradients.

use candle_core::{Tensor, Var};

use super::TrainingError;
use super::gradients::Gradients;
use crate::model::{Decoder, ForwardBatch, LayerTape};

/// How much of a forward pass is kept for the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// Everything: the fastest way back.
    #[default]
    All,
    /// Each layer's input; the rest is computed again. Less memory, about a third more time, and
    /// the same bits.
    LayerInputs,
    /// Nothing, for there is no way back.
    Nothing,
}

impl Keep {
    /// What a job's setting asks for.
    pub fn recomputing(recompute: bool) -> Self {
        if recompute {
            Self::LayerInputs
        } else {
            Self::All
        }
    }
}

/// Passes through one decoder.
pub struct Passes<'a> {
    decoder: &'a Decoder,
    keep: Keep,
    tapes: Vec<LayerTape>,
}

impl<'a> Passes<'a> {
    /// No pass yet.
    pub fn through(decoder: &'a Decoder, keep: Keep) -> Self {
        Self {
            decoder,
            keep,
            tapes: Vec::new(),
        }
    }

    /// The decoder.
    pub fn decoder(&self) -> &'a Decoder {
        self.decoder
    }

    /// Final hidden states, (tokens, hidden), to be made a loss of.
    pub fn forward(&mut self, batch: ForwardBatch) -> Result<Tensor, TrainingError> {
        match self.keep {
            Keep::All => Ok(self.decoder.forward(&batch)?),
            Keep::Nothing => Ok(self.decoder.forward_constant(&batch)?),
            Keep::LayerInputs => {
                let (hidden, tape) = self.decoder.forward_keeping_inputs(batch)?;
                self.tapes.push(tape);
                Ok(hidden)
            }
        }
    }

    /// Gradients of a loss over these passes; none of those that kept nothing.
    pub fn backward(
        self,
        loss: &Tensor,
        vars: &[(String, Var)],
    ) -> Result<Gradients, TrainingError> {
        let store = loss.backward()?;
        let mut gradients = Gradients::new(vars.len());
        gradients.add(vars, &store)?;
        for tape in &self.tapes {
            self.decoder
                .backward_layers(tape, &store, |found| gradients.add(vars, found))?;
        }
        Ok(gradients)
    }
}
