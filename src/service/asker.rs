//! Work on a blocking thread for somebody who may go away before it is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Kept by whoever waits; dropping it is going away.
#[derive(Debug, Default)]
pub(super) struct Asker(Arc<AtomicBool>);

/// Kept by the work, which a blocking thread cannot otherwise be stopped from doing.
#[derive(Debug, Clone)]
pub(super) struct Wanted(Arc<AtomicBool>);

impl Asker {
    /// What its work looks at.
    pub(super) fn wanted(&self) -> Wanted {
        Wanted(Arc::clone(&self.0))
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Wanted {
    /// Whether nobody waits any more.
    pub(super) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
