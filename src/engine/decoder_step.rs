//! The decoder as the engine's model: packs the spans, takes logits of the rows that draw.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::model::{Decoder, ForwardBatch, KvCache, LoraAdapter, ModelError};

use super::{StepError, StepModel, StepSpan};

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
        step(self, spans, caches).map_err(|error| Arc::new(error) as StepError)
    }
}

fn step(
    decoder: &Decoder,
    spans: &[StepSpan<'_, LoraAdapter>],
    caches: &mut [&mut KvCache],
) -> Result<Vec<f32>, ModelError> {
    let mut batch = ForwardBatch::default();
    let mut drawing = Vec::new();
    for span in spans {
        batch.push(span.tokens, span.first_position, span.adapter.cloned());
        if span.samples {
            drawing.push(batch.len() as u32 - 1);
        }
    }
    let hidden = decoder.forward_cached(&batch, caches)?;
    if drawing.is_empty() {
        return Ok(Vec::new());
    }
    let rows = if drawing.len() == batch.len() {
        hidden
    } else {
        hidden.index_select(&Tensor::new(drawing, &Device::Cpu)?, 0)?
    };
    // The head reads every weight of the vocabulary: only rows that draw go through it.
    Ok(decoder.logits(&rows)?.flatten_all()?.to_vec1()?)
}
