//! What the engine asks of a model: one packed forward pass over many sequences' caches.

use std::sync::Arc;

use crate::types::TokenId;

/// A model's own account of why a step could not be computed.
pub type StepError = Arc<dyn std::error::Error + Send + Sync>;

/// A model that continues many sequences in one pass. Seen from here it is a pure function: the
/// logits of a row depend on its own sequence and adapter only, never on its company.
pub trait StepModel: Send + Sync + 'static {
    /// Low-rank changes that a request may ask for.
    type Adapter: Send + Sync + 'static;
    /// Keys and values of one sequence.
    type Cache: Send;

    /// How many tokens the model knows.
    fn vocab_size(&self) -> usize;

    /// Tokens that one sequence may have.
    fn context_length(&self) -> usize;

    /// The cache of a sequence without a token.
    fn new_cache(&self) -> Self::Cache;

    /// Shortens a cache to its first `tokens` tokens, whatever a failed step has left in it.
    fn rewind(&self, cache: &mut Self::Cache, tokens: usize);

    /// Appends each span to its cache (the two slices run in parallel) and returns the raw logits
    /// of the last row of every span that samples: row after row, `vocab_size` each.
    fn step(
        &self,
        spans: &[StepSpan<'_, Self::Adapter>],
        caches: &mut [&mut Self::Cache],
    ) -> Result<Vec<f32>, StepError>;
}

/// The next tokens of one sequence.
#[derive(Debug)]
pub struct StepSpan<'a, A> {
    /// The tokens, in order.
    pub tokens: &'a [TokenId],
    /// The first token's position in its sequence, which is the length of its cache.
    pub first_position: usize,
    /// The adapter of these rows.
    pub adapter: Option<&'a Arc<A>>,
    /// Whether the logits after the last token are wanted.
    pub samples: bool,
}
