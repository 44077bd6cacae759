//! How much the engine takes on at once.

use serde::{Deserialize, Serialize};

use crate::model::BLOCK_TOKENS;

use super::EngineError;
use super::memory::free_bytes;

/// Longest queue: room for it is set aside at the start.
const MAX_QUEUE: usize = 100_000;

/// The engine's bounds. Each holds memory or latency down; none changes what is generated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Sequences that run side by side; each owns a cache.
    pub max_sequences: usize,
    /// Tokens of one iteration: decodes first, prompt chunks with the rest. Higher serves prompts
    /// sooner, lower keeps running streams smoother.
    pub max_batch_tokens: usize,
    /// Requests that may wait for a place beyond those that run; the next one is refused.
    pub queue_capacity: usize,
    /// Prompt tokens that may wait; a request beyond them is refused, unless nobody waits.
    pub max_queued_tokens: usize,
    /// Tokens that the cache of keys and values holds, over all sequences. Fewer cost memory less
    /// and make sequences wait for each other; their memory is taken at the start. `None`: as many as
    /// the places can use, at most half of the memory that is free, taken as it is used.
    pub kv_tokens: Option<usize>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_sequences: 64,
            max_batch_tokens: 512,
            queue_capacity: 256,
            max_queued_tokens: 65_536,
            kv_tokens: None,
        }
    }
}

impl EngineConfig {
    /// Refuses bounds under which some request would never be served.
    pub(super) fn validate(&self) -> Result<(), EngineError> {
        if self.max_sequences == 0 {
            return Err(EngineError::Config(
                "max_sequences is 0, expected at least 1".into(),
            ));
        }
        if self.max_batch_tokens < self.max_sequences {
            return Err(EngineError::Config(format!(
                "max_batch_tokens is {}, expected at least max_sequences ({}): every running \
                 sequence decodes one token per iteration",
                self.max_batch_tokens, self.max_sequences
            )));
        }
        if self.queue_capacity > MAX_QUEUE {
            return Err(EngineError::Config(format!(
                "queue_capacity is {}, expected at most {MAX_QUEUE}",
                self.queue_capacity
            )));
        }
        if self.kv_tokens.is_some_and(|tokens| tokens < BLOCK_TOKENS) {
            return Err(EngineError::Config(format!(
                "kv_tokens is {}, expected at least {BLOCK_TOKENS}",
                self.kv_tokens.unwrap_or_default()
            )));
        }
        Ok(())
    }

    /// Blocks of the cache, for a model with this context and so many bytes a token.
    pub(super) fn blocks(&self, context_length: usize, token_bytes: usize) -> usize {
        let tokens = self.kv_tokens.unwrap_or_else(|| {
            let useful = context_length.saturating_mul(self.max_sequences);
            match free_bytes() {
                Some(free) => useful.min(free as usize / 2 / token_bytes.max(1)),
                None => useful,
            }
        });
        // As ids of blocks have 32 bits.
        tokens.div_ceil(BLOCK_TOKENS).clamp(1, u32::MAX as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_holds_what_the_places_can_use() {
        let config = EngineConfig {
            max_sequences: 3,
            ..EngineConfig::default()
        };
        assert_eq!(config.blocks(100, 1), 300usize.div_ceil(BLOCK_TOKENS));
        let stated = EngineConfig {
            kv_tokens: Some(50),
            ..config.clone()
        };
        assert_eq!(stated.blocks(100, 1), 4);
        // A terabyte a token: no machine has two of them to spare.
        assert_eq!(config.blocks(100, 1 << 50), 1);
    }
}
