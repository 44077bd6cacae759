//! Serving, draining, ending: the one thing about the process that changes while it answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// What the process is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Takes requests.
    Serving,
    /// Takes no new ones; those that run may finish.
    Draining,
    /// The time to finish is over: what still runs is cut, with an error event.
    Ending,
}

/// The phase, and when a token was last decoded.
#[derive(Debug)]
pub struct Lifecycle {
    phase: watch::Sender<Phase>,
    started: Instant,
    /// Milliseconds since `started`, plus one; 0 is never.
    last_token_ms: AtomicU64,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Serving),
            started: Instant::now(),
            last_token_ms: AtomicU64::new(0),
        }
    }
}

impl Lifecycle {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Goes on to a later phase; an earlier one is ignored.
    pub fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = to > *phase;
            *phase = (*phase).max(to);
            later
        });
    }

    /// Resolves once the phase has been reached.
    pub fn reached(&self, wanted: Phase) -> impl Future<Output = ()> + Send + 'static {
        let mut phases = self.phase.subscribe();
        async move {
            // an error means that the process's state is gone, which is the end too
            let _ = phases.wait_for(|phase| *phase >= wanted).await;
        }
    }

    /// Notes that a token was decoded now.
    pub fn token_decoded(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.last_token_ms.store(now + 1, Ordering::Relaxed);
    }

    /// Whether a token was decoded within the last `window`.
    pub fn decoded_within(&self, window: Duration) -> bool {
        let last = self.last_token_ms.load(Ordering::Relaxed);
        let now = self.started.elapsed();
        last > 0 && now.saturating_sub(Duration::from_millis(last - 1)) <= window
    }
}
