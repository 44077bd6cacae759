//! How much the engine takes on at once.

use serde::{Deserialize, Serialize};

use crate::model::BLOCK_TOKENS;

use super::EngineError;
use super::scheduler::Budget;

/// Longest queue: room for it is set aside at the start.
const MAX_QUEUE: usize = 100_000;

/// The engine's bounds. Each holds memory or latency down; none changes what is generated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Sequences that run side by side; each owns a cache.
    pub max_sequences: usize,
    /// Tokens of one iteration: decodes first, prompt chunks with the rest. Beyond what computes
    /// tokens at their best rate, more only delay whatever else is in the iteration: running streams,
    /// and the first token of prompts that came earlier. `None`: one for everyone who decodes, and as
    /// many of prompts as the model computes at its best rate.
    pub max_batch_tokens: Option<usize>,
    /// Requests that may wait for a place beyond those that run; the next one is refused.
    pub queue_capacity: usize,
    /// Prompt tokens that may wait; a request beyond them is refused, unless nobody waits.
    pub max_queued_tokens: usize,
    /// Tokens that the cache of keys and values holds, over all sequences. Fewer cost memory less
    /// and make sequences wait for each other; their memory is taken at the start. `None`: as many as
    /// the places can use, at most half of the memory that is free, taken as it is used; on a device
    /// nine tenths of its, taken at the start.
    pub kv_tokens: Option<usize>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_sequences: 64,
            max_batch_tokens: None,
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
        if let Some(tokens) = self.max_batch_tokens
            && tokens < self.max_sequences
        {
            return Err(EngineError::Config(format!(
                "max_batch_tokens is {tokens}, expected at least max_sequences ({}): every running \
                 sequence decodes one token per iteration",
                self.max_sequences
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

    /// Tokens of one iteration, for a model that computes so many at its best rate.
    pub(super) fn budget(&self, efficient: usize) -> Budget {
        match self.max_batch_tokens {
            Some(all) => Budget { all, prompts: all },
            None => Budget {
                all: self.max_sequences.saturating_add(efficient),
                prompts: efficient,
            },
        }
    }

    /// Blocks of the cache, for a model with this context and so many bytes a token, of those that
    /// it may take.
    pub(super) fn blocks(
        &self,
        context_length: usize,
        token_bytes: usize,
        pool_bytes: Option<u64>,
    ) -> usize {
        let tokens = self.kv_tokens.unwrap_or_else(|| {
            let useful = context_length.saturating_mul(self.max_sequences);
            match pool_bytes {
                Some(bytes) => useful.min(bytes as usize / token_bytes.max(1)),
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
    fn prompts_move_while_every_place_decodes() {
        let config = |max_sequences, max_batch_tokens| EngineConfig {
            max_sequences,
            max_batch_tokens,
            ..EngineConfig::default()
        };
        let budget = |config: EngineConfig| {
            let Budget { all, prompts } = config.budget(128);
            (all, prompts)
        };
        assert_eq!(budget(config(4, None)), (132, 128));
        assert_eq!(budget(config(4, Some(7))), (7, 7), "what is stated holds");
        assert!(config(4, Some(3)).validate().is_err());
    }

    #[test]
    fn the_cache_holds_what_the_places_can_use() {
        let config = EngineConfig {
            max_sequences: 3,
            ..EngineConfig::default()
        };
        assert_eq!(config.blocks(100, 1, None), 300usize.div_ceil(BLOCK_TOKENS));
        let stated = EngineConfig {
            kv_tokens: Some(50),
            ..config.clone()
        };
        assert_eq!(stated.blocks(100, 1, Some(1)), 4);
        assert_eq!(config.blocks(100, 2, Some(320)), 10);
        assert_eq!(
            config.blocks(100, 1 << 50, Some(1 << 40)),
            1,
            "at least one"
        );
    }
}
