//! The decoder as the engine's model: packs the spans, takes logits of the rows that draw.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::model::{Decoder, ForwardBatch, KvPool, LoraAdapter, ModelError};

use super::{StepError, StepModel, StepSpan};

/// The identity of the base model; adapters count from 1.
const BASE: u64 = 0;

impl StepModel for Decoder {
    type Adapter = LoraAdapter;
    type Pool = KvPool;

    fn vocab_size(&self) -> usize {
        self.config().vocab_size
    }

    fn context_length(&self) -> usize {
        self.config().max_positions
    }

    fn token_bytes(&self) -> usize {
        Decoder::token_bytes(self)
    }

    fn new_pool(&self, blocks: usize) -> KvPool {
        Decoder::new_pool(self, blocks)
    }

    fn identity(&self, adapter: Option<&Arc<LoraAdapter>>) -> Option<u64> {
        adapter.map_or(Some(BASE), |adapter| adapter.generation())
    }

    fn step(
        &self,
        spans: &[StepSpan<'_, LoraAdapter>],
        pool: &mut KvPool,
    ) -> Result<Vec<f32>, StepError> {
        step(self, spans, pool).map_err(|error| Arc::new(error) as StepError)
    }
}

fn step(
    decoder: &Decoder,
    spans: &[StepSpan<'_, LoraAdapter>],
    pool: &mut KvPool,
) -> Result<Vec<f32>, ModelError> {
    let mut batch = ForwardBatch::default();
    let mut drawing = Vec::new();
    for span in spans {
        batch.push(span.tokens, span.first_position, span.adapter.cloned());
        if span.samples {
            drawing.push(batch.len() as u32 - 1);
        }
    }
    let tables: Vec<_> = spans.iter().map(|span| span.blocks).collect();
    let hidden = decoder.forward_cached(&batch, &tables, pool)?;
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
