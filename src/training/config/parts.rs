//! Settings that several kinds of jobs share: what is trained, and how it is optimised.

use std::path::PathBuf;

use candle_core::DType;
use serde::{Deserialize, Serialize};

use super::{above_zero, at_least, not_empty, within};
use crate::steering::{ConditioningKind, ConditioningTemplate, ObjectiveSet};
use crate::training::TrainingError;
use crate::training::loss::{LossSettings, PreferenceLoss};
use crate::training::passes::Keep;

/// Which tensors change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainWhat {
    /// A low-rank adapter; the model stays as it is.
    #[default]
    Lora,
    /// Every tensor of the model.
    Full,
}

/// What is trained, and from where it starts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicySettings {
    /// Adapter or whole model.
    pub train: TrainWhat,
    /// An adapter to go on from, for example that of the warm-up. A frozen copy of it is then the
    /// reference; without one the reference is the model with the adapter off.
    pub start_adapter: Option<PathBuf>,
    /// The adapter's shape, where a new one is made.
    pub lora: LoraSection,
    /// Keep each layer's input only and compute the layer again for its gradient: less memory, about
    /// a third more time, the same result to the bit.
    pub recompute_layers: bool,
    /// In what numbers a finished whole model is written. Training itself is in f32, and adapters
    /// are always written in it: rounding them to bf16 moves logits visibly.
    pub save_dtype: SaveDtype,
}

/// Numbers of a written model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SaveDtype {
    /// As trained.
    #[default]
    F32,
    /// Half the size, rounded to 8 bits of mantissa.
    Bf16,
}

impl SaveDtype {
    /// The same, as the tensor library names it.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// Shape of a new adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraSection {
    /// Rank of each update; higher can change more and costs more memory.
    pub rank: usize,
    /// The update is scaled by alpha / rank.
    pub alpha: f64,
    /// Last parts of the adapted modules' paths.
    pub target_modules: Vec<String>,
}

impl Default for LoraSection {
    fn default() -> Self {
        let all = [
            "q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
            "gate_proj",
            "up_proj",
            "down_proj",
        ];
        Self {
            rank: 64,
            alpha: 128.0,
            target_modules: all.map(String::from).to_vec(),
        }
    }
}

/// How the learning rate moves after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Down to 0 along half a cosine.
    #[default]
    Cosine,
    /// Down to 0 along a line.
    Linear,
    /// Not at all.
    Constant,
}

/// AdamW with warm-up, a schedule and clipping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSettings {
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    #[serde(default = "defaults::weight_decay")]
    pub weight_decay: f64,
    /// Decay of the first moment.
    #[serde(default = "defaults::beta1")]
    pub beta1: f64,
    /// Decay of the second moment.
    #[serde(default = "defaults::beta2")]
    pub beta2: f64,
    /// Added to the root of the second moment.
    #[serde(default = "defaults::epsilon")]
    pub epsilon: f64,
    /// Gradients whose global norm is above this are scaled down to it.
    #[serde(default = "defaults::max_grad_norm")]
    pub max_grad_norm: f64,
    /// The schedule after the warm-up.
    #[serde(default)]
    pub schedule: ScheduleKind,
    /// Share of the steps over which the learning rate rises from 0.
    #[serde(default = "defaults::warmup")]
    pub warmup: f64,
}

mod defaults {
    pub(super) fn weight_decay() -> f64 {
        0.01
    }
    pub(super) fn beta1() -> f64 {
        0.9
    }
    pub(super) fn beta2() -> f64 {
        0.999
    }
    pub(super) fn epsilon() -> f64 {
        1e-8
    }
    pub(super) fn max_grad_norm() -> f64 {
        1.0
    }
    pub(super) fn warmup() -> f64 {
        0.1
    }
}

impl OptimizerSettings {
    /// The defaults with a learning rate.
    pub fn with_learning_rate(learning_rate: f64) -> Self {
        Self {
            learning_rate,
            weight_decay: defaults::weight_decay(),
            beta1: defaults::beta1(),
            beta2: defaults::beta2(),
            epsilon: defaults::epsilon(),
            max_grad_norm: defaults::max_grad_norm(),
            schedule: ScheduleKind::default(),
            warmup: defaults::warmup(),
        }
    }

    pub(super) fn check(&self) -> Result<(), TrainingError> {
        above_zero("optimizer.learning_rate", self.learning_rate)?;
        within("optimizer.learning_rate", self.learning_rate, 0.0, 1.0)?;
        within("optimizer.weight_decay", self.weight_decay, 0.0, 1.0)?;
        within("optimizer.beta1", self.beta1, 0.0, 0.9999)?;
        within("optimizer.beta2", self.beta2, 0.0, 0.99999)?;
        above_zero("optimizer.epsilon", self.epsilon)?;
        above_zero("optimizer.max_grad_norm", self.max_grad_norm)?;
        within("optimizer.warmup", self.warmup, 0.0, 1.0)
    }
}

impl PolicySettings {
    /// The learning rate that usually works: adapters bear a hundred times that of a whole model.
    pub fn default_learning_rate(&self) -> f64 {
        match self.train {
            TrainWhat::Lora => 4e-5,
            TrainWhat::Full => 5e-7,
        }
    }

    /// What forward passes keep for their way back.
    pub fn keep(&self) -> Keep {
        Keep::recomputing(self.recompute_layers)
    }

    pub(super) fn check(&self) -> Result<(), TrainingError> {
        if self.train == TrainWhat::Full && self.start_adapter.is_some() {
            return Err(TrainingError::setting(
                "policy.start_adapter",
                "given together with train = \"full\"; merge the adapter into the model first, or \
                 train a lora",
            ));
        }
        if self.train == TrainWhat::Lora && self.save_dtype != SaveDtype::F32 {
            return Err(TrainingError::setting(
                "policy.save_dtype",
                "\"bf16\" with an adapter, which is written in f32; remove it, or train = \"full\"",
            ));
        }
        at_least("policy.lora.rank", self.lora.rank, 1)?;
        above_zero("policy.lora.alpha", self.lora.alpha)?;
        not_empty("policy.lora.target_modules", &self.lora.target_modules)
    }
}

/// Refuses a loss whose numbers are out of range or have no effect.
pub(super) fn check_loss(loss: &LossSettings) -> Result<(), TrainingError> {
    above_zero("loss.beta", loss.beta)?;
    within("loss.label_smoothing", loss.label_smoothing, 0.0, 0.49)?;
    let smooths = matches!(
        loss.kind,
        PreferenceLoss::Sigmoid | PreferenceLoss::SigmoidNorm | PreferenceLoss::Robust
    );
    if loss.label_smoothing > 0.0 && !smooths {
        let reason = "has no effect on this loss kind; remove it or use sigmoid or robust";
        return Err(TrainingError::setting("loss.label_smoothing", reason));
    }
    Ok(())
}

/// A conditioning that preferences can teach: told in the prompt, and not in the units of rewards
/// that only rows with scores define.
pub(super) fn check_conditioning(
    template: &ConditioningTemplate,
    objectives: &ObjectiveSet,
) -> Result<(), TrainingError> {
    let wrong = |reason: String| TrainingError::setting("conditioning", reason);
    template
        .validate(objectives)
        .map_err(|error| wrong(error.to_string()))?;
    match template.kind {
        ConditioningKind::RewardTokens | ConditioningKind::AdapterMix => Err(wrong(format!(
            "kind is {}, which pairs do not teach; expected weights_text, score_tokens or \
             attributes",
            template.kind.as_str()
        ))),
        _ => Ok(()),
    }
}
