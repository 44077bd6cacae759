//! What a policy's change that was refused becomes: most conflict with how things stand, so a
//! client must read again before it tries again.

use axum::http::StatusCode;

use super::{ApiError, chain, not_found, store_down};
use crate::service::{PromotionError, RegistryError};

impl From<PromotionError> for ApiError {
    fn from(error: PromotionError) -> Self {
        let message = chain(&error);
        match error {
            PromotionError::NoRegistry => Self::unavailable("store_unavailable", message, 60),
            PromotionError::Invalid { param, .. } => {
                Self::invalid("invalid_value", message).with_param(param)
            }
            PromotionError::UnknownPolicy(_) => {
                not_found("policy_not_found", message).with_param("policy")
            }
            PromotionError::UnknownCheckpoint { .. } => missing(message),
            PromotionError::VersionMismatch { .. } => {
                conflict("generation_mismatch", message).with_param("expected_version")
            }
            PromotionError::LiveAlready { .. } => {
                conflict("live_already", message).with_param("checkpoint")
            }
            PromotionError::NothingBefore { .. } => conflict("nothing_to_roll_back", message),
            PromotionError::Stays { .. } => {
                conflict("policy_not_removable", message).with_param("id")
            }
            PromotionError::Gate(_) => conflict("gate_refused", message).with_param("checkpoint"),
            PromotionError::Registry(source) => from_registry(&source, message),
            PromotionError::Unusable(_) | PromotionError::Silent(_) => unusable(message),
            PromotionError::Evaluation(_) => {
                Self::invalid("evaluation_failed", message).with_param("evaluation")
            }
        }
    }
}

fn from_registry(source: &RegistryError, message: String) -> ApiError {
    match source {
        RegistryError::BadId(_) => {
            ApiError::invalid("invalid_value", message).with_param("checkpoint")
        }
        RegistryError::Incomplete { .. } => unusable(message).with_param("folder"),
        RegistryError::NotThere { .. } => missing(message),
        RegistryError::Damaged { .. } => {
            conflict("checkpoint_damaged", message).with_param("checkpoint")
        }
        // no promotion reads an uploaded file
        RegistryError::File { .. }
        | RegistryError::Upload { .. }
        | RegistryError::UploadMissing { .. } => {
            tracing::error!("{message}");
            let message = "the data folder cannot be read or written now; the log has the cause";
            ApiError::unavailable("storage_unavailable", message, 10)
        }
        RegistryError::Storage(_) => {
            tracing::error!("{message}");
            let message = "the bucket of the checkpoints cannot be read or written now; the log \
                           has the cause";
            ApiError::unavailable("storage_unavailable", message, 10)
        }
        RegistryError::Store(_) => store_down(&message),
    }
}

fn missing(message: String) -> ApiError {
    not_found("checkpoint_not_found", message).with_param("checkpoint")
}

fn unusable(message: String) -> ApiError {
    ApiError::invalid("checkpoint_unusable", message).with_param("checkpoint")
}

fn conflict(code: &'static str, message: String) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "conflict_error", code, message)
}
