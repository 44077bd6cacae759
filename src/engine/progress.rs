//! How far a request has come, for its reader to look at.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// How far one request has come. Written by the engine's thread, read by anyone.
#[derive(Debug)]
pub struct Progress {
    asked: Instant,
    started: OnceLock<Instant>,
    first_token: OnceLock<Instant>,
    cached_tokens: AtomicUsize,
}

impl Progress {
    /// Of a request that is handed in now.
    pub(super) fn new() -> Self {
        Self {
            asked: Instant::now(),
            started: OnceLock::new(),
            first_token: OnceLock::new(),
            cached_tokens: AtomicUsize::new(0),
        }
    }

    /// When it was handed in.
    pub fn asked(&self) -> Instant {
        self.asked
    }

    /// When it first had a place among the running.
    pub fn started(&self) -> Option<Instant> {
        self.started.get().copied()
    }

    /// When its first token was drawn.
    pub fn first_token(&self) -> Option<Instant> {
        self.first_token.get().copied()
    }

    /// How many of the prompt's tokens came from the cache; settled before the first token.
    pub fn cached_tokens(&self) -> usize {
        self.cached_tokens.load(Ordering::Relaxed)
    }

    /// It has a place. Says whether it is the first time.
    pub(super) fn start(&self) -> bool {
        self.started.set(Instant::now()).is_ok()
    }

    /// Its first token is drawn.
    pub(super) fn speak(&self, now: Instant) {
        // only the first counts
        let _ = self.first_token.set(now);
    }

    /// So many more tokens came from the cache.
    pub(super) fn found(&self, tokens: usize) {
        self.cached_tokens.fetch_add(tokens, Ordering::Relaxed);
    }
}
