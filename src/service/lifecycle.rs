//! Serving, draining, ending: the one thing about the process that changes while it answers.

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

/// The phase of the process.
#[derive(Debug)]
pub struct Lifecycle {
    phase: watch::Sender<Phase>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Serving),
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
}
