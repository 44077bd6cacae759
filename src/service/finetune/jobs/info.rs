//! What is told of a job, of its events and of its checkpoints, read from their rows.

use serde_json::{Map, Value};

use crate::jobs::{JobId, JobStatus, JobTrouble};
use crate::service::finetune::results::id_of;
use crate::service::finetune::spec::JobSpec;
use crate::store::{CheckpointRow, EventRow, JobRow, StoreError};

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobInfo {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub status: JobStatus,
    /// What its worker is asked to do and has not done yet: `pause` or `cancel`.
    pub asked: Option<String>,
    /// The model it starts from.
    pub model: String,
    /// The name of what it made.
    pub fine_tuned_model: Option<String>,
    /// The folder of what it made, below the data folder.
    pub folder: Option<String>,
    /// Ids of the files that tell of it.
    pub result_files: Vec<String>,
    /// What kind of job.
    pub method: String,
    /// All hyperparameters in effect.
    pub hyperparameters: Map<String, Value>,
    /// The method's part of the request beside them.
    pub rest: Map<String, Value>,
    /// Part of the name of what it makes.
    pub suffix: Option<String>,
    /// Fixes every random choice.
    pub seed: u64,
    /// The owner's notes.
    pub metadata: Map<String, Value>,
    /// The file it works on.
    pub training_file: String,
    /// The file it measures itself on.
    pub validation_file: Option<String>,
    /// Steps done.
    pub step: i64,
    /// Steps to do.
    pub total_steps: i64,
    /// Tokens trained on.
    pub trained_tokens: i64,
    /// How often it was taken up.
    pub attempt: i64,
    /// Why it paused or failed.
    pub error: Option<JobTrouble>,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Seconds since 1970.
    pub started_at: Option<i64>,
    /// Seconds since 1970.
    pub finished_at: Option<i64>,
    /// Seconds since 1970; a guess from the pace so far.
    pub estimated_finish: Option<i64>,
}

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq)]
pub struct EventInfo {
    /// Its place among the job's events, from 1.
    pub seq: i64,
    /// `info`, `warn` or `error`.
    pub level: String,
    /// `message` or `metrics`.
    pub kind: String,
    /// A sentence.
    pub message: String,
    /// Numbers.
    pub data: Value,
    /// Seconds since 1970.
    pub created_at: i64,
}

/// A checkpoint of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointInfo {
    /// After which step.
    pub step: i64,
    /// Its name.
    pub name: String,
    /// The name of what its job makes.
    pub model: String,
    /// Where it lies, below the data folder.
    pub folder: String,
    /// Numbers at that step.
    pub metrics: Value,
    /// The id of what its files hold; `None` where it is no policy.
    pub content: Option<String>,
    /// Seconds since 1970.
    pub created_at: i64,
}

pub(super) fn spec_of(row: &JobRow) -> Result<JobSpec, StoreError> {
    serde_json::from_str(&row.spec)
        .map_err(|_| StoreError::Row(format!("the settings of the job {}", row.id)))
}

impl JobInfo {
    pub(super) fn of(row: &JobRow) -> Result<Self, StoreError> {
        let wrong = |what: &str| StoreError::Row(format!("{what} of the job {}", row.id));
        // one job that another version wrote must not hide all others
        let (spec, unreadable) = match spec_of(row) {
            Ok(spec) => (spec, None),
            Err(_) => (unknown_spec(), Some(unreadable())),
        };
        let status = JobStatus::parse(&row.state).ok_or_else(|| wrong("the state"))?;
        let error = row.error.as_deref().map(serde_json::from_str).transpose();
        let result: Value = match &row.result {
            Some(result) => serde_json::from_str(result).map_err(|_| wrong("the result"))?,
            None => Value::Null,
        };
        let text = |name: &str| result[name].as_str().map(str::to_owned);
        let running = status == JobStatus::Running;
        Ok(Self {
            id: row.id.clone(),
            status,
            asked: (running && row.wanted != "run").then(|| row.wanted.clone()),
            model: spec.model,
            fine_tuned_model: text("fine_tuned_model"),
            folder: text("folder"),
            result_files: match (status, JobId::parse(&row.id)) {
                (JobStatus::Succeeded, Some(id)) => vec![id_of(&id)],
                _ => Vec::new(),
            },
            method: spec.method,
            hyperparameters: spec.hyperparameters,
            rest: spec.rest,
            suffix: spec.suffix,
            seed: spec.seed,
            metadata: spec.metadata,
            training_file: row.training_file.clone(),
            validation_file: row.validation_file.clone(),
            step: row.step,
            total_steps: row.total_steps,
            trained_tokens: row.trained_tokens,
            attempt: row.attempt,
            error: error.map_err(|_| wrong("the error"))?.or(unreadable),
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            estimated_finish: if running { estimate(row) } else { None },
        })
    }
}

/// What stands for settings that cannot be read.
fn unknown_spec() -> JobSpec {
    JobSpec {
        method: "unknown".to_owned(),
        ..JobSpec::default()
    }
}

fn unreadable() -> JobTrouble {
    let message = "its settings cannot be read by this version";
    JobTrouble::new("invalid_setting", message)
}

/// When a running job will be done, if it goes on as it did since it was first taken up.
fn estimate(row: &JobRow) -> Option<i64> {
    let (started, done) = (row.started_at?, row.step);
    let spent = row.updated_at - started;
    (done > 0).then(|| row.updated_at + spent * (row.total_steps - done) / done)
}

impl EventInfo {
    pub(super) fn of(row: EventRow) -> Self {
        let data = row.data.as_deref().map(serde_json::from_str);
        Self {
            seq: row.seq,
            level: row.level,
            kind: row.kind,
            message: row.message,
            // what this program wrote is JSON
            data: data.and_then(Result::ok).unwrap_or_default(),
            created_at: row.created_at,
        }
    }
}

impl CheckpointInfo {
    pub(super) fn of(row: CheckpointRow, name: &str) -> Self {
        Self {
            name: format!("{name}:step-{}", row.step),
            model: name.to_owned(),
            step: row.step,
            folder: row.folder,
            content: row.content,
            metrics: serde_json::from_str(&row.metrics).unwrap_or_default(),
            created_at: row.created_at,
        }
    }
}
