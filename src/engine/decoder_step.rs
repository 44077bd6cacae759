//! The decoder as the engine's model: packs the spans, asks for logits of the rows that draw.

use std::sync::Arc;

use crate::model::{Decoder, ForwardBatch, KvPool, LoraAdapter, ModelError, ServedStep};

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

    fn populate(&self, pool: &KvPool) {
        pool.populate();
    }

    fn identity(&self, adapter: Option<&Arc<LoraAdapter>>) -> Option<u64> {
        adapter.map_or(Some(BASE), |adapter| adapter.generation())
    }

    fn step(
        &self,
        spans: &[StepSpan<'_, LoraAdapter>],
        pool: &mut KvPool,
        logits: &mut Vec<f32>,
    ) -> Result<(), StepError> {
        step(self, spans, pool, logits).map_err(|error| Arc::new(error) as StepError)
    }
}

fn step(
    decoder: &Decoder,
    spans: &[StepSpan<'_, LoraAdapter>],
    pool: &mut KvPool,
    logits: &mut Vec<f32>,
) -> Result<(), ModelError> {
    let mut batch = ForwardBatch::default();
    let mut draws = Vec::with_capacity(spans.len());
    for span in spans {
        batch.push(span.tokens, span.first_position, span.adapter.cloned());
        if span.samples {
            draws.push(batch.len() as u32 - 1);
        }
    }
    let tables: Vec<_> = spans.iter().map(|span| span.blocks).collect();
    let step = ServedStep {
        batch: &batch,
        tables: &tables,
        draws: &draws,
    };
    decoder.step(step, pool, logits)
}
