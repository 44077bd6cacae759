//! When an answer was asked for, began, spoke first and ended: told by whoever makes answers, read
//! by whoever tells of the request.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The times of one answer, and what it cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerTimes {
    /// When it was handed to the engine.
    pub asked: Instant,
    /// When it first had a place among the running.
    pub started: Option<Instant>,
    /// When its first token was drawn.
    pub first_token: Option<Instant>,
    /// When it ended, in whatever way.
    pub ended: Instant,
    /// Tokens of its prompt.
    pub prompt_tokens: usize,
    /// Those of them that were found in the cache.
    pub cached_tokens: usize,
    /// Tokens that it came to.
    pub completion_tokens: usize,
    /// How it ended, a word of a closed list.
    pub end: &'static str,
}

/// The answers of one request that have ended, in the order of their ends. Clones share one list.
#[derive(Debug, Clone, Default)]
pub struct Timeline(Arc<Mutex<Vec<AnswerTimes>>>);

impl Timeline {
    /// One more has ended.
    pub fn add(&self, times: AnswerTimes) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(times);
    }

    /// Takes all that have ended so far.
    pub fn take(&self) -> Vec<AnswerTimes> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
