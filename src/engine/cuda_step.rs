//! The decoder on a CUDA device as the engine's model.

use std::sync::Arc;

use crate::model::{CudaDecoder, CudaPool, LoraAdapter};

use super::decoder_step::{identity, with_step};
use super::{StepError, StepModel, StepSpan};

impl StepModel for CudaDecoder {
    type Adapter = LoraAdapter;
    type Pool = CudaPool;

    fn vocab_size(&self) -> usize {
        self.config().vocab_size
    }

    fn context_length(&self) -> usize {
        self.config().max_positions
    }

    fn token_bytes(&self) -> usize {
        CudaDecoder::token_bytes(self)
    }

    fn pool_bytes(&self) -> Option<u64> {
        Some(CudaDecoder::pool_bytes(self) as u64)
    }

    /// Tensor cores outrun memory by far more than a processor does.
    fn efficient_tokens(&self) -> usize {
        512
    }

    /// # Panics
    /// If there is no room for it, or the device does not come back: then the engine tries again.
    fn new_pool(&self, blocks: usize) -> CudaPool {
        CudaDecoder::new_pool(self, blocks)
            .unwrap_or_else(|error| panic!("no pool on the device: {error}"))
    }

    fn identity(&self, adapter: Option<&Arc<LoraAdapter>>) -> Option<u64> {
        identity(adapter)
    }

    fn step(
        &self,
        spans: &[StepSpan<'_, LoraAdapter>],
        pool: &mut CudaPool,
        logits: &mut Vec<f32>,
    ) -> Result<(), StepError> {
        with_step(spans, |step| CudaDecoder::step(self, step, pool, logits))
            .map_err(|error| Arc::new(error) as StepError)
    }

    fn is_lost(&self) -> bool {
        CudaDecoder::is_lost(self)
    }
}
