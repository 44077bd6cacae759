//! Settings of a reward-model job.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{JobSection, OptimizerSettings, PolicySettings, TrainWhat, at_least, not_empty};
use crate::training::TrainingError;

/// A job that trains a Bradley-Terry reward model on a decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardModelJob {
    /// Kind, folders, seed, steps.
    pub job: JobSection,
    /// The pairs.
    pub data: PairData,
    /// What is trained; the score head always is.
    #[serde(default)]
    pub policy: PolicySettings,
    /// How it is optimised; the learning rate's default is 1e-4 for an adapter, 2e-5 for a model.
    pub optimizer: Option<OptimizerSettings>,
    /// Pairs of a step.
    #[serde(default = "default_pairs")]
    pub pairs_per_step: usize,
    /// Tokens of one training pass; more is faster and takes more memory.
    #[serde(default = "default_tokens")]
    pub micro_batch_tokens: usize,
    /// What is done about longer answers winning more often.
    #[serde(default)]
    pub length_penalty: LengthPenalty,
}

fn default_pairs() -> usize {
    64
}

fn default_tokens() -> usize {
    4096
}

/// Preference pairs and which of them are used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairData {
    /// JSONL or JSONL.zst files of `{"prompt", "chosen", "rejected", "objective"}` rows.
    pub train: Vec<PathBuf>,
    /// Pairs that accuracy is measured on; never trained on.
    pub test: Vec<PathBuf>,
    /// Only pairs of this objective; none is all.
    pub objective: Option<String>,
    /// Only one half of the training pairs, by hash of the prompt, so that a second model can be
    /// an outside judge that saw none of them.
    #[serde(default)]
    pub half: SplitHalf,
    /// Conversations with an answer that are longer are cut at their start.
    #[serde(default = "default_length")]
    pub max_tokens: usize,
}

fn default_length() -> usize {
    512
}

/// Which training pairs are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitHalf {
    /// All.
    #[default]
    All,
    /// Those whose prompt's hash is even.
    A,
    /// The others.
    B,
}

/// What is done about length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthPenalty {
    /// Nothing: the score is what the pairs say.
    #[default]
    None,
}

impl RewardModelJob {
    /// The optimiser's settings, defaults filled in.
    pub fn optimizer(&self) -> OptimizerSettings {
        let rate = match self.policy.train {
            TrainWhat::Lora => 1e-4,
            TrainWhat::Full => 2e-5,
        };
        self.optimizer
            .clone()
            .unwrap_or_else(|| OptimizerSettings::with_learning_rate(rate))
    }

    pub(super) fn check(&self) -> Result<(), TrainingError> {
        self.job.check()?;
        not_empty("data.train", &self.data.train)?;
        not_empty("data.test", &self.data.test)?;
        at_least("data.max_tokens", self.data.max_tokens, 8)?;
        at_least("pairs_per_step", self.pairs_per_step, 1)?;
        at_least("micro_batch_tokens", self.micro_batch_tokens, 1)?;
        self.policy.check()?;
        if self.policy.start_adapter.is_some() {
            let reason = "has no meaning here: a reward model starts from a whole model";
            return Err(TrainingError::setting("policy.start_adapter", reason));
        }
        self.optimizer().check()
    }
}
