//! What a running job tells: sentences, steps, states and checkpoints, each written under the
//! lease before the work goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

use super::lease::{Lease, now_ms};
use crate::store::{CheckpointRow, EventDraft, JobChange};

/// Pause before a write is tried again while the database does not answer.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Checkpoints that are looked through for those that may go.
const MOST_LISTED: u32 = 100;

/// A finished step.
#[derive(Debug, Clone)]
pub struct StepNews {
    /// Steps done.
    pub step: i64,
    /// Steps to do.
    pub total_steps: i64,
    /// Tokens trained on so far.
    pub trained_tokens: i64,
    /// A sentence.
    pub message: String,
    /// Its numbers, a JSON object.
    pub data: String,
}

/// A checkpoint that can be served.
#[derive(Debug, Clone)]
pub struct CheckpointNews {
    /// After which step.
    pub step: i64,
    /// Where it lies, below the data folder.
    pub folder: String,
    /// Its numbers, a JSON object.
    pub metrics: String,
    /// The id of what its files hold.
    pub content: Option<String>,
}

/// Writes what a job tells. Used on the work's own thread, which waits for each write: so a step
/// that was told is stored, and what is asked of the job is heard within a step.
pub struct JobProgress {
    lease: Arc<Lease>,
    runtime: Handle,
    /// The worker itself is about to end.
    closing: Arc<AtomicBool>,
}

impl JobProgress {
    pub(super) fn new(lease: Arc<Lease>, runtime: Handle, closing: Arc<AtomicBool>) -> Self {
        Self {
            lease,
            runtime,
            closing,
        }
    }

    /// Whether to save and stop.
    pub fn stop_requested(&self) -> bool {
        self.lease.stop_requested() || self.closing.load(Ordering::Relaxed)
    }

    /// Where the work may wait for something else.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The fencing token.
    pub fn attempt(&self) -> i64 {
        self.lease.attempt()
    }

    /// Tells a sentence; `level` is `info`, `warn` or `error`.
    pub fn note(&self, level: &'static str, message: impl Into<String>) {
        self.write(&JobChange::default(), &event(level, message.into(), None));
    }

    /// Tells a step.
    pub fn step(&self, news: StepNews) {
        let change = JobChange {
            step: Some(news.step),
            total_steps: Some(news.total_steps),
            trained_tokens: Some(news.trained_tokens),
            ..JobChange::default()
        };
        self.write(&change, &event("info", news.message, Some(news.data)));
    }

    /// Tells that a state was saved from which the job can go on.
    pub fn saved(&self, step: i64) {
        let change = JobChange {
            saved: true,
            ..JobChange::default()
        };
        let message = format!("the state after step {step} is saved");
        self.write(&change, &event("info", message, None));
    }

    /// Tells a checkpoint that is whole on disk.
    pub fn checkpoint(&self, news: CheckpointNews) {
        let step = news.step;
        let change = JobChange {
            checkpoint: Some(CheckpointRow {
                job: self.lease.fence.job.clone(),
                step,
                attempt: self.lease.fence.attempt,
                folder: news.folder,
                metrics: news.metrics,
                content: news.content,
                created_at: now_ms() / 1000,
            }),
            ..JobChange::default()
        };
        let message = format!("the checkpoint of step {step} is written");
        self.write(&change, &event("info", message, None));
    }

    /// The checkpoints that are listed, newest first; none where the store does not answer.
    pub fn checkpoints(&self) -> Vec<CheckpointRow> {
        let (store, job) = (&self.lease.store, &self.lease.fence.job);
        let listed = self
            .runtime
            .block_on(store.checkpoints(job, None, MOST_LISTED));
        listed.unwrap_or_default()
    }

    /// Takes a checkpoint off the list; only where this is true may its folder go.
    pub fn forget(&self, step: i64) -> bool {
        let lease = &self.lease;
        let forgotten = lease.store.forget_checkpoint(&lease.fence, step);
        self.runtime.block_on(forgotten).unwrap_or(false)
    }

    fn write(&self, change: &JobChange, event: &EventDraft) {
        let lease = &self.lease;
        while !lease.is_lost() {
            let write = lease.store.change_job(&lease.fence, change, event);
            match self.runtime.block_on(write) {
                Ok(written) => return lease.heed(&written),
                Err(error) => {
                    tracing::warn!(job = lease.fence.job, "an event was not written: {error}");
                    if lease.may_retry() {
                        std::thread::sleep(RETRY_AFTER);
                    }
                }
            }
        }
    }
}

pub(super) fn event(level: &'static str, message: String, data: Option<String>) -> EventDraft {
    EventDraft {
        level,
        kind: if data.is_some() { "metrics" } else { "message" },
        message,
        data,
        at: now_ms() / 1000,
    }
}
