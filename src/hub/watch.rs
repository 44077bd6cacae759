//! How whoever waits for a model hears how it goes.

use std::sync::atomic::{AtomicU64, Ordering};

/// Is told how fetching goes; hears nothing where everything is here already.
pub trait FetchWatcher: Send + Sync {
    /// So many bytes more make the model whole; some of them may be here from an earlier run.
    fn planned(&self, bytes: u64);

    /// So many of the planned bytes are here by now.
    fn reached(&self, bytes: u64);

    /// Something worth a line.
    fn note(&self, line: &str);
}

/// Counts for a watcher what the fetches side by side have brought.
pub(super) struct Tally<'a> {
    watcher: &'a dyn FetchWatcher,
    here: AtomicU64,
}

impl<'a> Tally<'a> {
    pub(super) fn new(watcher: &'a dyn FetchWatcher) -> Self {
        Self {
            watcher,
            here: AtomicU64::new(0),
        }
    }

    pub(super) fn watcher(&self) -> &'a dyn FetchWatcher {
        self.watcher
    }

    pub(super) fn add(&self, bytes: u64) {
        let before = self.here.fetch_add(bytes, Ordering::Relaxed);
        self.watcher.reached(before + bytes);
    }

    /// What was counted is to be fetched again.
    pub(super) fn take_back(&self, bytes: u64) {
        let before = self.here.fetch_sub(bytes, Ordering::Relaxed);
        self.watcher.reached(before.saturating_sub(bytes));
    }
}
