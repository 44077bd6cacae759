//! How often a request that failed is made again, and after what pauses.

use std::time::Duration;

use super::client::CallError;
use super::watch::FetchWatcher;

/// How often, and with what pauses, a request is made again.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Before the first repetition; each further pause is twice as long.
    pub first_pause: Duration,
    /// Requests in a row that bring nothing, before it is given up.
    pub tries: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(500),
            tries: 6,
        }
    }
}

impl Patience {
    const LONGEST: Duration = Duration::from_secs(10);
    /// However long the other side asks to wait.
    const LONGEST_ASKED: Duration = Duration::from_secs(300);

    /// How long to wait after so many failures in a row, from 1 on.
    fn pause(&self, failures: u32) -> Duration {
        let doubled = 1_u32 << (failures - 1).min(10);
        self.first_pause.saturating_mul(doubled).min(Self::LONGEST)
    }
}

/// Failures in a row of one thing that is asked for.
pub(super) struct Tries {
    patience: Patience,
    failures: u32,
}

impl Tries {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            patience,
            failures: 0,
        }
    }

    /// Something came after all.
    pub(super) fn forget(&mut self) {
        self.failures = 0;
    }

    /// Waits before `what` is asked for again; the failure itself where that is of no use, or was
    /// tried often enough.
    pub(super) async fn after(
        &mut self,
        failure: CallError,
        what: &str,
        watcher: &dyn FetchWatcher,
    ) -> Result<(), CallError> {
        self.failures += 1;
        if !failure.may_pass() || self.failures >= self.patience.tries {
            return Err(failure);
        }
        let asked = failure.wait().unwrap_or_default();
        let pause = self.patience.pause(self.failures);
        let pause = pause.max(asked.min(Patience::LONGEST_ASKED));
        let seconds = pause.as_secs_f64();
        watcher.note(&format!("{what}: {failure}; again in {seconds:.1} s"));
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let patience = Patience::default();
        assert_eq!(patience.pause(1), patience.first_pause);
        assert_eq!(patience.pause(3), patience.first_pause * 4);
        assert_eq!(patience.pause(60), Patience::LONGEST);
    }
}
