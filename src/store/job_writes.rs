//! What a worker writes about its job: each write carries the fencing token, and one with an old
//! token changes nothing.

use sqlx::FromRow;

use super::dialect::on_pool;
use super::jobs::add_event;
use super::{EventDraft, Store, StoreError};

/// Whose job, and in which attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFence {
    /// The job.
    pub job: String,
    /// The fencing token.
    pub attempt: i64,
}

/// A change of a job; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobChange {
    /// Any state but `running` ends the attempt and its lease.
    pub state: Option<&'static str>,
    /// Steps done.
    pub step: Option<i64>,
    /// Steps to do.
    pub total_steps: Option<i64>,
    /// Tokens trained on.
    pub trained_tokens: Option<i64>,
    /// Why it paused or failed, JSON.
    pub error: Option<String>,
    /// What it made, JSON.
    pub result: Option<String>,
    /// Seconds since 1970, where it is over.
    pub finished_at: Option<i64>,
    /// Whether a state is on disk from which the job can go on.
    pub saved: bool,
    /// A checkpoint that is whole on disk.
    pub checkpoint: Option<CheckpointRow>,
}

/// A checkpoint as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct CheckpointRow {
    /// Whose.
    pub job: String,
    /// After which step.
    pub step: i64,
    /// In which attempt.
    pub attempt: i64,
    /// Where it lies, below the data folder.
    pub folder: String,
    /// Numbers at that step, JSON.
    pub metrics: String,
    /// What its files hold, by the registry's id; `None` where it is no policy.
    pub content: Option<String>,
    /// Seconds since 1970.
    pub created_at: i64,
}

/// How a worker's write went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobWritten {
    /// It is on disk; `wanted` is what the worker is asked to do: `run`, `pause` or `cancel`.
    Done {
        /// `run`, `pause` or `cancel`.
        wanted: String,
    },
    /// The token is old, or the job was ended by somebody else: nothing was written.
    Refused,
}

const BEAT: &str = "UPDATE jobs SET lease_until = $3 \
    WHERE id = $1 AND attempt = $2 AND state = 'running' RETURNING wanted";
/// A job that pauses by itself while it is asked to end is cancelled, and then nothing is amiss.
const CHANGE: &str = "UPDATE jobs SET \
    state = CASE WHEN $3 = 'paused' AND wanted = 'cancel' THEN 'cancelled' \
        ELSE COALESCE($3, state) END, \
    finished_at = CASE WHEN $3 = 'paused' AND wanted = 'cancel' THEN $4 \
        ELSE COALESCE($5, finished_at) END, \
    wanted = CASE WHEN $3 IS NULL THEN wanted ELSE 'run' END, \
    lease_until = CASE WHEN $3 IS NULL THEN lease_until ELSE 0 END, \
    step = COALESCE($6, step), total_steps = COALESCE($7, total_steps), \
    trained_tokens = COALESCE($8, trained_tokens), \
    error = CASE WHEN $3 = 'paused' AND wanted = 'cancel' THEN error \
        ELSE COALESCE($9, error) END, \
    result = COALESCE($10, result), \
    lost_in_row = CASE WHEN $11 THEN 0 ELSE lost_in_row END, \
    updated_at = $4, events = events + 1 \
    WHERE id = $1 AND attempt = $2 AND state = 'running' \
    RETURNING events, wanted, state, step";
const STOP: &str = "UPDATE jobs SET \
    state = CASE wanted WHEN 'pause' THEN 'paused' WHEN 'cancel' THEN 'cancelled' \
        ELSE 'queued' END, \
    finished_at = CASE wanted WHEN 'cancel' THEN $3 ELSE finished_at END, \
    wanted = 'run', lease_until = 0, updated_at = $3, events = events + 1 \
    WHERE id = $1 AND attempt = $2 AND state = 'running' RETURNING events, state, step";
const INSERT_CHECKPOINT: &str = "INSERT INTO job_checkpoints (job, step, attempt, folder, \
    metrics, content, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (job, step) \
    DO UPDATE SET attempt = excluded.attempt, folder = excluded.folder, \
    metrics = excluded.metrics, content = excluded.content, created_at = excluded.created_at";
const DELETE_CHECKPOINT: &str = "DELETE FROM job_checkpoints WHERE job = $1 AND step = $2 \
    AND EXISTS (SELECT id FROM jobs WHERE id = $1 AND attempt = $3 AND state = 'running')";

impl Store {
    /// Prolongs a lease to `until_ms`, milliseconds since 1970.
    ///
    /// # Errors
    /// The database fails.
    pub async fn beat(&self, fence: &JobFence, until_ms: i64) -> Result<JobWritten, StoreError> {
        let wanted: Vec<String> = on_pool!(self, pool => sqlx::query_scalar(BEAT)
            .bind(&fence.job)
            .bind(fence.attempt)
            .bind(until_ms)
            .fetch_all(pool)
            .await)?;
        Ok(written(wanted.into_iter().next()))
    }

    /// Changes a job and adds the event that tells of it, both or neither. Where the job is cancelled
    /// instead of paused, that is what the event tells.
    ///
    /// # Errors
    /// The database fails.
    pub async fn change_job(
        &self,
        fence: &JobFence,
        change: &JobChange,
        event: &EventDraft,
    ) -> Result<JobWritten, StoreError> {
        let wanted: Option<String> = on_pool!(self, pool => {
            let mut work = pool.begin().await?;
            // the write comes first: it takes the row's lock, so the token is not stale
            let rows: Vec<(i64, String, String, i64)> = sqlx::query_as(CHANGE)
                .bind(&fence.job)
                .bind(fence.attempt)
                .bind(change.state)
                .bind(event.at)
                .bind(change.finished_at)
                .bind(change.step)
                .bind(change.total_steps)
                .bind(change.trained_tokens)
                .bind(&change.error)
                .bind(&change.result)
                .bind(change.saved)
                .fetch_all(&mut *work)
                .await?;
            match rows.into_iter().next() {
                None => {
                    work.rollback().await?;
                    None
                }
                Some((seq, wanted, state, step)) => {
                    let stopped = stopped(step, &state, event.at);
                    let event = match change.state == Some("paused") && state == "cancelled" {
                        true => &stopped,
                        false => event,
                    };
                    add_event!(work, &fence.job, seq, fence.attempt, event);
                    if let Some(checkpoint) = &change.checkpoint {
                        sqlx::query(INSERT_CHECKPOINT)
                            .bind(&fence.job)
                            .bind(checkpoint.step)
                            .bind(fence.attempt)
                            .bind(&checkpoint.folder)
                            .bind(&checkpoint.metrics)
                            .bind(&checkpoint.content)
                            .bind(checkpoint.created_at)
                            .execute(&mut *work)
                            .await?;
                    }
                    work.commit().await?;
                    Some(wanted)
                }
            }
        });
        Ok(written(wanted))
    }

    /// Ends an attempt that was asked to stop and has saved: the job is paused or cancelled as it
    /// was asked, and waits for the next worker where nobody asked. Returns its new state, `None`
    /// where the token is old.
    ///
    /// # Errors
    /// The database fails.
    pub async fn stop_job(&self, fence: &JobFence, at: i64) -> Result<Option<String>, StoreError> {
        on_pool!(self, pool => {
            let mut work = pool.begin().await?;
            let rows: Vec<(i64, String, i64)> = sqlx::query_as(STOP)
                .bind(&fence.job)
                .bind(fence.attempt)
                .bind(at)
                .fetch_all(&mut *work)
                .await?;
            let Some((seq, state, step)) = rows.into_iter().next() else {
                work.rollback().await?;
                return Ok(None);
            };
            let event = stopped(step, &state, at);
            add_event!(work, &fence.job, seq, fence.attempt, event);
            work.commit().await?;
            Ok(Some(state))
        })
    }

    /// Forgets a checkpoint whose folder is about to go; false where there is none or the token
    /// is old, and then the folder is not to go.
    ///
    /// # Errors
    /// The database fails.
    pub async fn forget_checkpoint(&self, fence: &JobFence, step: i64) -> Result<bool, StoreError> {
        let gone: u64 = on_pool!(self, pool => sqlx::query(DELETE_CHECKPOINT)
            .bind(&fence.job)
            .bind(step)
            .bind(fence.attempt)
            .execute(pool)
            .await
            .map(|done| done.rows_affected()))?;
        Ok(gone > 0)
    }
}

/// That a job ended as it was asked to.
fn stopped(step: i64, state: &str, at: i64) -> EventDraft {
    EventDraft {
        level: "info",
        kind: "message",
        message: format!("the job stopped after step {step} and is {state}"),
        data: None,
        at,
    }
}

fn written(wanted: Option<String>) -> JobWritten {
    match wanted {
        Some(wanted) => JobWritten::Done { wanted },
        None => JobWritten::Refused,
    }
}
