//! What scores an evaluation's answers.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::EvaluateError;
use crate::rewards::{Normalizer, RewardConfig, RewardError, RewardModel, build};
use crate::steering::SteeringManifest;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RewardsFile {
    #[serde(default)]
    objectives: BTreeMap<String, RewardConfig>,
    #[serde(default)]
    judges: BTreeMap<String, RewardConfig>,
}

type Named = Vec<(String, Box<dyn RewardModel>)>;

/// Rewards of the objectives, in their order, and outside judges: those of a file, or those that the
/// policy in `folder` was trained on.
pub(super) fn build_all(
    file: Option<&Path>,
    manifest: &SteeringManifest,
    folder: &Path,
) -> Result<(Named, Named), EvaluateError> {
    let path = file.map_or_else(|| folder.join("steering.json"), Path::to_owned);
    let fail = |reason: String| EvaluateError::RewardsFile {
        path: path.clone(),
        reason,
    };
    let file: RewardsFile = match file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
            let mut file: RewardsFile =
                toml::from_str(&text).map_err(|error| fail(error.to_string()))?;
            let folder = path.parent().unwrap_or(Path::new(""));
            let rewards = file.objectives.values_mut().chain(file.judges.values_mut());
            rewards.for_each(|reward| reward.look_in(folder));
            file
        }
        None => {
            let stated = manifest
                .training
                .get("rewards")
                .cloned()
                .unwrap_or_default();
            let objectives = serde_json::from_value(stated)
                .map_err(|_| fail("states no rewards; name a file with --rewards".into()))?;
            RewardsFile {
                objectives,
                ..RewardsFile::default()
            }
        }
    };
    let mut objectives = Named::new();
    for objective in manifest.objectives.iter() {
        let config = file.objectives.get(&objective.name).ok_or_else(|| {
            fail(format!(
                "no reward for the policy's objective `{}`",
                objective.name
            ))
        })?;
        objectives.push((objective.name.clone(), build(config)?));
    }
    if manifest.normalizers.len() != objectives.len() {
        return Err(fail(format!(
            "{} normalisers for {} objectives",
            manifest.normalizers.len(),
            objectives.len()
        )));
    }
    let judges = file
        .judges
        .iter()
        .map(|(name, config)| Ok((name.clone(), build(config)?)));
    let judges = judges.collect::<Result<Named, RewardError>>()?;
    Ok((objectives, judges))
}

/// The scale of each objective's rewards.
pub(super) fn normalizers(manifest: &SteeringManifest) -> Result<Vec<Normalizer>, RewardError> {
    manifest
        .normalizers
        .iter()
        .map(|n| Normalizer::new(n.mean, n.std, n.clip))
        .collect()
}
