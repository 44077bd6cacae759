//! Takes jobs from the store, one at a time, and sees each to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::error::JobTrouble;
use super::id::JobId;
use super::lease::{Lease, now_ms};
use super::progress::{JobProgress, event};
use crate::store::{JobChange, JobFence, JobRow, Store, StoreError};

/// Stack of the work's thread: a graph is walked recursively in training, and a stack that is too
/// small ends the process without a message.
const STACK_BYTES: usize = 256 << 20;
/// Attempts that may end without a word and without a saved state before a job is given up.
const MAX_LOST_IN_ROW: i64 = 25;

/// A job as its worker gets it.
#[derive(Debug, Clone)]
pub struct JobTask {
    /// Its id.
    pub id: JobId,
    /// What kind of work it is.
    pub kind: String,
    /// All that the work needs, JSON.
    pub spec: String,
    /// The fencing token: folders that carry it are this attempt's alone.
    pub attempt: i64,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// All is done; the result as JSON.
    Succeeded(String),
    /// It was asked to stop, and has saved.
    Stopped,
    /// It cannot go on now, and can be resumed.
    Paused(JobTrouble),
    /// It cannot go on.
    Failed(JobTrouble),
}

/// Work that can be done in the background.
pub trait Job: Send + Sync + 'static {
    /// Does it, from its last saved state. Called on a thread of its own, which it may block.
    fn run(&self, task: &JobTask, progress: &JobProgress) -> JobEnd;
}

/// How a runner works.
#[derive(Debug, Clone)]
pub struct RunnerSettings {
    /// Names this worker in events.
    pub owner: String,
    /// How long a job stays with a worker that is not heard of.
    pub lease: Duration,
    /// Pause before the store is asked again where there was nothing to do.
    pub poll: Duration,
}

/// Takes jobs from the store and does them, one at a time.
pub struct JobRunner {
    store: Store,
    job: Arc<dyn Job>,
    settings: RunnerSettings,
    closing: Arc<AtomicBool>,
}

/// What a runner does next.
enum Next {
    Look,
    Wait,
    End,
}

impl JobRunner {
    /// A runner that does `job`.
    pub fn new(store: Store, job: Arc<dyn Job>, settings: RunnerSettings) -> Self {
        Self {
            store,
            job,
            settings,
            closing: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Raised from outside, it ends the runner: what runs saves after its step and waits for the
    /// next worker.
    pub fn closing(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.closing)
    }

    /// Does what there is to do until it is closed; `while_open` ends it as soon as no job waits
    /// or runs anywhere. A store that does not answer is asked again.
    pub async fn run(&self, while_open: bool) {
        while !self.closing.load(Ordering::Relaxed) {
            match self.look(while_open).await {
                Ok(Next::Look) => {}
                Ok(Next::Wait) => tokio::time::sleep(self.settings.poll).await,
                Ok(Next::End) => return,
                Err(error) => {
                    tracing::warn!("the jobs cannot be read: {error}");
                    tokio::time::sleep(self.settings.poll).await;
                }
            }
        }
    }

    async fn look(&self, while_open: bool) -> Result<Next, StoreError> {
        if self.run_one().await? {
            return Ok(Next::Look);
        }
        match while_open && !self.store.has_open_jobs().await? {
            true => Ok(Next::End),
            false => Ok(Next::Wait),
        }
    }

    /// Takes one job up and sees the attempt to its end; false where there is none to do.
    ///
    /// # Errors
    /// The database fails before the work began.
    pub async fn run_one(&self) -> Result<bool, StoreError> {
        let now = now_ms();
        let length = i64::try_from(self.settings.lease.as_millis()).unwrap_or(i64::MAX);
        let until = now.saturating_add(length);
        let claimed = self
            .store
            .claim_job(&self.settings.owner, now, until)
            .await?;
        let Some(row) = claimed else {
            return Ok(false);
        };
        tracing::info!(job = row.id, attempt = row.attempt, "job taken up");
        let fence = JobFence {
            job: row.id.clone(),
            attempt: row.attempt,
        };
        let lease = Lease::new(self.store.clone(), fence, self.settings.lease, until);
        let lease = Arc::new(lease);
        let end = match (row.wanted == "run", JobId::parse(&row.id)) {
            (false, _) => JobEnd::Stopped,
            (true, None) => JobEnd::Failed(JobTrouble::new("internal", "its id is none of ours")),
            (true, Some(_)) if row.lost_in_row >= MAX_LOST_IN_ROW => {
                let message = format!(
                    "its worker ended {MAX_LOST_IN_ROW} times in a row without a word and without \
                     a saved step; look for memory that runs out, then create the job again"
                );
                JobEnd::Failed(JobTrouble::new("worker_died", message))
            }
            (true, Some(id)) => self.attempt(id, &row, &lease).await,
        };
        self.finish(&lease, end).await;
        Ok(true)
    }

    /// The work on its thread, the heartbeats beside it.
    async fn attempt(&self, id: JobId, row: &JobRow, lease: &Arc<Lease>) -> JobEnd {
        let task = JobTask {
            id,
            kind: row.kind.clone(),
            spec: row.spec.clone(),
            attempt: row.attempt,
        };
        let runtime = tokio::runtime::Handle::current();
        let progress = JobProgress::new(Arc::clone(lease), runtime, Arc::clone(&self.closing));
        let job = Arc::clone(&self.job);
        let (tell, told) = tokio::sync::oneshot::channel();
        let spawned = std::thread::Builder::new()
            .name("job".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                // nobody listens where the process ends
                let _ = tell.send(job.run(&task, &progress));
            });
        if let Err(error) = spawned {
            let message = format!("no thread could be started for it: {error}");
            return JobEnd::Paused(JobTrouble::new("no_thread", message));
        }
        let work = async {
            // an error means that the thread is gone without an answer
            told.await.unwrap_or_else(|_| {
                let message = "the program failed on this job (a panic; the worker's log has the \
                               cause)";
                JobEnd::Failed(JobTrouble::new("internal", message))
            })
        };
        let mut work = std::pin::pin!(work);
        tokio::select! {
            end = &mut work => end,
            // the lease is lost: the work hears of it after its step, and must not run beside the
            // next job
            () = lease.keep() => work.await,
        }
    }

    /// Writes how an attempt ended, while the lease holds.
    async fn finish(&self, lease: &Lease, end: JobEnd) {
        let job = lease.fence.job.as_str();
        loop {
            if lease.is_lost() {
                tracing::warn!(job, "the lease was lost; the job is another worker's");
                return;
            }
            match self.write_end(lease, &end).await {
                Ok(state) => {
                    tracing::info!(job, state, "attempt ended");
                    return;
                }
                Err(error) => {
                    tracing::warn!(job, "the end of an attempt was not written: {error}");
                    if lease.may_retry() {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            }
        }
    }

    async fn write_end(&self, lease: &Lease, end: &JobEnd) -> Result<String, StoreError> {
        let now = now_ms() / 1000;
        let (state, trouble) = match end {
            JobEnd::Stopped => {
                let state = self.store.stop_job(&lease.fence, now).await?;
                return Ok(state.unwrap_or_else(|| "another worker's".to_owned()));
            }
            JobEnd::Succeeded(_) => ("succeeded", None),
            JobEnd::Paused(trouble) => ("paused", Some(trouble)),
            JobEnd::Failed(trouble) => ("failed", Some(trouble)),
        };
        let change = JobChange {
            state: Some(state),
            error: trouble.map(JobTrouble::to_json),
            result: match end {
                JobEnd::Succeeded(result) => Some(result.clone()),
                _ => None,
            },
            finished_at: (state != "paused").then_some(now),
            ..JobChange::default()
        };
        let event = match trouble {
            None => event("info", "the job succeeded".to_owned(), None),
            Some(trouble) => {
                let level = if state == "paused" { "warn" } else { "error" };
                event(
                    level,
                    format!("the job is {state}: {}", trouble.message),
                    None,
                )
            }
        };
        let written = self.store.change_job(&lease.fence, &change, &event).await?;
        lease.heed(&written);
        Ok(state.to_owned())
    }
}
