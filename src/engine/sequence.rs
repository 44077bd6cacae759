//! One request while it runs: what it has said, what its cache holds, who listens.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::types::{FinishReason, SamplingParams, TokenId, Usage};

use super::gate::Permit;
use super::handle::Submission;
use super::scheduler::Need;
use super::{EngineError, SampledToken, StepModel, StepSpan, TokenEvent};

/// Events that one iteration may tell: a token, and the end.
const EVENTS_PER_ITERATION: usize = 2;

/// A running request.
///
/// Invariant: the cache holds the first `cached` tokens of `history`, and while the sequence runs
/// at least one token is not cached yet.
pub(super) struct Sequence<M: StepModel> {
    history: Vec<TokenId>,
    prompt_tokens: usize,
    cached: usize,
    cache: M::Cache,
    adapter: Option<Arc<M::Adapter>>,
    sampling: SamplingParams,
    events: mpsc::Sender<TokenEvent>,
    /// Given back before the last event is told: who has heard it finds the place free.
    permit: Option<Permit>,
}

impl<M: StepModel> Sequence<M> {
    pub(super) fn new(submission: Submission<M::Adapter>, cache: M::Cache) -> Self {
        let Submission {
            request,
            events,
            permit,
            ..
        } = submission;
        Self {
            prompt_tokens: request.prompt.len(),
            history: request.prompt,
            cached: 0,
            cache,
            adapter: request.adapter,
            sampling: request.sampling,
            events,
            permit: Some(permit),
        }
    }

    /// Whether it has told its last event, or nobody listens.
    pub(super) fn is_over(&self) -> bool {
        self.permit.is_none() || self.events.is_closed()
    }

    /// Tokens generated so far.
    pub(super) fn generated(&self) -> usize {
        self.history.len() - self.prompt_tokens
    }

    pub(super) fn sampling(&self) -> &SamplingParams {
        &self.sampling
    }

    pub(super) fn adapter(&self) -> Option<&Arc<M::Adapter>> {
        self.adapter.as_ref()
    }

    pub(super) fn need(&self) -> Need {
        Need {
            tokens: self.history.len() - self.cached,
            decoding: self.generated() > 0,
            ready: self.events.capacity() >= EVENTS_PER_ITERATION,
        }
    }

    /// The next `tokens` tokens as a span, beside the cache they go to.
    pub(super) fn span(&mut self, tokens: usize) -> (StepSpan<'_, M::Adapter>, &mut M::Cache) {
        let end = self.cached + tokens;
        let span = StepSpan {
            tokens: &self.history[self.cached..end],
            first_position: self.cached,
            adapter: self.adapter.as_ref(),
            samples: end == self.history.len(),
        };
        (span, &mut self.cache)
    }

    /// Undoes what a failed step may have left in the cache.
    pub(super) fn rewind(&mut self, model: &M) {
        model.rewind(&mut self.cache, self.cached);
    }

    /// Takes note that the next `tokens` tokens are in the cache. True if a token can be drawn.
    pub(super) fn advance(&mut self, tokens: usize) -> bool {
        self.cached += tokens;
        self.cached == self.history.len()
    }

    /// Tells the token that was drawn, and the end where it is one.
    pub(super) fn accept(&mut self, token: SampledToken) {
        let id = token.id;
        self.history.push(id);
        self.tell(TokenEvent::Token(token));
        let stops = !self.sampling.ignore_eos && self.sampling.stop_token_ids.contains(&id);
        if stops {
            self.finish(FinishReason::Stop);
        } else if self.generated() >= self.sampling.max_tokens {
            self.finish(FinishReason::Length);
        }
    }

    pub(super) fn finish(&mut self, reason: FinishReason) {
        let usage = Usage {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: 0,
            completion_tokens: self.generated(),
        };
        self.permit = None;
        self.tell(TokenEvent::Finished { reason, usage });
    }

    pub(super) fn fail(&mut self, error: EngineError) {
        self.permit = None;
        self.tell(TokenEvent::Failed(error));
    }

    /// Room was checked before the iteration, so only a reader that went away refuses; the next
    /// iteration sees that.
    fn tell(&self, event: TokenEvent) {
        let _ = self.events.try_send(event);
    }
}
