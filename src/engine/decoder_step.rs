//! The decoder as the engine's step model. (local until the engine's own lands)
use super::{StepError, StepModel, StepSpan};
use crate::model::{Decoder, ForwardBatch, KvCache, LoraAdapter};
use candle_core::{Device, Tensor};
use std::sync::Arc;
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
        cache.truncate(tokens)
    }
    fn step(
        &self,
        spans: &[StepSpan<'_, LoraAdapter>],
        caches: &mut [&mut KvCache],
    ) -> Result<Vec<f32>, StepError> {
        let mut batch = ForwardBatch::default();
        let mut rows = Vec::new();
        for s in spans {
            batch.push(s.tokens, s.first_position, s.adapter.cloned());
            if s.samples {
                rows.push(batch.len() as u32 - 1);
            }
        }
        let go = || -> Result<Vec<f32>, crate::model::ModelError> {
            let hidden = self.forward_cached(&batch, caches)?;
            if rows.is_empty() {
                return Ok(vec![]);
            }
            let n = rows.len();
            let rows = Tensor::from_vec(rows, n, &Device::Cpu)?;
            Ok(self
                .logits(&hidden.index_select(&rows, 0)?)?
                .flatten_all()?
                .to_vec1::<f32>()?)
        };
        let go = go;
        go().map_err(|e| Arc::new(e) as StepError)
    }
}
