//! How many requests are inside the engine, and what it has done so far.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

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
    /// When the last token was generated: a live engine with work to do has a recent one.
    pub last_token: Option<Instant>,
}

/// Counts requests in and out, and holds the published figures.
#[derive(Debug)]
pub(super) struct Gate {
    capacity: usize,
    state: Mutex<State>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct State {
    inside: usize,
    stats: EngineStats,
}

/// A request's place in the engine, from submission to its last event.
#[derive(Debug)]
pub(super) struct Permit(Arc<Gate>);

impl Gate {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            state: Mutex::default(),
            left: Condvar::new(),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// So many places, if they are free.
    pub(super) fn try_enter(self: &Arc<Self>, places: usize) -> Option<Vec<Permit>> {
        let mut state = self.lock();
        (places <= self.capacity - state.inside).then(|| {
            state.inside += places;
            let permit = || Permit(Arc::clone(self));
            std::iter::repeat_with(permit).take(places).collect()
        })
    }

    /// A place, as soon as one is free. Blocks the thread.
    pub(super) fn enter(self: &Arc<Self>) -> Permit {
        let mut state = self.lock();
        while state.inside >= self.capacity {
            state = self
                .left
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.inside += 1;
        Permit(Arc::clone(self))
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
            ..state.stats.clone()
        }
    }

    /// Locks even after a panic elsewhere: what is inside are counters, whole at every moment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.lock().inside -= 1;
        self.0.left.notify_one();
    }
}
