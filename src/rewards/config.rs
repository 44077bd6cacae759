//! A reward as a job's configuration writes it.

use serde::{Deserialize, Serialize};

use super::rules::RuleConfig;
use super::{RewardError, RewardModel};

/// Where one objective's reward comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum RewardConfig {
    /// A rule over the text: `{"kind": "rule", "rule": {"name": "length", …}}`.
    Rule {
        /// Which rule, with its settings.
        rule: RuleConfig,
    },
}

/// The reward that `config` describes: settings checked, files read.
pub fn build(config: &RewardConfig) -> Result<Box<dyn RewardModel>, RewardError> {
    match config {
        RewardConfig::Rule { rule } => rule.build(),
    }
}
