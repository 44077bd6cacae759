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
    /// Iterations so far, failed ones included.
    pub iterations: u64,
    /// Tokens generated so far, over all requests.
    pub tokens_generated: u64,
    /// When the last iteration ended.
    pub last_iteration: Option<Instant>,
    /// When the last token was generated: a live engine with work to do has a recent one.
    pub last_token: Option<Instant>,
}

/// Counts requests in and out, and holds the published figures.
#[derive(Debug)]
pub(super) struct Gate {
    capacity: usize,
    inside: Mutex<usize>,
    left: Condvar,
    figures: Mutex<EngineStats>,
}

/// A request's place in the engine, from submission to its last event.
#[derive(Debug)]
pub(super) struct Permit(Arc<Gate>);

impl Gate {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            inside: Mutex::new(0),
            left: Condvar::new(),
            figures: Mutex::new(EngineStats::default()),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// A place, if one is free.
    pub(super) fn try_enter(self: &Arc<Self>) -> Option<Permit> {
        let mut inside = lock(&self.inside);
        (*inside < self.capacity).then(|| {
            *inside += 1;
            Permit(Arc::clone(self))
        })
    }

    /// A place, as soon as one is free. Blocks the thread.
    pub(super) fn enter(self: &Arc<Self>) -> Permit {
        let mut inside = lock(&self.inside);
        while *inside >= self.capacity {
            inside = self
                .left
                .wait(inside)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *inside += 1;
        Permit(Arc::clone(self))
    }

    /// Lets the engine thread change the published figures.
    pub(super) fn publish(&self, change: impl FnOnce(&mut EngineStats)) {
        change(&mut lock(&self.figures));
    }

    pub(super) fn stats(&self) -> EngineStats {
        let inside = *lock(&self.inside);
        let mut stats = lock(&self.figures).clone();
        stats.running = stats.running.min(inside);
        stats.waiting = inside - stats.running;
        stats
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *lock(&self.0.inside) -= 1;
        self.0.left.notify_one();
    }
}

/// Locks even after a panic elsewhere: what is inside are counters, whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
