//! Statuses and codes of files and training jobs.

use axum::http::StatusCode;

use super::{ApiError, INVALID, not_found};
use crate::service::{FineTuningError, JobTurn, chain};

impl From<FineTuningError> for ApiError {
    fn from(error: FineTuningError) -> Self {
        let message = chain(&error);
        match error {
            FineTuningError::Request(error) => error.into(),
            FineTuningError::Off => not_found("fine_tuning_off", message),
            FineTuningError::NoJob(_) => not_found("job_not_found", message).with_param("id"),
            FineTuningError::NoCheckpoint { .. } => {
                not_found("checkpoint_not_found", message).with_param("checkpoint_id")
            }
            FineTuningError::NoFile(_) => not_found("file_not_found", message).with_param("id"),
            FineTuningError::State { turn, .. } => conflict(not_in_this_state(turn), message),
            FineTuningError::ResultFile(_) => conflict("file_of_job", message).with_param("id"),
            FineTuningError::FileInUse { .. } => conflict("file_in_use", message),
            FineTuningError::Rows(_) => Self::invalid("invalid_file", message).with_param("file"),
            FineTuningError::TooLarge(_) => {
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                Self::new(status, INVALID, "file_too_large", message).with_param("file")
            }
            FineTuningError::Content(_) => {
                tracing::error!("{message}");
                let message = "the file's content cannot be kept or had now; the log has the cause";
                Self::unavailable("storage_unavailable", message, 10)
            }
            FineTuningError::Disk { .. } => {
                // the cause stays in the log: it may tell where the data lie
                tracing::error!("{message}");
                let message = "the server cannot keep the file now: its disk refuses it";
                Self::unavailable("disk_unavailable", message, 30)
            }
        }
    }
}

/// What a job cannot be, as it stands.
fn not_in_this_state(turn: JobTurn) -> &'static str {
    match turn {
        JobTurn::Pause => "job_not_pausable",
        JobTurn::Resume => "job_not_resumable",
        JobTurn::Cancel => "job_not_cancellable",
    }
}

fn conflict(code: &'static str, message: String) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "conflict_error", code, message)
}
