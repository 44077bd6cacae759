//! An answer under way: token events in, text out, stop strings and incomplete characters held.
//!
//! Runs in the request's own task, so that the engine's thread never touches strings. Dropping an
//! answer cancels its sequence within one iteration.

use std::collections::VecDeque;
use std::sync::Arc;

use super::app::App;
use super::error::RequestError;
use super::generation::Steered;
use crate::engine::{EngineError, SampledToken, TokenEvent, TokenStream};
use crate::text::{Detokenizer, StopMatcher, StopOutcome, Tokenizer};
use crate::types::{FinishReason, SamplingParams, TokenId, Usage};

/// A token of an answer, as text, bytes and probability.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerToken {
    /// Its id.
    pub id: TokenId,
    /// Its log-probability under the model.
    pub logprob: f32,
    /// The likeliest tokens at its place; empty unless asked for.
    pub top: Vec<(TokenId, f32)>,
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
}

/// From tokens to text that is settled.
struct Reader {
    detokenizer: Detokenizer,
    matcher: StopMatcher,
}

/// An answer under way.
pub struct Answer {
    /// Who answers, and how it is steered.
    pub steered: Steered,
    /// The seed that the answer is drawn with.
    pub seed: u64,
    tokens: TokenStream,
    tokenizer: Arc<Tokenizer>,
    lifecycle: Arc<super::Lifecycle>,
    /// Gone once the answer is whole.
    reader: Option<Reader>,
    plan: Plan,
    generated: usize,
    pending: VecDeque<AnswerEvent>,
    ended: bool,
}

impl Answer {
    pub(super) fn new(app: &App, steered: Steered, tokens: TokenStream, plan: Plan) -> Self {
        let tokenizer = Arc::clone(app.encoder.tokenizer());
        Self {
            steered,
            seed: plan.sampling.seed,
            tokens,
            reader: Some(Reader {
                detokenizer: Detokenizer::new(Arc::clone(&tokenizer)),
                matcher: StopMatcher::new(plan.stop.clone()),
            }),
            tokenizer,
            lifecycle: Arc::clone(&app.lifecycle),
            plan,
            generated: 0,
            pending: VecDeque::new(),
            ended: false,
        }
    }

    /// A token's text, and its bytes where it is part of a character.
    pub fn spell(&self, id: TokenId) -> (String, Vec<u8>) {
        (
            self.tokenizer.token_text(id),
            self.tokenizer.token_bytes(id),
        )
    }

    /// Resolves when answers that still run have to be cut.
    pub fn ending(&self) -> impl Future<Output = ()> + Send + 'static {
        self.lifecycle.reached(super::Phase::Ending)
    }

    /// What comes next; `None` after the end or a failure. May be dropped and called again.
    pub async fn next(&mut self) -> Option<Result<AnswerEvent, RequestError>> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            match self.tokens.next().await {
                Some(TokenEvent::Token(token)) => self.absorb(token),
                Some(TokenEvent::Finished { reason, usage }) => self.finish(reason, usage),
                Some(TokenEvent::Failed(error)) => return Some(Err(self.fail(error))),
                None => return Some(Err(self.fail(EngineError::Stopped))),
            }
        }
    }

    /// Waits until there is something to say, so that what fails at once fails before a reply
    /// is committed. May be dropped half-way.
    ///
    /// # Errors
    /// The engine failed before the first token.
    pub async fn ready(&mut self) -> Result<(), RequestError> {
        match self.next().await {
            Some(Ok(event)) => {
                self.pending.push_front(event);
                Ok(())
            }
            Some(Err(error)) => Err(error),
            None => Ok(()),
        }
    }

    fn absorb(&mut self, token: SampledToken) {
        self.lifecycle.token_decoded();
        let index = self.generated;
        self.generated += 1;
        let ends = !self.plan.sampling.ignore_eos
            && self.plan.sampling.stop_token_ids.contains(&token.id)
            && index >= self.plan.sampling.min_tokens;
        let Some(reader) = &mut self.reader else {
            return;
        };
        // a stop token is one of the answer's tokens, but no part of its text
        let fresh = if ends {
            String::new()
        } else {
            reader.detokenizer.push(token.id)
        };
        let tokens = vec![AnswerToken {
            id: token.id,
            logprob: token.logprob,
            top: token.top,
        }];
        // as elsewhere, stop strings count only once `min_tokens` are there
        if self.generated < self.plan.sampling.min_tokens {
            self.pending.push_back(AnswerEvent::Delta {
                text: fresh,
                tokens,
            });
            return;
        }
        match reader.matcher.push(&fresh) {
            StopOutcome::Emit(text) => self.pending.push_back(AnswerEvent::Delta { text, tokens }),
            StopOutcome::Stopped(text) => {
                self.pending.push_back(AnswerEvent::Delta { text, tokens });
                self.end(FinishReason::Stop);
            }
        }
    }

    fn finish(&mut self, reason: FinishReason, usage: Usage) {
        let Some(Reader {
            detokenizer,
            mut matcher,
        }) = self.reader.take()
        else {
            return;
        };
        let (text, reason) = match matcher.push(&detokenizer.finish()) {
            StopOutcome::Emit(text) => (text + &matcher.finish(), reason),
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
        let usage = Usage {
            prompt_tokens: self.plan.prompt_tokens,
            cached_tokens: self.tokens.cached_tokens(),
            completion_tokens: self.generated,
        };
        self.pending
            .push_back(AnswerEvent::Finished { reason, usage });
        self.ended = true;
    }

    fn fail(&mut self, error: EngineError) -> RequestError {
        self.ended = true;
        self.pending.clear();
        error.into()
    }
}

/// An answer read to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct WholeAnswer {
    /// Its text.
    pub text: String,
    /// Its tokens, a final stop token included.
    pub tokens: Vec<AnswerToken>,
    /// Why it ended.
    pub reason: FinishReason,
    /// What it cost.
    pub usage: Usage,
}

impl Answer {
    /// Reads the answer to its end.
    ///
    /// # Errors
    /// The engine failed on the way.
    pub async fn collect(&mut self) -> Result<WholeAnswer, RequestError> {
        let mut whole = (String::new(), Vec::new());
        while let Some(event) = self.next().await {
            match event? {
                AnswerEvent::Delta { text, tokens } => {
                    whole.0.push_str(&text);
                    whole.1.extend(tokens);
                }
                AnswerEvent::Finished { reason, usage } => {
                    let (text, tokens) = whole;
                    return Ok(WholeAnswer {
                        text,
                        tokens,
                        reason,
                        usage,
                    });
                }
            }
        }
        Err(RequestError::EngineStopped)
    }
}
