//! A worker's hold on a job: prolonged by heartbeats, lost for good when one is refused.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::store::{JobFence, JobWritten, Store};

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

/// A worker's hold on a job. Its writes carry the fencing token.
///
/// Workers on several hosts compare their clocks through it. Clocks that differ by more than the
/// lease make a job change hands too early or too late; the token keeps that harmless.
pub struct Lease {
    pub(super) store: Store,
    pub(super) fence: JobFence,
    length_ms: i64,
    /// When others may take the job up, milliseconds since 1970.
    until_ms: AtomicI64,
    /// Somebody asks the worker to stop.
    asked: AtomicBool,
    lost: AtomicBool,
}

impl Lease {
    /// The hold on a job that was just taken up.
    pub(super) fn new(store: Store, fence: JobFence, length: Duration, until_ms: i64) -> Self {
        Self {
            store,
            fence,
            length_ms: i64::try_from(length.as_millis()).unwrap_or(i64::MAX),
            until_ms: AtomicI64::new(until_ms),
            asked: AtomicBool::new(false),
            lost: AtomicBool::new(false),
        }
    }

    /// The fencing token.
    pub fn attempt(&self) -> i64 {
        self.fence.attempt
    }

    /// Whether another worker may have the job by now.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether the work shall stop: somebody asked for it, or the lease is lost.
    pub fn stop_requested(&self) -> bool {
        self.is_lost() || self.asked.load(Ordering::Relaxed)
    }

    /// Heeds the reply to a write.
    pub(super) fn heed(&self, written: &JobWritten) {
        match written {
            JobWritten::Done { wanted } => self.asked.store(wanted != "run", Ordering::Relaxed),
            JobWritten::Refused => self.lost.store(true, Ordering::Relaxed),
        }
    }

    /// After a write that failed: whether it is worth another try. It is not once the lease is
    /// over, as the job may be another worker's by then.
    pub(super) fn may_retry(&self) -> bool {
        if now_ms() > self.until_ms.load(Ordering::Relaxed) {
            self.lost.store(true, Ordering::Relaxed);
        }
        !self.is_lost()
    }

    /// Prolongs the lease three times in its length, until it is lost. Never returns otherwise.
    pub(super) async fn keep(&self) {
        let pause = u64::try_from(self.length_ms / 3).unwrap_or(1).max(1);
        while !self.is_lost() {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let until = now_ms().saturating_add(self.length_ms);
            match self.store.beat(&self.fence, until).await {
                Ok(written) => {
                    if matches!(written, JobWritten::Done { .. }) {
                        self.until_ms.store(until, Ordering::Relaxed);
                    }
                    self.heed(&written);
                }
                Err(error) => {
                    tracing::warn!(job = self.fence.job, "a heartbeat failed: {error}");
                    self.may_retry();
                }
            }
        }
    }
}
