//! What can go wrong between a completion and its reward.

use std::path::PathBuf;

use super::remote::ServiceError;
use crate::model::ModelError;
use crate::text::TextError;

/// Why a reward could not be built or did not score.
#[derive(Debug, thiserror::Error)]
pub enum RewardError {
    /// A setting is outside what the reward accepts.
    #[error("reward `{reward}`: {reason}")]
    Setting {
        /// The reward, by kind.
        reward: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// A regular expression does not compile.
    #[error("reward `{reward}`: pattern `{pattern}` is not a regular expression")]
    Pattern {
        /// The reward, by kind.
        reward: &'static str,
        /// The pattern as written.
        pattern: String,
        /// What the compiler says.
        #[source]
        source: Box<regex::Error>,
    },
    /// A file that a reward needs could not be read or written.
    #[error("{path}: cannot be read or written", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A file that a reward needs holds something else than JSON of the expected shape.
    #[error("{path}, line {line}: not the expected JSON", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// A row that should tell facts lacks a field or contradicts itself.
    #[error("row `{id}`: {reason}")]
    Row {
        /// The row's own id, or its place.
        id: String,
        /// What was expected.
        reason: String,
    },
    /// An exchange is about something the fact table does not know.
    #[error(
        "question `{question}` is not in the fact table, and its record names no known subject"
    )]
    UnknownQuestion {
        /// The last user turn.
        question: String,
    },
    /// A reward returned another number of values than it was given exchanges.
    #[error("reward `{reward}` returned {actual} values for {expected} exchanges")]
    Count {
        /// The reward's name.
        reward: String,
        /// Exchanges given.
        expected: usize,
        /// Values returned.
        actual: usize,
    },
    /// A reward returned NaN or an infinity.
    #[error("reward `{reward}` returned {value} for exchange {index}; expected a finite number")]
    NotFinite {
        /// The reward's name.
        reward: String,
        /// Which exchange, counted from 0.
        index: usize,
        /// What it returned.
        value: f32,
    },
    /// A service did not answer as it should, after all attempts that it has.
    #[error("the reward service `{reward}` failed, asked {attempts} times")]
    Service {
        /// The reward's name.
        reward: String,
        /// How often it was asked.
        attempts: u32,
        /// The last failure.
        #[source]
        source: ServiceError,
    },
    /// Nobody waits for the values any longer.
    #[error("the scoring was called off")]
    CalledOff,
    /// A suite without rewards.
    #[error("a reward suite needs at least one reward")]
    EmptySuite,
    /// Normaliser statistics that cannot be used.
    #[error("reward normaliser: {0}")]
    Normalizer(String),
    /// A classifier's checkpoint cannot be used, or its arithmetic failed.
    #[error("a reward's classifier cannot be used")]
    Model(#[from] ModelError),
    /// A classifier's chat template or tokenizer failed.
    #[error("a reward's conversation cannot be encoded")]
    Text(#[from] TextError),
    /// Text could not be turned into the classifier's tokens.
    #[error("reward `{reward}`: the text cannot be tokenised: {reason}")]
    Tokenize {
        /// The reward's name.
        reward: String,
        /// What the tokeniser says.
        reason: String,
    },
}

impl RewardError {
    /// Whether a service is at fault, so that the job can go on once that is mended.
    pub fn is_service_failure(&self) -> bool {
        matches!(self, Self::Service { .. })
    }

    pub(super) fn setting(reward: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Setting {
            reward: reward.into(),
            reason: reason.into(),
        }
    }
}
