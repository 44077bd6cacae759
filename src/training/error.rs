//! What can go wrong in a training job, in words its owner can act on.

use std::path::PathBuf;

/// A job that cannot start, or that stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// A setting is outside what the job accepts.
    #[error("setting `{name}`: {reason}")]
    Setting {
        /// The setting, as the job file names it.
        name: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// A file or folder could not be read or written.
    #[error("cannot access {}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Another process trains in the job's folder.
    #[error(
        "{} is in use by another run; wait for its end, or name another output folder",
        path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The job file is not TOML of the expected shape.
    #[error("{} is not a valid job file", path.display())]
    JobFile {
        /// Which file.
        path: PathBuf,
        /// What the parser says, with line and column.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A row of a data file is not what its schema says.
    #[error("{}, line {line}: {reason}", path.display())]
    Row {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What was found and what was expected.
        reason: String,
    },
    /// A data set that the job cannot use as a whole.
    #[error("data: {0}")]
    Data(String),
    /// A saved state that does not fit the job, or was damaged.
    #[error("saved state {}: {reason}", path.display())]
    State {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Trainable tensors that the loss does not reach.
    #[error(
        "the self-check failed: {count} of {total} trainable tensors received no finite gradient, \
         first `{first}`; training would silently leave them as they are"
    )]
    SelfCheck {
        /// How many.
        count: usize,
        /// Of how many.
        total: usize,
        /// The first one's name.
        first: String,
    },
    /// Losses or gradients that are not finite, several times in a row.
    #[error(
        "stopped at step {step}: {what} was not finite in {failures} steps in a row; the last saved \
         state is intact, so resume with a lower learning rate"
    )]
    NotFinite {
        /// The step that failed last.
        step: u64,
        /// Loss or gradient.
        what: &'static str,
        /// How many steps in a row.
        failures: u32,
    },
    /// The policy went further from the reference than allowed.
    #[error(
        "stopped at step {step}: KL to the reference is {kl:.3} per sequence, above the cap of \
         {cap}; begin a new run with a higher beta or a lower learning rate"
    )]
    KlCap {
        /// The step.
        step: u64,
        /// Mean KL of a sequence, in nats.
        kl: f32,
        /// The cap.
        cap: f32,
    },
    /// The arithmetic failed.
    #[error("computation failed")]
    Compute(#[from] candle_core::Error),
    /// The model failed.
    #[error("model")]
    Model(#[from] crate::model::ModelError),
    /// The engine that draws completions failed.
    #[error("engine")]
    Engine(#[from] crate::engine::EngineError),
    /// A reward failed.
    #[error("reward")]
    Reward(#[from] crate::rewards::RewardError),
    /// A prompt could not be encoded.
    #[error("text")]
    Text(#[from] crate::text::TextError),
    /// A steering manifest could not be written.
    #[error("steering manifest")]
    Steering(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Tensors could not be written or read as safetensors.
    #[error("safetensors")]
    Safetensors(#[from] safetensors::SafeTensorError),
}

impl TrainingError {
    /// Whether a reward service is at fault: the job pauses, and goes on from its saved state once
    /// that is mended.
    pub fn is_service_failure(&self) -> bool {
        matches!(self, Self::Reward(error) if error.is_service_failure())
    }

    /// Whether the observer asked to stop in the middle of a step.
    pub(super) fn is_called_off(&self) -> bool {
        matches!(
            self,
            Self::Engine(crate::engine::EngineError::CalledOff)
                | Self::Reward(crate::rewards::RewardError::CalledOff)
        )
    }

    pub(crate) fn setting(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Setting {
            name: name.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn file(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::File {
            path: path.into(),
            source,
        }
    }
}
