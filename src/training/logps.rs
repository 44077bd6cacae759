//! Log-probabilities of completions, packed without padding, with and without a gradient.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::model::{Decoder, ForwardBatch, LoraAdapter};
use crate::types::TokenId;

use super::TrainingError;
use super::passes::{Keep, Passes};

/// A completion and the prompt it follows, as token ids: never decoded and encoded again.
#[derive(Debug, Clone, Copy)]
pub struct Sequence<'a> {
    /// Conditioning, conversation and generation marker; at least one token.
    pub prompt: &'a [TokenId],
    /// What was generated, its end token included; at least one token.
    pub completion: &'a [TokenId],
}

impl Sequence<'_> {
    /// Tokens that a forward pass sees.
    pub fn len(&self) -> usize {
        self.prompt.len() + self.completion.len()
    }

    /// True without any token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One side of a comparison: a decoder with or without an adapter.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// The decoder.
    pub decoder: &'a Decoder,
    /// Its adapter; none is the base model.
    pub adapter: Option<&'a Arc<LoraAdapter>>,
}

impl<'a> Side<'a> {
    /// Passes through its decoder.
    pub fn passes(&self, keep: Keep) -> Passes<'a> {
        Passes::through(self.decoder, keep)
    }

    /// log pi(completion | prompt) of each sequence, summed over its tokens: (sequences,) f32,
    /// differentiable in what the side trains.
    pub fn sequence_logps(
        &self,
        passes: &mut Passes<'_>,
        sequences: &[Sequence<'_>],
    ) -> Result<Tensor, TrainingError> {
        let mut batch = ForwardBatch::default();
        let (mut rows, mut targets, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
        for sequence in sequences {
            let (prompt, completion) = (sequence.prompt, sequence.completion);
            // The last token predicts nothing that is scored.
            let tokens = [prompt, &completion[..completion.len() - 1]].concat();
            let first = batch.len() + prompt.len() - 1;
            rows.extend((first..first + completion.len()).map(|row| row as u32));
            targets.extend_from_slice(completion);
            lengths.push(completion.len());
            batch.push(&tokens, 0, self.adapter.cloned());
        }
        let hidden = passes.forward(batch)?;
        let rows = Tensor::from_vec(rows, targets.len(), &Device::Cpu)?;
        let logps = self
            .decoder
            .token_logprobs(&hidden.index_select(&rows, 0)?, &targets)?;
        Ok(sum_segments(&logps, &lengths)?)
    }

    /// The same numbers without a graph, a batch of at most `max_tokens` tokens at a time.
    pub fn constant_logps(
        &self,
        sequences: &[Sequence<'_>],
        max_tokens: usize,
    ) -> Result<Vec<f32>, TrainingError> {
        let lengths: Vec<usize> = sequences.iter().map(Sequence::len).collect();
        let mut logps = Vec::with_capacity(sequences.len());
        for range in pack(&lengths, max_tokens) {
            let mut passes = self.passes(Keep::Nothing);
            let values = self
                .sequence_logps(&mut passes, &sequences[range])?
                .detach();
            logps.extend(values.to_vec1::<f32>()?);
        }
        Ok(logps)
    }
}

/// Sums neighbouring runs of a vector, differentiable.
fn sum_segments(values: &Tensor, lengths: &[usize]) -> candle_core::Result<Tensor> {
    let mut start = 0;
    let mut sums = Vec::with_capacity(lengths.len());
    for &length in lengths {
        sums.push(values.narrow(0, start, length)?.sum_keepdim(0)?);
        start += length;
    }
    Tensor::cat(&sums, 0)
}

/// Cuts items of the given sizes into neighbouring runs of at most `budget` in total; an item
/// larger than the budget is a run of its own.
pub fn pack(sizes: &[usize], budget: usize) -> Vec<std::ops::Range<usize>> {
    let mut runs = Vec::new();
    let (mut start, mut total) = (0, 0);
    for (index, &size) in sizes.iter().enumerate() {
        if index > start && total + size > budget {
            runs.push(start..index);
            (start, total) = (index, 0);
        }
        total += size;
    }
    if start < sizes.len() {
        runs.push(start..sizes.len());
    }
    runs
}

/// A constant vector.
pub(super) fn constants(values: impl IntoIterator<Item = f32>) -> candle_core::Result<Tensor> {
    let values: Vec<f32> = values.into_iter().collect();
    let count = values.len();
    Tensor::from_vec(values, count, &Device::Cpu)?.to_dtype(DType::F32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_keep_to_the_budget_and_lose_nothing() {
        assert_eq!(pack(&[3, 3, 3], 6), [0..2, 2..3]);
        assert_eq!(pack(&[9, 1], 6), [0..1, 1..2]);
        assert_eq!(pack(&[1, 9, 1], 6), [0..1, 1..2, 2..3]);
        assert!(pack(&[], 6).is_empty());
    }

    #[test]
    fn segments_are_summed_in_order() {
        let values = constants([1.0, 2.0, 3.0, 4.0]).unwrap();
        let sums = sum_segments(&values, &[1, 3])
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        assert_eq!(sums, [1.0, 9.0]);
    }
}
