//! What can go wrong in an evaluation.

use std::path::PathBuf;

/// An evaluation that cannot be made or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A setting is outside what an evaluation accepts.
    #[error("{name}: {reason}")]
    Setting {
        /// Which one.
        name: &'static str,
        /// What was found and what was expected.
        reason: String,
    },
    /// A report could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The engine failed.
    #[error("engine")]
    Engine(#[from] crate::engine::EngineError),
    /// A reward failed.
    #[error("reward")]
    Reward(#[from] crate::rewards::RewardError),
    /// An adapter cannot be made for some weights.
    #[error("adapter")]
    Adapter(#[from] crate::model::ModelError),
    /// A prompt could not be encoded.
    #[error("text")]
    Text(#[from] crate::text::TextError),
    /// Weights could not be built.
    #[error("weights")]
    Weights(#[from] crate::steering::WeightError),
}
