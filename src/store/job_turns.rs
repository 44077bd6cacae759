//! What people ask of a job: to cancel, pause or resume it.
//!
//! A job that nobody runs changes at once. One that runs is asked, and its worker answers within a
//! step; one whose worker is gone is treated as one that nobody runs.

use super::dialect::on_pool;
use super::jobs::add_event;
use super::{EventDraft, Store, StoreError};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobTurn {
    /// To end it for good.
    Cancel,
    /// To save and wait.
    Pause,
    /// To go on.
    Resume,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turned {
    /// The job has changed.
    Now,
    /// Its worker was asked.
    Asked,
    /// The job's state, in which there is nothing to do or this cannot be done.
    Not(String),
    /// There is no such job.
    NoJob,
}

struct Rule {
    to: &'static str,
    /// States in which nobody runs it.
    from: [&'static str; 2],
    /// What its worker is asked.
    wanted: &'static str,
    /// Whether a job whose worker is gone turns at once.
    from_lost: bool,
}

impl JobTurn {
    fn rule(self) -> Rule {
        match self {
            Self::Cancel => Rule {
                to: "cancelled",
                from: ["queued", "paused"],
                wanted: "cancel",
                from_lost: true,
            },
            Self::Pause => Rule {
                to: "paused",
                from: ["queued", "queued"],
                wanted: "pause",
                from_lost: true,
            },
            Self::Resume => Rule {
                to: "queued",
                from: ["paused", "paused"],
                wanted: "run",
                from_lost: false,
            },
        }
    }
}

const TURN: &str = "UPDATE jobs SET state = $2, wanted = 'run', error = NULL, finished_at = $3, \
    updated_at = $4, lease_until = 0, events = events + 1 WHERE id = $1 AND (state = $5 OR \
    state = $6 OR (state = 'running' AND lease_until < $7)) RETURNING events, attempt";
/// Who asked for a cancellation is not answered with a pause.
const ASK: &str = "UPDATE jobs SET wanted = $2, updated_at = $3, events = events + 1 \
    WHERE id = $1 AND state = 'running' AND wanted <> $2 AND wanted <> 'cancel' \
    RETURNING events, attempt";

impl Store {
    /// Turns a job, or asks its worker to, and adds the event that tells of it. `now_ms` is
    /// milliseconds since 1970.
    ///
    /// # Errors
    /// The database fails.
    pub async fn turn_job(
        &self,
        id: &str,
        turn: JobTurn,
        now_ms: i64,
        event: &EventDraft,
    ) -> Result<Turned, StoreError> {
        let rule = turn.rule();
        let finished = matches!(turn, JobTurn::Cancel).then_some(event.at);
        let expired = if rule.from_lost { now_ms } else { 0 };
        let turned: bool = on_pool!(self, pool => {
            let mut work = pool.begin().await?;
            let rows: Vec<(i64, i64)> = sqlx::query_as(TURN)
                .bind(id)
                .bind(rule.to)
                .bind(finished)
                .bind(event.at)
                .bind(rule.from[0])
                .bind(rule.from[1])
                .bind(expired)
                .fetch_all(&mut *work)
                .await?;
            if let Some((seq, attempt)) = rows.first() {
                add_event!(work, id, seq, attempt, event);
            }
            work.commit().await?;
            !rows.is_empty()
        });
        if turned {
            return Ok(Turned::Now);
        }
        let asked: bool = on_pool!(self, pool => {
            let mut work = pool.begin().await?;
            let rows: Vec<(i64, i64)> = sqlx::query_as(ASK)
                .bind(id)
                .bind(rule.wanted)
                .bind(event.at)
                .fetch_all(&mut *work)
                .await?;
            if let Some((seq, attempt)) = rows.first() {
                add_event!(work, id, seq, attempt, event);
            }
            work.commit().await?;
            !rows.is_empty()
        });
        if asked {
            return Ok(Turned::Asked);
        }
        Ok(match self.job(id).await? {
            Some(job) => Turned::Not(job.state),
            None => Turned::NoJob,
        })
    }
}
