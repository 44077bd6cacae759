//! How many requests are inside the engine, and what it has done so far.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::event::LOOK;
use super::meters::{EngineMeters, Times};
use super::{EngineError, Progress};

/// A look at the engine from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Sequences that hold a cache.
    pub running: usize,
    /// Requests that wait for a place.
    pub waiting: usize,
    /// Prompt tokens of those that wait.
    pub waiting_tokens: usize,
    /// Blocks of the cache that sequences hold.
    pub blocks_used: usize,
    /// Blocks that no sequence holds, but whose content may be used again.
    pub blocks_cached: usize,
    /// All blocks of the cache.
    pub blocks_total: usize,
    /// Prompt tokens that were looked up in the cache so far.
    pub prefix_queries_tokens: u64,
    /// Prompt tokens that were found in the cache so far.
    pub prefix_hits_tokens: u64,
    /// Sequences that gave their blocks up for others and were computed again.
    pub preemptions: u64,
    /// Times that the engine had to be rebuilt after a fault.
    pub restarts: u64,
    /// Passes through the model so far, failed ones included.
    pub iterations: u64,
    /// Tokens generated so far, over all requests.
    pub tokens_generated: u64,
    /// When the last pass ended.
    pub last_iteration: Option<Instant>,
    /// When the loop last looked for work.
    pub last_turn: Option<Instant>,
    /// Whether it found none and rests until somebody wakes it.
    pub resting: bool,
    /// When the last token was generated: a live engine with work to do has a recent one.
    pub last_token: Option<Instant>,
}

/// Bounds of what may be inside.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Running and waiting requests together.
    pub(super) requests: usize,
    /// Prompt tokens that wait, unless they are the first to.
    pub(super) waiting_tokens: usize,
}

/// Counts requests in and out, and holds the published figures.
#[derive(Debug)]
pub(super) struct Gate {
    bounds: Bounds,
    state: Mutex<State>,
    left: Condvar,
    pub(super) meters: EngineMeters,
}

#[derive(Debug, Default)]
struct State {
    inside: usize,
    waiting_tokens: usize,
    stats: EngineStats,
}

/// A request's place in the engine, from submission to its last event.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Arc<Gate>,
    /// Its prompt tokens, as long as they count as waiting.
    waiting_tokens: usize,
    times: Times,
}

impl Gate {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            state: Mutex::default(),
            left: Condvar::new(),
            meters: EngineMeters::default(),
        }
    }

    /// Places for requests with so many prompt tokens each, if all of them fit.
    pub(super) fn try_enter(
        self: &Arc<Self>,
        prompt_tokens: &[usize],
    ) -> Result<Vec<Permit>, EngineError> {
        let mut state = self.lock();
        self.check(&state, prompt_tokens)?;
        Ok(self.admit(&mut state, prompt_tokens))
    }

    /// A place, as soon as one is free; `None` soon after `stop` says so. Blocks the thread.
    pub(super) fn enter(
        self: &Arc<Self>,
        prompt_tokens: usize,
        stop: &dyn Fn() -> bool,
    ) -> Option<Permit> {
        let mut state = self.lock();
        while self.check(&state, &[prompt_tokens]).is_err() {
            let waited = self.left.wait_timeout(state, LOOK);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if stop() {
                return None;
            }
        }
        self.admit(&mut state, &[prompt_tokens]).pop()
    }

    /// Whether one request more, however short, would be let in now.
    pub(super) fn has_room(&self) -> Result<(), EngineError> {
        self.check(&self.lock(), &[1])
    }

    fn check(&self, state: &State, prompt_tokens: &[usize]) -> Result<(), EngineError> {
        let Bounds {
            requests: capacity,
            waiting_tokens: limit,
        } = self.bounds;
        if prompt_tokens.len() > capacity.saturating_sub(state.inside) {
            return Err(EngineError::QueueFull { capacity });
        }
        let waiting = state.waiting_tokens;
        let asked: usize = prompt_tokens.iter().sum();
        // The first to wait is always let in: a long prompt must not be refused for ever.
        if waiting > 0 && waiting.saturating_add(asked) > limit {
            return Err(EngineError::QueuedTokensFull {
                waiting,
                asked,
                limit,
            });
        }
        Ok(())
    }

    fn admit(self: &Arc<Self>, state: &mut State, prompt_tokens: &[usize]) -> Vec<Permit> {
        state.inside += prompt_tokens.len();
        state.waiting_tokens += prompt_tokens.iter().sum::<usize>();
        let permit = |&waiting_tokens: &usize| Permit {
            gate: Arc::clone(self),
            waiting_tokens,
            times: Times::new(),
        };
        prompt_tokens.iter().map(permit).collect()
    }

    /// Lets the engine thread change the published figures.
    pub(super) fn publish(&self, change: impl FnOnce(&mut EngineStats)) {
        change(&mut self.lock().stats);
    }

    pub(super) fn stats(&self) -> EngineStats {
        let state = self.lock();
        // The engine publishes a little after places have changed hands.
        let running = state.stats.running.min(state.inside);
        EngineStats {
            running,
            waiting: state.inside - running,
            waiting_tokens: state.waiting_tokens,
            ..state.stats.clone()
        }
    }

    /// Locks even after a panic elsewhere: what is inside are counters, whole at every moment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// How far its request has come.
    pub(super) fn progress(&self) -> &Arc<Progress> {
        self.times.progress()
    }

    /// Its request draws a token.
    pub(super) fn token(&mut self) {
        self.times.token(&self.gate.meters);
    }

    /// Its request runs: its prompt, of so many tokens, does not wait any longer.
    pub(super) fn start(&mut self, prompt_tokens: usize) {
        self.times.start(prompt_tokens, &self.gate.meters);
        self.gate.lock().waiting_tokens -= std::mem::take(&mut self.waiting_tokens);
        self.gate.left.notify_all();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.inside -= 1;
        state.waiting_tokens -= self.waiting_tokens;
        drop(state);
        self.gate.left.notify_all();
    }
}
