//! Settings of an MO-ODPO job, with the defaults that the literature agrees on.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::parts::{check_conditioning, check_loss};
use super::{
    JobSection, OptimizerSettings, PolicySettings, above_zero, at_least, not_empty, within,
};
use crate::rewards::{Normalizer, RewardConfig};
use crate::steering::{ConditioningTemplate, Objective, ObjectiveSet, WeightDraw};
use crate::training::TrainingError;
use crate::training::loss::LossSettings;
use crate::training::pairs::PairSettings;

/// A job that trains a steerable policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoOdpoJob {
    /// The policy's name in its manifest; the output folder's name where none is given.
    pub name: Option<String>,
    /// What the policy is for, in a sentence.
    #[serde(default)]
    pub description: String,
    /// Kind, folders, seed, steps.
    pub job: JobSection,
    /// The prompts that are answered.
    pub data: PromptData,
    /// What is traded off, in the order that the policy will know.
    pub objectives: Vec<ObjectiveSection>,
    /// How the policy is told the weights.
    pub conditioning: ConditioningSection,
    /// What is trained.
    #[serde(default)]
    pub policy: PolicySettings,
    /// How it is optimised; the learning rate's default is 4e-5 for an adapter, 5e-7 for a model.
    pub optimizer: Option<OptimizerSettings>,
    /// How completions are drawn.
    #[serde(default)]
    pub rollout: RolloutSettings,
    /// How pairs are labelled.
    #[serde(default)]
    pub pairs: PairSettings,
    /// The preference loss.
    #[serde(default)]
    pub loss: LossSettings,
    /// Terms added to it.
    #[serde(default)]
    pub terms: TermSettings,
    /// How rewards of different scales are put on one.
    #[serde(default)]
    pub normalization: NormalizationSettings,
    /// When the job stops itself.
    #[serde(default)]
    pub guards: Guards,
}

/// The prompts of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptData {
    /// JSONL or JSONL.zst files of `{"id", "prompt": [messages]}` rows.
    pub prompts: Vec<PathBuf>,
    /// Longer prompts, conditioning included, are left out.
    #[serde(default = "default_prompt_tokens")]
    pub max_prompt_tokens: usize,
}

fn default_prompt_tokens() -> usize {
    384
}

/// An objective and where its reward comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveSection {
    /// `[a-z][a-z0-9_-]{0,31}`.
    pub name: String,
    /// One sentence for the people who will set its weight; its name where none is given.
    #[serde(default)]
    pub description: String,
    /// Weight where a request names none.
    #[serde(default = "one")]
    pub default_weight: f32,
    /// Lowest weight a request may name.
    #[serde(default)]
    pub min_weight: f32,
    /// Highest weight a request may name; none is unbounded.
    pub max_weight: Option<f32>,
    /// Its reward.
    pub reward: RewardConfig,
}

fn one() -> f32 {
    1.0
}

/// How the policy is told the weights, in the manifest's own words.
pub type ConditioningSection = ConditioningTemplate;

/// How completions are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutSettings {
    /// Prompts of a step; each is answered twice.
    pub prompts_per_step: usize,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// Sampling temperature. Log-probabilities are of the untempered distribution.
    pub temperature: f32,
    /// Nucleus mass; 1 is off.
    pub top_p: f32,
    /// Keep the k likeliest tokens; 0 is off.
    pub top_k: usize,
    /// Share of prompts that carry no conditioning and are judged under equal weights, so that
    /// the policy also knows what to do when it is told nothing.
    pub condition_dropout: f64,
    /// How each prompt's weights are drawn.
    pub weights: WeightDraw,
    /// Tokens of one training pass; more is faster and takes more memory.
    pub micro_batch_tokens: usize,
}

impl Default for RolloutSettings {
    fn default() -> Self {
        Self {
            prompts_per_step: 64,
            max_tokens: 128,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            condition_dropout: 0.1,
            weights: WeightDraw::default(),
            micro_batch_tokens: 2048,
        }
    }
}

/// Terms beside the preference loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TermSettings {
    /// Weight of the anchor term, which keeps chosen answers likely; 0 is off, try 0.1.
    pub anchor_weight: f64,
    /// Adds the MI-EPO term: an answer should be less likely under other weights than its own.
    pub mi_term: bool,
    /// Beta of the MI-EPO term.
    pub mi_beta: f64,
    /// Weight of the MI-EPO term.
    pub mi_weight: f64,
}

impl Default for TermSettings {
    fn default() -> Self {
        Self {
            anchor_weight: 0.0,
            mi_term: false,
            mi_beta: 0.01,
            mi_weight: 1.0,
        }
    }
}

/// How rewards of different scales are put on one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NormalizationSettings {
    /// Answers of the starting policy from which mean and deviation are taken, once.
    pub samples: usize,
    /// Statistics to use instead, one for each objective.
    pub fixed: Option<Vec<Normalizer>>,
}

impl Default for NormalizationSettings {
    fn default() -> Self {
        Self {
            samples: 1024,
            fixed: None,
        }
    }
}

/// When a job stops itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Guards {
    /// Stop when a sequence's mean KL to the reference is above this, in nats; none is no cap.
    pub kl_cap: Option<f32>,
    /// Stop after this many steps in a row whose loss or gradient was not finite.
    pub max_failures: u32,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            kl_cap: None,
            max_failures: 3,
        }
    }
}

impl MoOdpoJob {
    /// The objectives without their rewards.
    pub fn objective_set(&self) -> Result<ObjectiveSet, TrainingError> {
        let objectives = self.objectives.iter().map(|section| Objective {
            name: section.name.clone(),
            description: match section.description.as_str() {
                "" => section.name.clone(),
                told => told.to_owned(),
            },
            default_weight: section.default_weight,
            min_weight: section.min_weight,
            max_weight: section.max_weight,
        });
        ObjectiveSet::new(objectives.collect())
            .map_err(|error| TrainingError::setting("objectives", error.to_string()))
    }

    /// The optimiser's settings, defaults filled in.
    pub fn optimizer(&self) -> OptimizerSettings {
        self.optimizer.clone().unwrap_or_else(|| {
            OptimizerSettings::with_learning_rate(self.policy.default_learning_rate())
        })
    }

    pub(super) fn check(&self) -> Result<(), TrainingError> {
        self.job.check()?;
        not_empty("data.prompts", &self.data.prompts)?;
        at_least("data.max_prompt_tokens", self.data.max_prompt_tokens, 8)?;
        let objectives = self.objective_set()?;
        check_conditioning(&self.conditioning, &objectives)?;
        self.policy.check()?;
        self.optimizer().check()?;
        self.check_rollout()?;
        self.check_loss()?;
        at_least("normalization.samples", self.normalization.samples, 16)?;
        if let Some(fixed) = &self.normalization.fixed
            && fixed.len() != self.objectives.len()
        {
            let reason = format!(
                "{} entries for {} objectives",
                fixed.len(),
                self.objectives.len()
            );
            return Err(TrainingError::setting("normalization.fixed", reason));
        }
        at_least("guards.max_failures", self.guards.max_failures as usize, 1)?;
        self.guards
            .kl_cap
            .map_or(Ok(()), |cap| above_zero("guards.kl_cap", f64::from(cap)))
    }

    fn check_rollout(&self) -> Result<(), TrainingError> {
        let rollout = &self.rollout;
        at_least("rollout.prompts_per_step", rollout.prompts_per_step, 1)?;
        at_least("rollout.max_tokens", rollout.max_tokens, 1)?;
        at_least("rollout.micro_batch_tokens", rollout.micro_batch_tokens, 1)?;
        // At 0 both answers of a prompt would be the same and every pair a tie.
        within(
            "rollout.temperature",
            f64::from(rollout.temperature),
            0.05,
            2.0,
        )?;
        within("rollout.top_p", f64::from(rollout.top_p), 0.01, 1.0)?;
        within(
            "rollout.condition_dropout",
            rollout.condition_dropout,
            0.0,
            1.0,
        )?;
        within(
            "rollout.weights.alpha",
            f64::from(rollout.weights.alpha),
            0.3,
            100.0,
        )?;
        let shares = rollout.weights.share_one_hot + rollout.weights.share_equal;
        within(
            "rollout.weights.share_one_hot + share_equal",
            f64::from(shares),
            0.0,
            1.0,
        )
    }

    fn check_loss(&self) -> Result<(), TrainingError> {
        check_loss(&self.loss)?;
        within(
            "pairs.missing_eos_penalty",
            f64::from(self.pairs.missing_eos_penalty),
            0.0,
            100.0,
        )?;
        within(
            "pairs.tie_margin",
            f64::from(self.pairs.tie_margin),
            0.0,
            3.0,
        )?;
        within("pairs.relabel", f64::from(self.pairs.relabel), 0.0, 16.0)?;
        within("terms.anchor_weight", self.terms.anchor_weight, 0.0, 100.0)?;
        above_zero("terms.mi_beta", self.terms.mi_beta)?;
        within("terms.mi_weight", self.terms.mi_weight, 0.0, 100.0)
    }
}
