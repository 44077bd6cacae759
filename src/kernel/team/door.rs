//! Who is inside a pass: threads come in while it is open, and it ends when the last one has left.

use std::sync::atomic::{AtomicU64, Ordering};

/// Set while nobody may come in.
const CLOSED: u64 = 1 << 31;
/// Threads inside.
const INSIDE: u64 = CLOSED - 1;

/// The number of the pass in the upper half; below it, whether it is closed, and who is inside.
pub(super) struct Door(AtomicU64);

impl Default for Door {
    fn default() -> Self {
        Self(AtomicU64::new(CLOSED))
    }
}

impl Door {
    /// Lets threads in to this pass. Nobody is inside.
    pub(super) fn open(&self, pass: u32) {
        self.0.store(u64::from(pass) << 32, Ordering::Release);
    }

    /// Goes in, if this pass is still open.
    pub(super) fn enter(&self, pass: u32) -> bool {
        let step =
            |door: u64| (door >> 32 == u64::from(pass) && door & CLOSED == 0).then_some(door + 1);
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, step)
            .is_ok()
    }

    /// Goes out again.
    pub(super) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    /// Lets nobody in any more.
    pub(super) fn close(&self) {
        self.0.fetch_or(CLOSED, Ordering::AcqRel);
    }

    pub(super) fn is_anybody_inside(&self) -> bool {
        self.0.load(Ordering::Acquire) & INSIDE != 0
    }
}
