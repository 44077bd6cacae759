//! Settings of a supervised job: pretraining, chat training, and the warm-up under random weights.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    JobSection, OptimizerSettings, PolicySettings, TrainWhat, at_least, not_empty, within,
};
use crate::steering::{ConditioningTemplate, Objective, ObjectiveSet, WeightDraw};
use crate::training::TrainingError;

/// A job that trains on texts and dialogues, token by token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SupervisedJob {
    /// Kind, folders, seed, steps.
    pub job: JobSection,
    /// Where a whole model starts: `checkpoint`, or `fresh` at random, which needs a
    /// `config.json` and a tokenizer only.
    #[serde(default)]
    pub start: StartFrom,
    /// The texts.
    pub data: TextData,
    /// What is trained.
    #[serde(default)]
    pub policy: PolicySettings,
    /// How it is optimised; the learning rate's default is 2e-4 for an adapter, 1e-3 for a fresh
    /// model, 1e-4 for a checkpoint.
    pub optimizer: Option<OptimizerSettings>,
    /// Tokens of a step, in whole sequences; the last step of an epoch may have fewer.
    #[serde(default = "default_batch")]
    pub batch_tokens: usize,
    /// Sequences of a step, however long they are; `batch_tokens` then says nothing.
    pub sequences_per_step: Option<usize>,
    /// Tokens of one training pass; more is faster and takes more memory.
    #[serde(default = "default_micro_batch")]
    pub micro_batch_tokens: usize,
    /// Steps between two measurements on the test texts.
    #[serde(default = "default_measure_every")]
    pub measure_every: u64,
    /// Ways to write random weights into dialogues' prompts, by name, so that the policy has met
    /// them before MO-ODPO gives them a meaning. A text source says which of them it carries.
    #[serde(default)]
    pub warm_up: BTreeMap<String, WarmUp>,
}

fn default_batch() -> usize {
    8192
}

fn default_micro_batch() -> usize {
    2048
}

fn default_measure_every() -> u64 {
    200
}

/// Where a whole model starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFrom {
    /// The folder's tensors.
    #[default]
    Checkpoint,
    /// Random tensors.
    Fresh,
}

/// Texts and how much of each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextData {
    /// The sets that are trained on, mixed.
    pub train: Vec<TextSource>,
    /// Texts that the loss is measured on; never trained on.
    #[serde(default)]
    pub test: Vec<PathBuf>,
    /// Longest sequence: plain text is cut into pieces, a longer dialogue loses its end.
    #[serde(default = "default_length")]
    pub max_tokens: usize,
}

/// Longest sequence where a job does not say.
pub const DEFAULT_MAX_TOKENS: usize = 512;

fn default_length() -> usize {
    DEFAULT_MAX_TOKENS
}

/// One set of texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSource {
    /// JSONL or JSONL.zst of `{"text"}`, `{"messages"}` or `{"prompt", "concise", "detailed"}`.
    pub path: PathBuf,
    /// How often the set is seen while the others are seen once.
    #[serde(default = "one")]
    pub repeat: usize,
    /// Only the first rows.
    pub max_rows: Option<usize>,
    /// Which of the job's warm-ups its dialogues carry; none carry no weights.
    pub warm_up: Option<String>,
}

fn one() -> usize {
    1
}

/// Random weights in dialogues' prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmUp {
    /// Names of the objectives, in order.
    pub objectives: Vec<String>,
    /// How the policy is told the weights.
    pub conditioning: ConditioningTemplate,
    /// How weights are drawn.
    #[serde(default)]
    pub weights: WeightDraw,
    /// How strongly weights are drawn, in hindsight, towards what a dialogue's `scores` say its
    /// answer is good at; 0 draws them without a look at the answer.
    #[serde(default)]
    pub lean: f32,
    /// Share of dialogues that carry weights.
    #[serde(default = "default_share")]
    pub share: f64,
    /// What those dialogues are told.
    #[serde(default, skip_serializing_if = "Tells::is_weights")]
    pub tells: Tells,
}

/// What dialogues that carry conditioning are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tells {
    /// Weights that are drawn for them.
    #[default]
    Weights,
    /// Their own `scores`, so that the policy can be asked for scores afterwards; the job then writes
    /// a `steering.json`.
    Scores,
}

impl Tells {
    fn is_weights(&self) -> bool {
        *self == Self::Weights
    }
}

fn default_share() -> f64 {
    0.9
}

impl WarmUp {
    /// The objectives, by name only.
    pub fn objective_set(&self) -> Result<ObjectiveSet, TrainingError> {
        let objectives = self.objectives.iter().map(|name| Objective {
            name: name.clone(),
            description: String::new(),
            default_weight: 1.0,
            min_weight: 0.0,
            max_weight: None,
        });
        ObjectiveSet::new(objectives.collect())
            .map_err(|error| TrainingError::setting("warm_up.objectives", error.to_string()))
    }
}

impl SupervisedJob {
    /// The optimiser's settings, defaults filled in.
    pub fn optimizer(&self) -> OptimizerSettings {
        let rate = match (self.policy.train, self.start) {
            (TrainWhat::Lora, _) => 2e-4,
            (TrainWhat::Full, StartFrom::Fresh) => 1e-3,
            (TrainWhat::Full, StartFrom::Checkpoint) => 1e-4,
        };
        self.optimizer
            .clone()
            .unwrap_or_else(|| OptimizerSettings::with_learning_rate(rate))
    }

    pub(super) fn check(&self) -> Result<(), TrainingError> {
        self.job.check()?;
        not_empty("data.train", &self.data.train)?;
        at_least("data.max_tokens", self.data.max_tokens, 8)?;
        for source in &self.data.train {
            at_least("data.train.repeat", source.repeat, 1)?;
            if let Some(name) = &source.warm_up
                && !self.warm_up.contains_key(name)
            {
                let known: Vec<_> = self.warm_up.keys().map(String::as_str).collect();
                let reason = format!("{name:?}, expected one of [{}]", known.join(", "));
                return Err(TrainingError::setting("data.train.warm_up", reason));
            }
        }
        at_least("batch_tokens", self.batch_tokens, 1)?;
        at_least(
            "sequences_per_step",
            self.sequences_per_step.unwrap_or(1),
            1,
        )?;
        at_least("micro_batch_tokens", self.micro_batch_tokens, 1)?;
        at_least("measure_every", self.measure_every as usize, 1)?;
        self.policy.check()?;
        self.optimizer().check()?;
        if self.policy.train == TrainWhat::Lora && self.start == StartFrom::Fresh {
            let reason = "\"fresh\" with an adapter; train = \"full\" makes a fresh model";
            return Err(TrainingError::setting("start", reason));
        }
        let told = |it: &&WarmUp| it.tells == Tells::Scores;
        if self.warm_up.values().filter(told).count() > 1 {
            let reason = "\"scores\" twice, and a policy has one way of being told";
            return Err(TrainingError::setting("warm_up.tells", reason));
        }
        for warm_up in self.warm_up.values() {
            within("warm_up.share", warm_up.share, 0.0, 1.0)?;
            within("warm_up.lean", f64::from(warm_up.lean), 0.0, 100.0)?;
            warm_up
                .conditioning
                .validate(&warm_up.objective_set()?)
                .map_err(|e| TrainingError::setting("warm_up.conditioning", e.to_string()))?;
            if warm_up.tells == Tells::Scores && warm_up.conditioning.target_rule().is_none() {
                let kind = warm_up.conditioning.kind.as_str();
                let reason = format!(
                    "\"scores\" beside a conditioning of kind {kind}, expected reward_tokens, \
                     score_tokens or attributes"
                );
                return Err(TrainingError::setting("warm_up.tells", reason));
            }
            if !warm_up.conditioning.kind.is_text() {
                let kind = warm_up.conditioning.kind.as_str();
                let reason = format!("kind is {kind}, which is told nothing in the prompt");
                return Err(TrainingError::setting("warm_up.conditioning", reason));
            }
        }
        Ok(())
    }
}
