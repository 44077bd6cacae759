//! What the engine counts for metrics beside its published figures: times of sequences, sizes of
//! iterations. Measured where tokens are drawn, so a slow reader does not show in them.

use std::sync::Arc;
use std::time::Instant;

use super::Progress;
use crate::telemetry::{Counter, Histogram, names};

/// The instruments of one engine, over all its loops.
#[derive(Debug)]
pub struct EngineMeters {
    /// From submission to the first place among the running, in seconds.
    pub queue_time: Histogram,
    /// From submission to the first token, in seconds.
    pub first_token: Histogram,
    /// Between two tokens of a sequence, in seconds.
    pub inter_token: Histogram,
    /// Tokens computed in one iteration.
    pub iteration_tokens: Histogram,
    /// Prompt tokens of the sequences that began.
    pub prompt_tokens: Counter,
}

impl Default for EngineMeters {
    fn default() -> Self {
        Self {
            queue_time: Histogram::new(names::SECONDS),
            first_token: Histogram::new(names::SECONDS),
            inter_token: Histogram::new(names::SECONDS),
            iteration_tokens: Histogram::new(names::TOKENS),
            prompt_tokens: Counter::default(),
        }
    }
}

/// The times of one sequence.
#[derive(Debug)]
pub(super) struct Times {
    progress: Arc<Progress>,
    last_token: Option<Instant>,
}

impl Times {
    pub(super) fn new() -> Self {
        Self {
            progress: Arc::new(Progress::new()),
            last_token: None,
        }
    }

    /// The same for the request's reader.
    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// It has a place among the running. Only the first one counts.
    pub(super) fn start(&mut self, prompt_tokens: usize, meters: &EngineMeters) {
        if self.progress.start() {
            meters
                .queue_time
                .observe_time(self.progress.asked().elapsed());
            meters.prompt_tokens.add(prompt_tokens as u64);
        }
    }

    /// It has a token more.
    pub(super) fn token(&mut self, meters: &EngineMeters) {
        let now = Instant::now();
        match self.last_token.replace(now) {
            Some(last) => meters.inter_token.observe_time(now - last),
            None => {
                self.progress.speak(now);
                meters.first_token.observe_time(now - self.progress.asked());
            }
        }
    }
}
