//! Settings of a DPO job: a policy learns from preferences that were gathered before.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::parts::{check_conditioning, check_loss};
use super::{JobSection, OptimizerSettings, PolicySettings, at_least, not_empty, within};
use crate::steering::{ConditioningTemplate, Objective, ObjectiveSet};
use crate::training::TrainingError;
use crate::training::loss::LossSettings;

/// A job that trains on preference pairs from files (arXiv 2305.18290).
///
/// With objectives and a conditioning the pairs may say under which weights they hold, and the
/// policy that comes of it can be steered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DpoJob {
    /// The policy's name in its manifest; the output folder's name where none is given.
    pub name: Option<String>,
    /// What the policy is for, in a sentence.
    #[serde(default)]
    pub description: String,
    /// Kind, folders, seed, steps.
    pub job: JobSection,
    /// The pairs.
    pub data: PreferenceData,
    /// What the pairs' weights are about, in the order that the policy will know; none where the
    /// policy is not steered.
    #[serde(default)]
    pub objectives: Vec<Objective>,
    /// How the policy is told the weights; there where there are objectives.
    pub conditioning: Option<ConditioningTemplate>,
    /// What is trained.
    #[serde(default)]
    pub policy: PolicySettings,
    /// How it is optimised; the learning rate's default is 4e-5 for an adapter, 5e-7 for a model.
    pub optimizer: Option<OptimizerSettings>,
    /// Pairs of a step.
    #[serde(default = "default_pairs")]
    pub pairs_per_step: usize,
    /// Tokens of one training pass; more is faster and takes more memory.
    #[serde(default = "default_tokens")]
    pub micro_batch_tokens: usize,
    /// Steps between two measurements on the test pairs.
    #[serde(default = "default_measure_every")]
    pub measure_every: u64,
    /// The preference loss.
    #[serde(default)]
    pub loss: LossSettings,
    /// Terms added to it.
    #[serde(default)]
    pub terms: AnchorTerm,
}

fn default_pairs() -> usize {
    64
}

fn default_tokens() -> usize {
    2048
}

fn default_measure_every() -> u64 {
    50
}

/// What is added to the preference loss.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnchorTerm {
    /// Weight of the anchor term, which keeps chosen answers likely; 0 is off, try 0.1.
    pub anchor_weight: f64,
}

/// Preference pairs and which of them are used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreferenceData {
    /// JSONL or JSONL.zst files of pairs.
    pub train: Vec<PathBuf>,
    /// Pairs that loss and accuracy are measured on; never trained on.
    #[serde(default)]
    pub test: Vec<PathBuf>,
    /// Only pairs of this objective; none is all. Not together with a conditioning.
    pub objective: Option<String>,
    /// Pairs of which an answer with its prompt is longer are left out. They are not cut: an
    /// answer without its end would teach never to end.
    #[serde(default = "default_length")]
    pub max_tokens: usize,
}

fn default_length() -> usize {
    512
}

impl DpoJob {
    /// The objectives; an error where there are none.
    pub fn objective_set(&self) -> Result<ObjectiveSet, TrainingError> {
        ObjectiveSet::new(self.objectives.clone())
            .map_err(|error| TrainingError::setting("objectives", error.to_string()))
    }

    /// What the policy is steered by and how it is told so; `None` where it is not steered.
    pub fn steering(&self) -> Result<Option<(ObjectiveSet, &ConditioningTemplate)>, TrainingError> {
        match &self.conditioning {
            Some(template) => Ok(Some((self.objective_set()?, template))),
            None => Ok(None),
        }
    }

    /// The optimiser's settings, defaults filled in.
    pub fn optimizer(&self) -> OptimizerSettings {
        self.optimizer.clone().unwrap_or_else(|| {
            OptimizerSettings::with_learning_rate(self.policy.default_learning_rate())
        })
    }

    pub(super) fn check(&self) -> Result<(), TrainingError> {
        self.job.check()?;
        not_empty("data.train", &self.data.train)?;
        at_least("data.max_tokens", self.data.max_tokens, 8)?;
        self.check_steering()?;
        self.policy.check()?;
        self.optimizer().check()?;
        at_least("pairs_per_step", self.pairs_per_step, 1)?;
        at_least("micro_batch_tokens", self.micro_batch_tokens, 1)?;
        at_least("measure_every", self.measure_every as usize, 1)?;
        check_loss(&self.loss)?;
        within("terms.anchor_weight", self.terms.anchor_weight, 0.0, 100.0)
    }

    fn check_steering(&self) -> Result<(), TrainingError> {
        match (&self.conditioning, self.objectives.is_empty()) {
            (None, true) => Ok(()),
            (None, false) => {
                let reason = "is missing; with objectives it says how the policy is told weights";
                Err(TrainingError::setting("conditioning", reason))
            }
            (Some(_), _) if self.data.objective.is_some() => {
                let reason = "given together with a conditioning, under which a pair's objective \
                              is its weights; remove one of the two";
                Err(TrainingError::setting("data.objective", reason))
            }
            (Some(template), _) => check_conditioning(template, &self.objective_set()?),
        }
    }
}
