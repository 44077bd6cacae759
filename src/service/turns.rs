//! Turns at heavy work on blocking threads: some at once, others wait, though not for ever.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::RequestError;

/// Pieces of one kind of work that go on at once.
const AT_ONCE: usize = 2;

/// Places for one kind of work.
#[derive(Debug)]
pub(super) struct Turns(Arc<Semaphore>);

/// A place. Its work holds it to its own end, whoever stopped waiting for that meanwhile.
pub(super) type Turn = OwnedSemaphorePermit;

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Turns {
    /// A place, as soon as one is free.
    ///
    /// # Errors
    /// None is free within `patience`.
    pub(super) async fn take(&self, patience: Duration) -> Result<Turn, RequestError> {
        let place = Arc::clone(&self.0).acquire_owned();
        match tokio::time::timeout(patience, place).await {
            Ok(Ok(turn)) => Ok(turn),
            // never closed, so it is the time that ran out
            Ok(Err(_)) | Err(_) => Err(RequestError::QueueTimeout {
                waited_s: patience.as_secs(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_too_long_for_a_place_is_told_so() {
        let turns = Turns::default();
        let taken = [
            turns.take(Duration::ZERO).await.unwrap(),
            turns.take(Duration::ZERO).await.unwrap(),
        ];
        let refused = turns.take(Duration::from_millis(1)).await;
        assert!(matches!(refused, Err(RequestError::QueueTimeout { .. })));
        drop(taken);
        drop(turns.take(Duration::ZERO).await.unwrap());
    }
}
