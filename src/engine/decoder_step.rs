//! The decoder as the engine's step model: spans in, the logits of their last rows out.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::{StepError, StepModel, StepSpan};
use crate::model::{Decoder, ForwardBatch, KvCache, LoraAdapter, ModelError};

impl StepModel for Decoder {
    type Adapter = LoraAdapter;
    type Cache = KvCache;

    fn vocab_size(&self) -> usize {
        self.config().vocab_size
    }

    fn context_length(&self) -> usize {
        self.config().max_positions
    }

    fn new_cache(&self) -> KvCache {
        Decoder::new_cache(self)
    }

    fn rewind(&self, cache: &mut KvCache, tokens: usize) {
        cache.truncate(tokens);
    }

    fn step(
        &self,
        spans: &[StepSpan<'_, LoraAdapter>],
        caches: &mut [&mut KvCache],
    ) -> Result<Vec<f32>, StepError> {
        last_logits(self, spans, caches).map_err(|error| Arc::new(error) as StepError)
    }
}

fn last_logits(
    decoder: &Decoder,
    spans: &[StepSpan<'_, LoraAdapter>],
    caches: &mut [&mut KvCache],
) -> Result<Vec<f32>, ModelError> {
    let mut batch = ForwardBatch::default();
    let mut rows = Vec::new();
    for span in spans {
        batch.push(span.tokens, span.first_position, span.adapter.cloned());
        if span.samples {
            rows.push(batch.len() as u32 - 1);
        }
    }
    let hidden = decoder.forward_cached(&batch, caches)?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let count = rows.len();
    let rows = Tensor::from_vec(rows, count, &Device::Cpu)?;
    let logits = decoder.logits(&hidden.index_select(&rows, 0)?)?;
    Ok(logits.flatten_all()?.to_vec1::<f32>()?)
}
