//! What can go wrong between a question to a service and its answer.

use std::time::Duration;

/// Why a service gave no usable answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// No connection, or one that broke.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// No whole answer in time.
    #[error("gave no answer within {seconds} s")]
    TimedOut {
        /// How long was waited.
        seconds: f64,
    },
    /// It answered that it cannot or will not.
    #[error("answered with status {status}{said}")]
    Status {
        /// The status.
        status: u16,
        /// What it says beside it, as text; empty where nothing.
        said: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It points elsewhere.
    #[error(
        "answered with the redirect {status}, and none is followed; configure the final address"
    )]
    Redirected {
        /// The status.
        status: u16,
    },
    /// The answer's body is larger than any answer may be.
    #[error("answered with more than {limit} bytes")]
    TooLarge {
        /// Most bytes of an answer.
        limit: usize,
    },
    /// The body is not JSON; `NaN` and `Infinity` are none either.
    #[error("did not answer in JSON")]
    NotJson(#[source] serde_json::Error),
    /// JSON of another form than expected, another count, or a number that is not finite.
    #[error("answered otherwise than its shape says: {0}")]
    Shape(String),
    /// A chat model's text that holds no grade.
    #[error("gave no grade: {0}")]
    NoGrade(String),
    /// The client itself cannot work.
    #[error("cannot be asked: {0}")]
    Client(String),
}

impl ServiceError {
    /// Whether the same question may be answered a moment later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TimedOut { .. } | Self::NoGrade(_) => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }
}
