//! Why a file or a job cannot be had or made.

use crate::registry::RegistryError;
use crate::service::RequestError;
use crate::store::{JobTurn, StoreError};

/// A request about files or jobs that cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum FineTuningError {
    /// A field is at fault, or the store does not answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// This server takes no jobs.
    #[error("this server takes no training jobs; start it with `--fine-tuning local` or `remote`")]
    Off,
    /// No such job.
    #[error("no fine-tuning job has the id `{0}`; GET /admin/v1/fine_tuning/jobs lists them")]
    NoJob(String),
    /// No such checkpoint of the job.
    #[error(
        "the job {job} has no checkpoint `{checkpoint}`; GET \
         /admin/v1/fine_tuning/jobs/{job}/checkpoints lists them"
    )]
    NoCheckpoint {
        /// Which job.
        job: String,
        /// What was asked for.
        checkpoint: String,
    },
    /// No such file.
    #[error("no file has the id `{0}`; GET /admin/v1/files lists them")]
    NoFile(String),
    /// The job's state does not allow it.
    #[error("the job {job} is {state}, so it cannot be {}", past(*.turn))]
    State {
        /// Which job.
        job: String,
        /// How it stands.
        state: String,
        /// What was asked.
        turn: JobTurn,
    },
    /// It is written from a job, which it cannot leave.
    #[error("the file {0} tells of a job and cannot be removed by itself")]
    ResultFile(String),
    /// A job that is not over needs the file.
    #[error("the file {file} is needed by the job {job}, which is not over; cancel the job first")]
    FileInUse {
        /// Which file.
        file: String,
        /// Which job.
        job: String,
    },
    /// Rows that cannot be used.
    #[error("the file cannot be used: {0}")]
    Rows(String),
    /// More bytes than a file may have.
    #[error("the file has more than the {0} bytes that a file may have")]
    TooLarge(u64),
    /// A file's content cannot be kept or had.
    #[error("the file's content cannot be kept or had")]
    Content(#[from] RegistryError),
    /// The file could not be written or read.
    #[error("the file cannot be kept: {what}")]
    Disk {
        /// What was done.
        what: &'static str,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
}

/// What a job is after a turn.
fn past(turn: JobTurn) -> &'static str {
    match turn {
        JobTurn::Cancel => "cancelled",
        JobTurn::Pause => "paused",
        JobTurn::Resume => "resumed",
    }
}

impl From<StoreError> for FineTuningError {
    fn from(error: StoreError) -> Self {
        Self::Request(error.into())
    }
}

impl FineTuningError {
    pub(super) fn invalid(param: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Request(RequestError::invalid(param, problem))
    }
}
