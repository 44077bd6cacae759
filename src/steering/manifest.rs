//! `steering.json`: what a checkpoint can be steered by, and how it wants to be told.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{ConditioningKind, ConditioningTemplate, ManifestError, ObjectiveSet};

/// The manifest of a steerable policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SteeringManifest {
    /// Version of this layout; 1.
    pub format_version: u32,
    /// The policy's name.
    pub name: String,
    /// What the policy is for, in a sentence.
    #[serde(default)]
    pub description: String,
    /// What it trades off, in order.
    pub objectives: ObjectiveSet,
    /// How it is told the weights.
    pub conditioning: ConditioningTemplate,
    /// How each objective's rewards were normalised in training, in the objectives' order.
    pub normalizers: Vec<NormalizerStats>,
    /// The base model that an adapter was trained over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseRef>,
    /// Settings of the training job.
    #[serde(default)]
    pub training: serde_json::Value,
    /// What was measured.
    #[serde(default)]
    pub evaluation: serde_json::Value,
}

/// Frozen statistics of one objective's reward: `clamp((r - mean) / std, -clip, clip)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NormalizerStats {
    /// Mean reward.
    pub mean: f32,
    /// Standard deviation.
    pub std: f32,
    /// Bound of the normalised reward.
    pub clip: f32,
}

/// A base model, by name and content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseRef {
    /// Its name.
    pub name: String,
    /// blake3 of its tensors and configuration, in hexadecimal.
    pub hash: String,
}

const FORMAT_VERSION: u32 = 1;
const FILE: &str = "steering.json";

impl SteeringManifest {
    /// The layout that this program writes.
    pub const FORMAT_VERSION: u32 = FORMAT_VERSION;

    /// Reads and checks `steering.json` of a folder.
    pub fn load(dir: &Path) -> Result<Self, ManifestError> {
        let path = dir.join(FILE);
        let bytes = std::fs::read(&path).map_err(|source| ManifestError::Io {
            path: path.clone(),
            source,
        })?;
        let invalid = |reason: String| ManifestError::Invalid {
            path: path.clone(),
            reason,
        };
        let manifest: Self =
            serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        manifest.validate().map_err(invalid)?;
        Ok(manifest)
    }

    /// Checks what the parts say of each other.
    pub fn validate(&self) -> Result<(), String> {
        if self.format_version != FORMAT_VERSION {
            let version = self.format_version;
            return Err(format!(
                "format_version is {version}, expected {FORMAT_VERSION}"
            ));
        }
        self.conditioning
            .validate(&self.objectives)
            .map_err(|error| error.to_string())?;
        let (found, expected) = (self.normalizers.len(), self.objectives.len());
        if found != expected {
            return Err(format!("{found} normalizers for {expected} objectives"));
        }
        let sound = |n: &NormalizerStats| n.mean.is_finite() && n.std > 0.0 && n.clip > 0.0;
        if !self.normalizers.iter().all(sound) {
            return Err("normalizers need a finite mean, and std and clip above 0".into());
        }
        self.check_reward_targets()
    }

    /// Rewards were clipped in training, so nothing beyond the clip was ever told.
    fn check_reward_targets(&self) -> Result<(), String> {
        if self.conditioning.kind != ConditioningKind::RewardTokens {
            return Ok(());
        }
        let ranges = self.conditioning.targets.iter().zip(&self.normalizers);
        for (objective, (range, normalizer)) in self.objectives.iter().zip(ranges) {
            let clip = normalizer.clip;
            if range.low.abs() > clip || range.high.abs() > clip {
                return Err(format!(
                    "conditioning.targets of `{}` is {} to {}, beyond the {clip} at which its \
                     normalizer clips rewards",
                    objective.name, range.low, range.high
                ));
            }
        }
        Ok(())
    }

    /// Writes `steering.json`, whole or not at all.
    pub fn save(&self, dir: &Path) -> Result<(), ManifestError> {
        let path = dir.join(FILE);
        let io = |source| ManifestError::Io {
            path: path.clone(),
            source,
        };
        let mut text =
            serde_json::to_string_pretty(self).map_err(|error| ManifestError::Invalid {
                path: path.clone(),
                reason: error.to_string(),
            })?;
        text.push('\n');
        std::fs::create_dir_all(dir).map_err(io)?;
        let draft = dir.join(format!(".{FILE}.{}.tmp", std::process::id()));
        let mut file = std::fs::File::create(&draft).map_err(io)?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(io)?;
        std::fs::rename(&draft, &path).map_err(io)?;
        // The new name is in the folder, so the folder has to reach the disk as well.
        let folder = std::fs::File::open(dir).map_err(io)?;
        folder.sync_all().map_err(io)
    }
}
