//! Passes that keep each layer's input only, and compute the layer again on the way back.
//!
//! A graph over all layers holds everything that every layer computed; here it holds what one layer
//! did. The gradients have the same bits: the layer is computed from the same input, and the sum
//! over its outputs times their gradient has that gradient.

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use super::super::ModelError;
use super::super::batch::ForwardBatch;
use super::Decoder;

/// What a pass kept.
pub struct LayerTape {
    batch: ForwardBatch,
    /// Each layer's input, (tokens, hidden), constant.
    inputs: Vec<Tensor>,
    /// The last layer's output, from which the graph of the rest begins.
    last: Var,
}

impl Decoder {
    /// As `forward`, without a graph: nothing is kept for a way back.
    pub fn forward_constant(&self, batch: &ForwardBatch) -> Result<Tensor, ModelError> {
        self.check(batch)?;
        let mut x = self.embed(batch)?.detach();
        for index in 0..self.layers.len() {
            x = self.one_layer(index, &x, batch)?.detach();
        }
        Ok(self.norm.forward(&x)?.detach())
    }

    /// As `forward`, but the graph of what it returns reaches back to the last layer's output only;
    /// `backward_layers` goes on from there.
    pub fn forward_keeping_inputs(
        &self,
        batch: ForwardBatch,
    ) -> Result<(Tensor, LayerTape), ModelError> {
        self.check(&batch)?;
        let mut inputs = Vec::with_capacity(self.layers.len());
        let mut x = self.embed(&batch)?.detach();
        for index in 0..self.layers.len() {
            let next = self.one_layer(index, &x, &batch)?.detach();
            inputs.push(x);
            x = next;
        }
        let last = Var::from_tensor(&x)?;
        let hidden = self.norm.forward(last.as_tensor())?;
        let tape = LayerTape {
            batch,
            inputs,
            last,
        };
        Ok((hidden, tape))
    }

    /// Goes back through the layers of a pass: `after` holds the gradients of what came after them;
    /// `found` is handed those of each layer, from the last to the first, and of the embedding.
    pub fn backward_layers<E: From<ModelError>>(
        &self,
        tape: &LayerTape,
        after: &GradStore,
        mut found: impl FnMut(&GradStore) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(gradient) = after.get(tape.last.as_tensor()) else {
            return Ok(());
        };
        let mut gradient = gradient.detach();
        for (index, input) in tape.inputs.iter().enumerate().rev() {
            let is_constant = index == 0 && !self.embedding.wants_gradient();
            let leaf = Var::from_tensor(input).map_err(ModelError::from)?;
            let input = if is_constant { input } else { leaf.as_tensor() };
            let output = self.one_layer(index, input, &tape.batch)?;
            let store = back(&output, &gradient)?;
            found(&store)?;
            match store.get(leaf.as_tensor()) {
                Some(next) => gradient = next.detach(),
                // nothing before this layer can be trained
                None => return Ok(()),
            }
        }
        let embedded = self.embed(&tape.batch)?;
        found(&back(&embedded, &gradient)?)
    }

    fn one_layer(
        &self,
        index: usize,
        x: &Tensor,
        batch: &ForwardBatch,
    ) -> Result<Tensor, ModelError> {
        let segments = batch.segments();
        let pass = self.pass(batch, &segments);
        self.layers[index].forward(x, &pass, self.rope(index))
    }
}

fn back(output: &Tensor, gradient: &Tensor) -> Result<GradStore, ModelError> {
    Ok((output * gradient)?.sum_all()?.backward()?)
}
