//! What the engine asks of a model: one packed forward pass over many sequences' caches.

use std::sync::Arc;

use crate::model::BlockId;
use crate::types::TokenId;

use super::memory::free_bytes;

/// A model's own account of why a step could not be computed.
pub type StepError = Arc<dyn std::error::Error + Send + Sync>;

/// A model that continues many sequences in one pass. Seen from here it is a pure function: the
/// logits of a row depend on its own sequence and adapter only, never on its company.
pub trait StepModel: Send + Sync + 'static {
    /// Low-rank changes that a request may ask for.
    type Adapter: Send + Sync + 'static;
    /// Keys and values of all sequences, in blocks.
    type Pool: Send;

    /// How many tokens the model knows.
    fn vocab_size(&self) -> usize;

    /// Tokens that one sequence may have.
    fn context_length(&self) -> usize;

    /// Bytes that the pool takes for one token.
    fn token_bytes(&self) -> usize;

    /// Bytes that a pool may take; `None` where nobody can tell.
    fn pool_bytes(&self) -> Option<u64> {
        free_bytes().map(|free| free / 2)
    }

    /// Tokens of one step from which on more do not make any of them cheaper. On a processor few
    /// suffice for arithmetic, not memory, to be what takes the time.
    fn efficient_tokens(&self) -> usize {
        128
    }

    /// A pool of so many blocks.
    fn new_pool(&self, blocks: usize) -> Self::Pool;

    /// Takes the memory of a pool now instead of when it is used.
    fn populate(&self, _pool: &Self::Pool) {}

    /// Names the parameters that compute rows with this adapter: never again by another adapter,
    /// nor after they have changed. `None` if they may change, so that nothing may be kept.
    fn identity(&self, adapter: Option<&Arc<Self::Adapter>>) -> Option<u64>;

    /// Computes each span after what its blocks hold already, writes its tokens to them and to
    /// nothing else, and sets `logits` to the raw logits of the last row of every span that samples:
    /// row after row, `vocab_size` each.
    fn step(
        &self,
        spans: &[StepSpan<'_, Self::Adapter>],
        pool: &mut Self::Pool,
        logits: &mut Vec<f32>,
    ) -> Result<(), StepError>;

    /// Whether what computes had a fault that only a new pool mends. The engine then ends all that
    /// runs, with an error, and starts anew.
    fn is_lost(&self) -> bool {
        false
    }
}

/// The next tokens of one sequence.
#[derive(Debug)]
pub struct StepSpan<'a, A> {
    /// The tokens, in order.
    pub tokens: &'a [TokenId],
    /// The first token's position in its sequence: all before it are in the blocks.
    pub first_position: usize,
    /// The sequence's blocks in order, enough for these tokens too.
    pub blocks: &'a [BlockId],
    /// The adapter of these rows.
    pub adapter: Option<&'a Arc<A>>,
    /// Whether the logits after the last token are wanted.
    pub samples: bool,
}
