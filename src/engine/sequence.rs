//! One request inside the engine: what it has said, what its rows hold, who listens.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::types::{FinishReason, SamplingParams, TokenConstraint, TokenId, TokenSet, Usage};

use super::blocks::Blocks;
use super::chain::ChainKey;
use super::gate::Permit;
use super::handle::Submission;
use super::logits::guide;
use super::row::Row;
use super::sampler::{self, Draw};
use super::scheduler::{Grant, Need, ROWS};
use super::{EngineError, Progress, SampledToken, StepSpan, TokenEvent};

/// Events that one iteration may tell: a token, and the end.
const EVENTS_PER_ITERATION: usize = 2;

/// A request, from its arrival at the engine thread to its last event.
pub(super) struct Sequence<A> {
    /// Its own row, and where it is guided the neutral one.
    rows: Vec<Row>,
    guidance_scale: f32,
    adapter: Option<Arc<A>>,
    sampling: SamplingParams,
    constraint: Option<Constraint>,
    caller: u64,
    /// Its place in order of admission, once it was admitted.
    age: Option<u64>,
    /// Whether it gave its blocks up; what it computes again is no hit of the cache.
    recomputes: bool,
    progress: Arc<Progress>,
    events: mpsc::Sender<TokenEvent>,
    /// Given back before the last event is told: who has heard it finds the place free.
    permit: Option<Permit>,
    span: tracing::Span,
}

/// A constraint in its present state, and room for what it allows.
struct Constraint {
    state: Box<dyn TokenConstraint>,
    allowed: TokenSet,
}

/// What a sequence needed of the cache and found there, in tokens.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lookup {
    pub(super) queried: usize,
    pub(super) hit: usize,
}

impl<A> Sequence<A> {
    /// A sequence of which nothing is computed. `identity` names the parameters that compute it.
    pub(super) fn new(submission: Submission<A>, identity: Option<u64>, vocab_size: usize) -> Self {
        let Submission {
            request,
            events,
            permit,
            span,
        } = submission;
        let root = identity.map(|identity| ChainKey::root(identity, request.cache_salt));
        let mut rows = vec![Row::new(request.prompt, root)];
        let guidance_scale = request.guidance.as_ref().map_or(1.0, |it| it.scale);
        rows.extend(request.guidance.map(|it| Row::new(it.prompt, root)));
        Self {
            rows,
            guidance_scale,
            adapter: request.adapter,
            sampling: request.sampling,
            constraint: request.constraint.map(|state| Constraint {
                state,
                allowed: TokenSet::new(vocab_size),
            }),
            caller: request.caller,
            age: None,
            recomputes: false,
            progress: Arc::clone(permit.progress()),
            events,
            permit: Some(permit),
            span,
        }
    }

    /// Whether it has told its last event, or nobody listens.
    pub(super) fn is_over(&self) -> bool {
        self.permit.is_none() || self.events.is_closed()
    }

    /// Tokens generated so far.
    fn generated(&self) -> usize {
        self.rows[0].tokens().len() - self.rows[0].prompt_tokens()
    }

    pub(super) fn wants_nothing(&self) -> bool {
        self.sampling.max_tokens == 0
    }

    /// Where what goes wrong with it is logged.
    pub(super) fn span(&self) -> &tracing::Span {
        &self.span
    }

    pub(super) fn caller(&self) -> u64 {
        self.caller
    }

    pub(super) fn age(&self) -> Option<u64> {
        self.age
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn adapter(&self) -> Option<&Arc<A>> {
        self.adapter.as_ref()
    }

    /// Whether its reader has room for what an iteration may tell.
    pub(super) fn has_room(&self) -> bool {
        self.events.capacity() >= EVENTS_PER_ITERATION
    }

    /// Available blocks that it takes to compute what it has.
    pub(super) fn blocks_missing(&mut self, blocks: &Blocks) -> usize {
        self.rows
            .iter_mut()
            .map(|row| row.blocks_missing(blocks))
            .sum()
    }

    /// Takes its place among the running: its prompt does not count as waiting any longer. Returns
    /// how many tokens are looked up in the cache for the first time.
    pub(super) fn start(&mut self, age: u64) -> usize {
        self.age.get_or_insert(age);
        let prompt_tokens = self.rows[0].prompt_tokens();
        if let Some(permit) = &mut self.permit {
            permit.start(prompt_tokens);
        }
        match self.recomputes {
            true => 0,
            false => self.rows.iter().map(Row::prompt_tokens).sum(),
        }
    }

    /// Takes over blocks that others have computed. Returns how many prompt tokens they hold; none
    /// when it has computed them itself before.
    pub(super) fn adopt(&mut self, blocks: &mut Blocks) -> usize {
        let saved: Vec<usize> = self.rows.iter_mut().map(|row| row.adopt(blocks)).collect();
        if self.recomputes {
            return 0;
        }
        self.progress.found(saved[0]);
        saved.iter().sum()
    }

    /// What it could do now. Where an older sequence is about to compute the same block, which
    /// `claimed` tells, it waits for that; else it claims what it computes itself.
    pub(super) fn need(&mut self, claimed: &mut HashSet<ChainKey>) -> Need {
        let mut rows = [0; ROWS];
        for (left, row) in rows.iter_mut().zip(&self.rows) {
            *left = row.left();
        }
        let mut need = Need {
            rows,
            ready: self.has_room(),
        };
        if !need.ready || need.decodes() {
            return need;
        }
        need.ready = self.rows.iter_mut().all(|row| {
            row.next_shared_key()
                .is_none_or(|key| !claimed.contains(&key))
        });
        if need.ready {
            claimed.extend(self.rows.iter_mut().filter_map(Row::filling_key));
        }
        need
    }

    /// Sees to it that the granted tokens have blocks.
    pub(super) fn reserve(&mut self, grant: &Grant, blocks: &mut Blocks) -> bool {
        let mut rows = self.rows.iter_mut().zip(grant.rows);
        rows.all(|(row, tokens)| row.reserve(tokens, blocks))
    }

    /// The granted tokens as spans, one for each row that runs.
    pub(super) fn spans(&self, grant: &Grant) -> impl Iterator<Item = StepSpan<'_, A>> {
        let samples = self.draws_after(grant);
        let rows = self.rows.iter().zip(grant.rows);
        rows.filter(|(_, tokens)| *tokens > 0)
            .map(move |(row, tokens)| StepSpan {
                tokens: &row.tokens()[row.cached()..row.cached() + tokens],
                first_position: row.cached(),
                blocks: row.table(),
                adapter: self.adapter.as_ref(),
                samples,
            })
    }

    /// Whether a token is drawn once the granted tokens are computed.
    pub(super) fn draws_after(&self, grant: &Grant) -> bool {
        let mut rows = self.rows.iter().zip(grant.rows);
        rows.all(|(row, tokens)| row.left() == tokens)
    }

    /// Takes note that the granted tokens are computed.
    pub(super) fn advance(&mut self, grant: &Grant, blocks: &mut Blocks) {
        for (row, tokens) in self.rows.iter_mut().zip(grant.rows) {
            row.advance(tokens, blocks);
        }
    }

    /// Draws a token from the logits of its rows, one after the other.
    pub(super) fn draw(&mut self, logits: &mut [f32]) -> Result<SampledToken, EngineError> {
        let (own, neutral) = logits.split_at_mut(logits.len() / self.rows.len());
        if !neutral.is_empty() {
            guide(own, neutral, self.guidance_scale);
        }
        let allowed = match &mut self.constraint {
            None => None,
            Some(Constraint { state, allowed }) => {
                allowed.clear();
                state.allowed(allowed).map_err(EngineError::Constraint)?;
                Some(&*allowed)
            }
        };
        let draw = Draw {
            logits: own,
            sampling: &self.sampling,
            history: self.rows[0].tokens(),
            prompt_tokens: self.rows[0].prompt_tokens(),
            allowed,
        };
        let token = sampler::sample(&draw).map_err(EngineError::Sample)?;
        let ends = self.ends(token.id);
        if let Some(constraint) = self.constraint.as_mut().filter(|_| !ends) {
            let advanced = constraint.state.advance(token.id);
            advanced.map_err(EngineError::Constraint)?;
        }
        Ok(token)
    }

    fn ends(&self, token: TokenId) -> bool {
        !self.sampling.ignore_eos && self.sampling.stop_token_ids.contains(&token)
    }

    /// Tells the token that was drawn. Says whether it was the last one, and why.
    pub(super) fn accept(&mut self, token: SampledToken) -> Option<FinishReason> {
        let id = token.id;
        for row in &mut self.rows {
            row.push(id);
        }
        if let Some(permit) = &mut self.permit {
            permit.token();
        }
        self.tell(TokenEvent::Token(token));
        if self.ends(id) {
            Some(FinishReason::Stop)
        } else if self.generated() >= self.sampling.max_tokens {
            Some(FinishReason::Length)
        } else {
            None
        }
    }

    /// Gives its blocks back.
    pub(super) fn release(&mut self, blocks: &mut Blocks) {
        for row in &mut self.rows {
            row.release(blocks);
        }
    }

    /// Gives its blocks up for others; it goes on where it was once it has blocks again.
    pub(super) fn preempt(&mut self, blocks: &mut Blocks) {
        self.recomputes = true;
        self.release(blocks);
    }

    pub(super) fn finish(&mut self, reason: FinishReason) {
        let usage = Usage {
            prompt_tokens: self.rows[0].prompt_tokens(),
            cached_tokens: self.progress.cached_tokens(),
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
