//! A training job as its TOML file describes it: read strictly, every range checked with a reason.

mod dpo;
mod mo_odpo;
mod parts;
mod reward_model;
mod supervised;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use dpo::{AnchorTerm, DpoJob, PreferenceData};
pub use mo_odpo::{
    ConditioningSection, Guards, MoOdpoJob, NormalizationSettings, ObjectiveSection, PromptData,
    RolloutSettings, TermSettings,
};
pub use parts::{
    LoraSection, OptimizerSettings, PolicySettings, SaveDtype, ScheduleKind, TrainWhat,
};
pub use reward_model::{LengthPenalty, PairData, RewardModelJob, SplitHalf};
pub use supervised::{
    DEFAULT_MAX_TOKENS, StartFrom, SupervisedJob, Tells, TextData, TextSource, WarmUp,
};

use super::TrainingError;

/// What a job trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Next-token training on texts and dialogues.
    Supervised,
    /// A policy by DPO on preference pairs that were gathered before.
    Dpo,
    /// A Bradley-Terry reward model on preference pairs.
    RewardModel,
    /// A steerable policy by multi-objective online DPO.
    MoOdpo,
}

/// What every job says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSection {
    /// What is trained.
    pub kind: JobKind,
    /// The model folder to start from; for `steersman train` also a model of the hub.
    pub model: PathBuf,
    /// The job's own folder: states, metrics and the result. A job that finds its state there
    /// goes on from it.
    pub output: PathBuf,
    /// Fixes every random choice of the job.
    #[serde(default)]
    pub seed: u64,
    /// Optimiser steps to take.
    pub steps: u64,
    /// Steps between two saved states.
    #[serde(default = "default_save_every")]
    pub save_every: u64,
}

fn default_save_every() -> u64 {
    50
}

impl JobSection {
    fn check(&self) -> Result<(), TrainingError> {
        at_least("job.steps", self.steps as usize, 1)?;
        at_least("job.save_every", self.save_every as usize, 1)
    }
}

/// A job file of one kind.
pub trait JobFile: Clone + PartialEq {
    /// What every job says about itself.
    fn section(&self) -> &JobSection;

    /// The same, to be changed.
    fn section_mut(&mut self) -> &mut JobSection;

    /// What it trains.
    fn policy(&self) -> &PolicySettings;

    /// The same, to be changed.
    fn policy_mut(&mut self) -> &mut PolicySettings;

    /// Whether two files describe the same run: where, how and how often it is saved may differ, and
    /// what is kept in memory.
    fn is_same_run(&self, other: &Self) -> bool {
        let mut other = other.clone();
        let (ours, theirs) = (self.section(), other.section_mut());
        theirs.output.clone_from(&ours.output);
        theirs.save_every = ours.save_every;
        other.policy_mut().save_dtype = self.policy().save_dtype;
        other.policy_mut().recompute_layers = self.policy().recompute_layers;
        *self == other
    }
}

macro_rules! job_files {
    ($($kind:ty),*) => {$(
        impl JobFile for $kind {
            fn section(&self) -> &JobSection {
                &self.job
            }

            fn section_mut(&mut self) -> &mut JobSection {
                &mut self.job
            }

            fn policy(&self) -> &PolicySettings {
                &self.policy
            }

            fn policy_mut(&mut self) -> &mut PolicySettings {
                &mut self.policy
            }
        }
    )*};
}

job_files!(SupervisedJob, DpoJob, RewardModelJob, MoOdpoJob);

/// A job file that was read and checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Job {
    /// Next-token training.
    Supervised(Box<SupervisedJob>),
    /// Offline preferences.
    Dpo(Box<DpoJob>),
    /// A reward model.
    RewardModel(Box<RewardModelJob>),
    /// A steerable policy.
    MoOdpo(Box<MoOdpoJob>),
}

#[derive(Deserialize)]
struct Probe {
    job: ProbeSection,
}

#[derive(Deserialize)]
struct ProbeSection {
    kind: JobKind,
}

impl Job {
    /// Reads a job file.
    pub fn load(path: &Path) -> Result<Self, TrainingError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| TrainingError::file(path, source))?;
        Self::parse(&text, path)
    }

    /// Reads a job from JSON of the same shape, `kind` included.
    pub fn from_json(value: Value) -> Result<Self, TrainingError> {
        let probe: Probe = from_json(value.clone())?;
        let job = match probe.job.kind {
            JobKind::Supervised => Self::Supervised(from_json(value)?),
            JobKind::Dpo => Self::Dpo(from_json(value)?),
            JobKind::RewardModel => Self::RewardModel(from_json(value)?),
            JobKind::MoOdpo => Self::MoOdpo(from_json(value)?),
        };
        job.check()?;
        Ok(job)
    }

    /// Reads a job from text; `path` is for messages only.
    pub fn parse(text: &str, path: &Path) -> Result<Self, TrainingError> {
        let probe: Probe = parse(text, path)?;
        let job = match probe.job.kind {
            JobKind::Supervised => Self::Supervised(parse(text, path)?),
            JobKind::Dpo => Self::Dpo(parse(text, path)?),
            JobKind::RewardModel => Self::RewardModel(parse(text, path)?),
            JobKind::MoOdpo => Self::MoOdpo(parse(text, path)?),
        };
        job.check()?;
        Ok(job)
    }

    /// What every job says about itself.
    pub fn section(&self) -> &JobSection {
        match self {
            Self::Supervised(job) => &job.job,
            Self::Dpo(job) => &job.job,
            Self::RewardModel(job) => &job.job,
            Self::MoOdpo(job) => &job.job,
        }
    }

    /// The same, to be changed.
    pub fn section_mut(&mut self) -> &mut JobSection {
        match self {
            Self::Supervised(job) => &mut job.job,
            Self::Dpo(job) => &mut job.job,
            Self::RewardModel(job) => &mut job.job,
            Self::MoOdpo(job) => &mut job.job,
        }
    }

    /// All settings, defaults filled in.
    pub fn settings(&self) -> Value {
        match self {
            Self::Supervised(job) => json!(job),
            Self::Dpo(job) => json!(job),
            Self::RewardModel(job) => json!(job),
            Self::MoOdpo(job) => json!(job),
        }
    }

    fn check(&self) -> Result<(), TrainingError> {
        match self {
            Self::Supervised(job) => job.check(),
            Self::Dpo(job) => job.check(),
            Self::RewardModel(job) => job.check(),
            Self::MoOdpo(job) => job.check(),
        }
    }
}

fn from_json<T: DeserializeOwned>(value: Value) -> Result<T, TrainingError> {
    serde_json::from_value(value)
        .map_err(|error| TrainingError::setting("the job", error.to_string()))
}

/// Reads TOML strictly, with line and column in errors.
pub fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, TrainingError> {
    toml::from_str(text).map_err(|source| TrainingError::JobFile {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// Refuses a number outside `low..=high`.
pub(crate) fn within(name: &str, value: f64, low: f64, high: f64) -> Result<(), TrainingError> {
    if value.is_finite() && (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(TrainingError::setting(
            name,
            format!("{value}, expected {low} to {high}"),
        ))
    }
}

/// Refuses a number that is not above 0.
pub(crate) fn above_zero(name: &str, value: f64) -> Result<(), TrainingError> {
    if value.is_finite() && value > 0.0 {
        Ok(())
    } else {
        Err(TrainingError::setting(
            name,
            format!("{value}, expected a number above 0"),
        ))
    }
}

/// Refuses a count that is too small.
pub(crate) fn at_least(name: &str, value: usize, low: usize) -> Result<(), TrainingError> {
    if value >= low {
        Ok(())
    } else {
        Err(TrainingError::setting(
            name,
            format!("{value}, expected at least {low}"),
        ))
    }
}

/// Refuses an empty list.
pub(crate) fn not_empty<T>(name: &str, list: &[T]) -> Result<(), TrainingError> {
    if list.is_empty() {
        Err(TrainingError::setting(
            name,
            "an empty list, expected at least one entry",
        ))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
