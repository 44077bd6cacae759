//! One answer under way: token events in, text out, stop strings and incomplete characters held.
//!
//! Runs in the request's own task, so that the engine's thread never touches strings. Dropping an
//! answer cancels its sequence within one iteration.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::access::Access;
use super::app::App;
use super::error::RequestError;
use super::meters::{Meters, Outcome};
use super::under_way::Listed;
use crate::engine::{EngineError, Progress, SampledToken, TokenEvent, TokenStream};
use crate::telemetry::{AnswerTimes, Timeline};
use crate::text::{Detokenizer, StopMatcher, StopOutcome, Tokenizer};
use crate::types::{FinishReason, SamplingParams, TokenId, Usage};

/// A token of an answer, with its probability.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerToken {
    /// Its id.
    pub id: TokenId,
    /// Its log-probability under the model.
    pub logprob: f32,
    /// The likeliest tokens at its place; empty unless asked for.
    pub top: Vec<(TokenId, f32)>,
    /// Characters of the answer before the one that it is part of.
    pub offset: usize,
}

/// What an answer says next.
#[derive(Debug, Clone, PartialEq)]
pub enum AnswerEvent {
    /// Text that is settled, and the tokens that arrived with it. Either may be empty, not both.
    Delta {
        /// Text to append.
        text: String,
        /// Tokens to append.
        tokens: Vec<AnswerToken>,
    },
    /// The answer is whole; always last.
    Finished {
        /// Why it ended.
        reason: FinishReason,
        /// What it cost.
        usage: Usage,
    },
}

/// How one answer is read.
pub(super) struct Plan {
    pub(super) sampling: SamplingParams,
    pub(super) stop: Vec<String>,
    pub(super) prompt_tokens: usize,
    /// Whose tokens they are.
    pub(super) access: Access,
    /// The policy's id, where it has an adapter.
    pub(super) adapted: Option<Arc<str>>,
    /// Where its times are told.
    pub(super) timeline: Timeline,
}

/// An answer under way.
pub(super) struct Answer {
    /// Gone once the answer is whole, so that its sequence ends at once.
    tokens: Option<TokenStream>,
    meters: Arc<Meters>,
    progress: Arc<Progress>,
    listed: Option<Listed>,
    detokenizer: Detokenizer,
    matcher: StopMatcher,
    plan: Plan,
    generated: usize,
    characters: usize,
    pending: VecDeque<AnswerEvent>,
}

impl Answer {
    pub(super) fn new(app: &App, tokens: TokenStream, plan: Plan) -> Self {
        let tokenizer: &Arc<Tokenizer> = app.encoder.tokenizer();
        let progress = Arc::clone(tokens.progress());
        let list = &app.meters.under_way;
        let listed = plan.adapted.clone().map(|id| list.list(id, &progress));
        Self {
            tokens: Some(tokens),
            meters: Arc::clone(&app.meters),
            progress,
            listed,
            detokenizer: Detokenizer::new(Arc::clone(tokenizer)),
            matcher: StopMatcher::new(plan.stop.clone()),
            plan,
            generated: 0,
            characters: 0,
            pending: VecDeque::new(),
        }
    }

    /// The seed that the answer is drawn with.
    pub(super) fn seed(&self) -> u64 {
        self.plan.sampling.seed
    }

    /// What comes next; `None` after the end or a failure. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Option<Result<AnswerEvent, RequestError>> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(Ok(event));
            }
            match self.tokens.as_mut()?.next().await {
                Some(TokenEvent::Token(token)) => self.absorb(token),
                Some(TokenEvent::Finished { reason, usage }) => self.finish(reason, usage),
                Some(TokenEvent::Failed(error)) => return Some(Err(self.fail(error))),
                None => return Some(Err(self.fail(EngineError::Stopped))),
            }
        }
    }

    fn absorb(&mut self, token: SampledToken) {
        self.plan.access.charge_tokens(1);
        let index = self.generated;
        self.generated += 1;
        let sampling = &self.plan.sampling;
        let ends = !sampling.ignore_eos
            && sampling.stop_token_ids.contains(&token.id)
            && index >= sampling.min_tokens;
        let min_tokens = sampling.min_tokens;
        let tokens = vec![AnswerToken {
            id: token.id,
            logprob: token.logprob,
            top: token.top,
            offset: self.characters,
        }];
        // a stop token is one of the answer's tokens, but no part of its text
        let fresh = if ends {
            String::new()
        } else {
            self.detokenizer.push(token.id)
        };
        self.characters += fresh.chars().count();
        // as elsewhere, stop strings count only once `min_tokens` are there
        if self.generated < min_tokens {
            self.pending.push_back(AnswerEvent::Delta {
                text: fresh,
                tokens,
            });
            return;
        }
        match self.matcher.push(&fresh) {
            StopOutcome::Emit(text) => self.pending.push_back(AnswerEvent::Delta { text, tokens }),
            StopOutcome::Stopped(text) => {
                self.pending.push_back(AnswerEvent::Delta { text, tokens });
                self.end(FinishReason::Stop);
            }
        }
    }

    fn finish(&mut self, reason: FinishReason, usage: Usage) {
        let rest = self.detokenizer.finish();
        let (text, reason) = match self.matcher.push(&rest) {
            StopOutcome::Emit(text) => (text + &self.matcher.finish(), reason),
            StopOutcome::Stopped(text) => (text, FinishReason::Stop),
        };
        if !text.is_empty() {
            self.pending.push_back(AnswerEvent::Delta {
                text,
                tokens: Vec::new(),
            });
        }
        self.generated = usage.completion_tokens;
        self.end(reason);
    }

    fn end(&mut self, reason: FinishReason) {
        self.tokens = None;
        self.settle(Outcome::Finished(reason));
        let usage = Usage {
            prompt_tokens: self.plan.prompt_tokens,
            cached_tokens: self.progress.cached_tokens(),
            completion_tokens: self.generated,
        };
        self.pending
            .push_back(AnswerEvent::Finished { reason, usage });
    }

    fn fail(&mut self, error: EngineError) -> RequestError {
        self.tokens = None;
        self.settle(Outcome::Failed);
        self.pending.clear();
        error.into()
    }

    /// Tells how it ended, once.
    fn settle(&mut self, outcome: Outcome) {
        let asked = self.progress.asked();
        self.listed = None;
        self.meters.ended(outcome, asked.elapsed());
        self.plan.timeline.add(AnswerTimes {
            asked,
            started: self.progress.started(),
            first_token: self.progress.first_token(),
            ended: Instant::now(),
            prompt_tokens: self.plan.prompt_tokens,
            cached_tokens: self.progress.cached_tokens(),
            completion_tokens: self.generated,
            end: outcome.word(),
        });
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // whoever ended it took the stream away
        if self.tokens.is_some() {
            self.settle(Outcome::Abandoned);
        }
    }
}
