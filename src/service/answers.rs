//! The answers of one request, side by side: `n` to each of its prompts.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, AnswerEvent, AnswerToken};
use super::app::App;
use super::error::RequestError;
use super::generation::Steered;
use super::tokens::Speller;
use crate::types::{FinishReason, Usage};

/// Answers under way. Dropping them cancels their sequences within one iteration.
pub struct Answers {
    /// Who answers, and how it is steered.
    pub steered: Steered,
    /// The seed of the request; that of each prompt's first answer.
    pub seed: u64,
    /// What the request did otherwise than it may seem, in words.
    pub remarks: Vec<String>,
    speller: Speller,
    lifecycle: Arc<super::Lifecycle>,
    /// Prompt by prompt.
    choices: Vec<Answer>,
    per_prompt: usize,
    usages: Vec<Option<Usage>>,
    /// Whose turn it is to be asked first.
    turn: usize,
    /// How long the first token may take, and since when; `None` once it is there.
    waiting: Option<(Instant, Duration)>,
    held: VecDeque<(usize, AnswerEvent)>,
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
    /// The seed it was drawn with.
    pub seed: u64,
}

impl Answers {
    /// `per_prompt` answers to each prompt, prompt by prompt; at least one.
    pub(super) fn new(
        app: &App,
        steered: Steered,
        choices: Vec<Answer>,
        per_prompt: usize,
    ) -> Self {
        let source = steered.steering.as_ref().map(|used| used.source.as_str());
        let policy = steered.policy.id.clone();
        app.meters.answers.add((policy, source.unwrap_or("none")));
        Self {
            steered,
            seed: choices.first().map_or(0, Answer::seed),
            remarks: Vec::new(),
            speller: app.speller(),
            lifecycle: Arc::clone(&app.lifecycle),
            usages: vec![None; choices.len()],
            choices,
            per_prompt,
            turn: 0,
            waiting: Some((Instant::now(), app.queue_patience)),
            held: VecDeque::new(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.choices.len()
    }

    /// The seed of one of them: asked alone with it, it answers the same.
    pub fn seed_of(&self, index: usize) -> u64 {
        self.choices.get(index).map_or(self.seed, Answer::seed)
    }

    /// Spells their tokens.
    pub fn speller(&self) -> Speller {
        self.speller.clone()
    }

    /// Resolves when answers that still run have to be cut.
    pub fn ending(&self) -> impl Future<Output = ()> + Send + 'static {
        self.lifecycle.reached(super::Phase::Ending)
    }

    /// What comes next, and of which answer; `None` once all are whole, or after a failure. May be
    /// dropped and called again.
    pub async fn next(&mut self) -> Option<Result<(usize, AnswerEvent), RequestError>> {
        if let Some(held) = self.held.pop_front() {
            return Some(Ok(held));
        }
        let (count, turn) = (self.choices.len(), self.turn);
        let choices = &mut self.choices;
        let next = poll_fn(|context| {
            let mut waiting = false;
            for index in (turn..count).chain(0..turn) {
                let next = pin!(choices[index].next());
                match next.poll(context) {
                    Poll::Ready(Some(event)) => return Poll::Ready(Some((index, event))),
                    Poll::Ready(None) => {}
                    Poll::Pending => waiting = true,
                }
            }
            if waiting {
                Poll::Pending
            } else {
                Poll::Ready(None)
            }
        });
        let (index, event) = match self.waiting {
            None => next.await?,
            Some((since, patience)) => match timeout_at(since + patience, next).await {
                Ok(next) => next?,
                Err(_) => {
                    // their places in the queue go to others at once
                    self.choices.clear();
                    return Some(Err(RequestError::QueueTimeout {
                        waited_s: patience.as_secs(),
                    }));
                }
            },
        };
        self.waiting = None;
        self.turn = (index + 1) % count;
        match event {
            Ok(event) => {
                if let AnswerEvent::Finished { usage, .. } = &event {
                    self.usages[index] = Some(*usage);
                }
                Some(Ok((index, event)))
            }
            Err(error) => {
                // one request, one outcome
                self.choices.clear();
                self.turn = 0;
                Some(Err(error))
            }
        }
    }

    /// Waits until there is something to say, so that what fails at once fails before a reply
    /// is committed. May be dropped half-way.
    ///
    /// # Errors
    /// The engine failed before the first token.
    pub async fn ready(&mut self) -> Result<(), RequestError> {
        if let Some(event) = self.next().await {
            let event = event?;
            self.held.push_front(event);
        }
        Ok(())
    }

    /// What all of them cost together, once all are whole. A prompt counts once, however many
    /// answers it got.
    pub fn usage(&self) -> Option<Usage> {
        let usages: Vec<Usage> = self.usages.iter().copied().collect::<Option<_>>()?;
        let mut total = Usage::default();
        for answers in usages.chunks(self.per_prompt) {
            let cached = answers.iter().map(|usage| usage.cached_tokens).min();
            total.cached_tokens += cached.unwrap_or(0);
            total.prompt_tokens += answers.first().map_or(0, |usage| usage.prompt_tokens);
            total.completion_tokens += answers.iter().map(|u| u.completion_tokens).sum::<usize>();
        }
        Some(total)
    }

    /// Reads all of them to their ends.
    ///
    /// # Errors
    /// The engine failed on the way.
    pub async fn collect(&mut self) -> Result<Vec<WholeAnswer>, RequestError> {
        let mut drafts = vec![(String::new(), Vec::new()); self.count()];
        let mut whole: Vec<Option<WholeAnswer>> = vec![None; self.count()];
        while let Some(event) = self.next().await {
            let (index, event) = event?;
            match event {
                AnswerEvent::Delta { text, tokens } => {
                    drafts[index].0.push_str(&text);
                    drafts[index].1.extend(tokens);
                }
                AnswerEvent::Finished { reason, usage } => {
                    let (text, tokens) = std::mem::take(&mut drafts[index]);
                    whole[index] = Some(WholeAnswer {
                        text,
                        tokens,
                        reason,
                        usage,
                        seed: self.seed_of(index),
                    });
                }
            }
        }
        let whole: Option<Vec<_>> = whole.into_iter().collect();
        whole.ok_or(RequestError::EngineStopped)
    }
}
