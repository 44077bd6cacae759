//! Jobs that outlive a request and a crash: how they are made, read and listed.

use sqlx::FromRow;

use super::dialect::on_pool;
use super::{CheckpointRow, Store, StoreError};

/// A job as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct JobRow {
    /// Its id; later ones sort behind earlier ones.
    pub id: String,
    /// What kind of work it is.
    pub kind: String,
    /// All that its worker needs, JSON.
    pub spec: String,
    /// The file it works on.
    pub training_file: String,
    /// The file it measures itself on.
    pub validation_file: Option<String>,
    /// `queued`, `running`, `paused`, `succeeded`, `failed` or `cancelled`.
    pub state: String,
    /// What its worker is asked to do: `run`, `pause` or `cancel`.
    pub wanted: String,
    /// How often it was taken up: the fencing token of every write of its worker.
    pub attempt: i64,
    /// Attempts in a row that ended without a word and saved nothing.
    pub lost_in_row: i64,
    /// Who took it up last.
    pub lease_owner: Option<String>,
    /// Milliseconds since 1970 from which on another worker may take it up; 0 is no lease.
    pub lease_until: i64,
    /// Steps done.
    pub step: i64,
    /// Steps to do.
    pub total_steps: i64,
    /// Tokens trained on.
    pub trained_tokens: i64,
    /// How many events it has.
    pub events: i64,
    /// Why it paused or failed, JSON.
    pub error: Option<String>,
    /// What it made, JSON.
    pub result: Option<String>,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Seconds since 1970, when it was taken up first.
    pub started_at: Option<i64>,
    /// Seconds since 1970.
    pub finished_at: Option<i64>,
    /// Seconds since 1970, last change.
    pub updated_at: i64,
}

/// A new job.
#[derive(Debug, Clone)]
pub struct JobDraft {
    /// Its id.
    pub id: String,
    /// What kind of work it is.
    pub kind: String,
    /// All that its worker needs, JSON.
    pub spec: String,
    /// The file it works on.
    pub training_file: String,
    /// The file it measures itself on.
    pub validation_file: Option<String>,
    /// Steps to do.
    pub total_steps: i64,
}

/// Something that happened to a job. Never changed, never removed.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct EventRow {
    /// Whose.
    pub job: String,
    /// Its place among the job's events, from 1.
    pub seq: i64,
    /// The attempt in which it happened; 0 is before the first.
    pub attempt: i64,
    /// `info`, `warn` or `error`.
    pub level: String,
    /// `message` or `metrics`.
    pub kind: String,
    /// A sentence.
    pub message: String,
    /// Numbers, JSON.
    pub data: Option<String>,
    /// Seconds since 1970.
    pub created_at: i64,
}

/// An event that is yet to be added.
#[derive(Debug, Clone)]
pub struct EventDraft {
    /// `info`, `warn` or `error`.
    pub level: &'static str,
    /// `message` or `metrics`.
    pub kind: &'static str,
    /// A sentence.
    pub message: String,
    /// Numbers, JSON.
    pub data: Option<String>,
    /// Seconds since 1970, now.
    pub at: i64,
}

/// All columns of a job, in the order of [`JobRow`].
macro_rules! job_columns {
    () => {
        "id, kind, spec, training_file, validation_file, state, wanted, attempt, lost_in_row, \
         lease_owner, lease_until, step, total_steps, trained_tokens, events, error, result, created_at, \
         started_at, finished_at, updated_at"
    };
}

const FIND: &str = concat!("SELECT ", job_columns!(), " FROM jobs WHERE id = $1");
const LIST: &str = concat!(
    "SELECT ",
    job_columns!(),
    " FROM jobs WHERE id < $1 ORDER BY id DESC LIMIT $2"
);
const INSERT: &str = "INSERT INTO jobs (id, kind, spec, training_file, validation_file, state, \
    wanted, attempt, lost_in_row, lease_until, step, total_steps, trained_tokens, events, \
    created_at, updated_at) \
    VALUES ($1, $2, $3, $4, $5, 'queued', 'run', 0, 0, 0, 0, $6, 0, 1, $7, $7)";
/// A job that waits, or whose worker was not heard of for the time of its lease.
const CANDIDATE: &str = concat!(
    "SELECT ",
    job_columns!(),
    " FROM jobs WHERE state = 'queued' OR (state = 'running' AND lease_until < $1) \
     ORDER BY id LIMIT 1"
);
/// `attempt` tells whether somebody else was quicker: each take-up raises it.
const CLAIM: &str = concat!(
    "UPDATE jobs SET state = 'running', attempt = attempt + 1, lease_owner = $3, \
     lost_in_row = CASE WHEN state = 'running' THEN lost_in_row + 1 ELSE 0 END, \
     lease_until = $4, started_at = COALESCE(started_at, $5), updated_at = $5, \
     events = events + 1 WHERE id = $1 AND attempt = $2 \
     AND (state = 'queued' OR (state = 'running' AND lease_until < $6)) RETURNING ",
    job_columns!()
);
const EVENTS_BEFORE: &str = "SELECT job, seq, attempt, level, kind, message, data, created_at \
    FROM job_events WHERE job = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3";
const EVENTS_AFTER: &str = "SELECT job, seq, attempt, level, kind, message, data, created_at \
    FROM job_events WHERE job = $1 AND seq > $2 ORDER BY seq LIMIT $3";
const CHECKPOINTS: &str = "SELECT job, step, attempt, folder, metrics, content, created_at \
    FROM job_checkpoints WHERE job = $1 AND step < $2 ORDER BY step DESC LIMIT $3";
const OF_CONTENT: &str = "SELECT job FROM job_checkpoints WHERE content = $1 \
    ORDER BY created_at DESC, job LIMIT 1";
const OPEN: &str = "SELECT id FROM jobs WHERE state = 'queued' OR state = 'running' LIMIT 1";
pub(super) const INSERT_EVENT: &str = "INSERT INTO job_events (job, seq, attempt, level, kind, \
    message, data, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// Adds an event inside a transaction whose statement before it drew `seq`.
macro_rules! add_event {
    ($work:expr, $job:expr, $seq:expr, $attempt:expr, $event:expr) => {
        sqlx::query($crate::store::jobs::INSERT_EVENT)
            .bind($job)
            .bind($seq)
            .bind($attempt)
            .bind($event.level)
            .bind($event.kind)
            .bind(&$event.message)
            .bind(&$event.data)
            .bind($event.at)
            .execute(&mut *$work)
            .await?
    };
}
pub(super) use add_event;

/// Behind every id.
const LAST: &str = "~";

impl Store {
    /// Adds a job that waits for a worker, with its first event.
    ///
    /// # Errors
    /// The database fails.
    pub async fn add_job(&self, job: &JobDraft, event: &EventDraft) -> Result<(), StoreError> {
        on_pool!(self, pool => {
            let mut work = pool.begin().await?;
            sqlx::query(INSERT)
                .bind(&job.id)
                .bind(&job.kind)
                .bind(&job.spec)
                .bind(&job.training_file)
                .bind(&job.validation_file)
                .bind(job.total_steps)
                .bind(event.at)
                .execute(&mut *work)
                .await?;
            add_event!(work, &job.id, 1_i64, 0_i64, event);
            work.commit().await?;
        });
        Ok(())
    }

    /// The job of an id.
    ///
    /// # Errors
    /// The database fails.
    pub async fn job(&self, id: &str) -> Result<Option<JobRow>, StoreError> {
        let rows: Vec<JobRow> = on_pool!(self, pool => sqlx::query_as(FIND)
            .bind(id)
            .fetch_all(pool)
            .await)?;
        Ok(rows.into_iter().next())
    }

    /// Up to `limit` jobs, newest first, those older than `before`.
    ///
    /// # Errors
    /// The database fails.
    pub async fn jobs(&self, before: Option<&str>, limit: u32) -> Result<Vec<JobRow>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(LIST)
            .bind(before.unwrap_or(LAST))
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await)?)
    }

    /// Whether a job waits or runs.
    ///
    /// # Errors
    /// The database fails.
    pub async fn has_open_jobs(&self) -> Result<bool, StoreError> {
        let one: Vec<String> =
            on_pool!(self, pool => sqlx::query_scalar(OPEN).fetch_all(pool).await)?;
        Ok(!one.is_empty())
    }

    /// Takes up the oldest job that waits or whose lease is over, under a new attempt; `None`
    /// where there is none. `now_ms` and `until_ms` are milliseconds since 1970.
    ///
    /// # Errors
    /// The database fails.
    pub async fn claim_job(
        &self,
        owner: &str,
        now_ms: i64,
        until_ms: i64,
    ) -> Result<Option<JobRow>, StoreError> {
        loop {
            let found: Vec<JobRow> = on_pool!(self, pool => sqlx::query_as(CANDIDATE)
                .bind(now_ms)
                .fetch_all(pool)
                .await)?;
            let Some(candidate) = found.into_iter().next() else {
                return Ok(None);
            };
            let claimed: Option<JobRow> = on_pool!(self, pool => {
                let mut work = pool.begin().await?;
                let rows: Vec<JobRow> = sqlx::query_as(CLAIM)
                    .bind(&candidate.id)
                    .bind(candidate.attempt)
                    .bind(owner)
                    .bind(until_ms)
                    .bind(now_ms / 1000)
                    .bind(now_ms)
                    .fetch_all(&mut *work)
                    .await?;
                let row = rows.into_iter().next();
                if let Some(row) = &row {
                    let event = taken_up(&candidate, owner, now_ms);
                    add_event!(work, &row.id, row.events, row.attempt, event);
                }
                work.commit().await?;
                row
            });
            // none: another worker was quicker, and there may be a next one
            if claimed.is_some() {
                return Ok(claimed);
            }
        }
    }

    /// Up to `limit` events of a job, newest first, those before `before`.
    ///
    /// # Errors
    /// The database fails.
    pub async fn events_before(
        &self,
        job: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<EventRow>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(EVENTS_BEFORE)
            .bind(job)
            .bind(before.unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await)?)
    }

    /// The same, oldest first, those after `after`.
    ///
    /// # Errors
    /// The database fails.
    pub async fn events_after(
        &self,
        job: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<EventRow>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(EVENTS_AFTER)
            .bind(job)
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await)?)
    }

    /// Up to `limit` checkpoints of a job, newest first, those of a step before `before`.
    ///
    /// # Errors
    /// The database fails.
    pub async fn checkpoints(
        &self,
        job: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<CheckpointRow>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(CHECKPOINTS)
            .bind(job)
            .bind(before.unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await)?)
    }

    /// The job that wrote a checkpoint of this content, the latest where several did.
    ///
    /// # Errors
    /// The database fails.
    pub async fn job_of_content(&self, content: &str) -> Result<Option<String>, StoreError> {
        let found: Vec<String> = on_pool!(self, pool => sqlx::query_scalar(OF_CONTENT)
            .bind(content)
            .fetch_all(pool)
            .await)?;
        Ok(found.into_iter().next())
    }
}

fn taken_up(before: &JobRow, owner: &str, now_ms: i64) -> EventDraft {
    let lost = before.state == "running";
    let message = match (&before.lease_owner, lost) {
        (Some(gone), true) => {
            format!("{owner} takes the job over: nothing was heard of {gone}")
        }
        _ => format!("{owner} takes the job up"),
    };
    EventDraft {
        level: if lost { "warn" } else { "info" },
        kind: "message",
        message,
        data: None,
        at: now_ms / 1000,
    }
}
