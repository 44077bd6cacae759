//! The rules' settings as a job's configuration writes them, and how they become rewards.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Brevity, Correct, Detail, FactSource, FactTable, Gate, LengthGoal, LengthUnit,
    SimilarityMeasure, json_valid, length, on_topic, readability, refusal, regex_match, repetition,
    similarity,
};
use crate::rewards::{RewardError, RewardModel};

/// One rule: `{"name": "brevity", "facts": {"table": "facts.json"}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum RuleConfig {
    /// Minus the completion's tokens; a wrong answer gets `wrong`.
    Brevity {
        /// Where the facts come from.
        facts: FactSource,
        /// Tokens that cost 1.
        #[serde(default = "defaults::tokens_per_unit")]
        tokens_per_unit: f32,
        /// The reward of a wrong answer, below 0; a right one never falls below half of it.
        #[serde(default = "defaults::wrong")]
        wrong: f32,
    },
    /// Distinct true facts; a wrong answer gets `wrong`.
    Detail {
        /// Where the facts come from.
        facts: FactSource,
        /// What each sentence costs that states no fact of the subject.
        #[serde(default = "defaults::one")]
        false_penalty: f32,
        /// The reward of a wrong answer, below 0; a right one never falls below half of it.
        #[serde(default = "defaults::wrong")]
        wrong: f32,
    },
    /// 1 where the asked fact is right, 0 where not.
    Correct {
        /// Where the facts come from.
        facts: FactSource,
    },
    /// Shorter, longer, or near a length.
    Length {
        /// What is counted.
        unit: LengthUnit,
        /// Which lengths are good.
        goal: LengthGoal,
        /// How many units make a reward of 1.
        scale: f32,
    },
    /// One value where a pattern is found, another where not.
    Regex {
        /// In the syntax of the `regex` crate.
        pattern: String,
        /// The reward where the pattern is found.
        #[serde(default = "defaults::one")]
        found: f32,
        /// The reward where it is not.
        #[serde(default)]
        absent: f32,
    },
    /// Share of distinct runs of words: 1 is no repetition.
    Repetition {
        /// Words in a run.
        #[serde(default = "defaults::run")]
        run: usize,
    },
    /// 1 for a refusal, 0 for anything else; the other way round with `rewarded: false`.
    Refusal {
        /// Whether refusing is what is wanted.
        #[serde(default = "defaults::yes")]
        rewarded: bool,
    },
    /// Share of the question's content words that the answer takes up.
    OnTopic,
    /// 1 where the whole answer is one JSON value, 0 where not.
    JsonValid {
        /// Only an object counts.
        #[serde(default)]
        object: bool,
    },
    /// Short sentences and, with a word list, common words.
    Readability {
        /// One word per line, commonest first; what follows a tab is ignored.
        #[serde(default)]
        common_words: Option<PathBuf>,
        /// How many words of the list count as common.
        #[serde(default = "defaults::top")]
        top: usize,
    },
    /// How like an answer is to the reference in its prompt's row.
    Similarity {
        /// The row's field that holds the reference, or a list of them.
        #[serde(default = "defaults::reference")]
        field: String,
        /// What makes two answers alike.
        #[serde(default)]
        measure: SimilarityMeasure,
    },
}

mod defaults {
    pub(super) fn tokens_per_unit() -> f32 {
        48.0
    }
    pub(super) fn wrong() -> f32 {
        -4.0
    }
    pub(super) fn one() -> f32 {
        1.0
    }
    pub(super) fn run() -> usize {
        3
    }
    pub(super) fn yes() -> bool {
        true
    }
    pub(super) fn top() -> usize {
        2000
    }
    pub(super) fn reference() -> String {
        "reference".to_owned()
    }
}

impl RuleConfig {
    /// The files that it reads.
    pub(in crate::rewards) fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Brevity { facts, .. } | Self::Detail { facts, .. } | Self::Correct { facts } => {
                match facts {
                    FactSource::Table(path) => vec![path],
                    FactSource::Rows(paths) => paths.iter_mut().collect(),
                }
            }
            Self::Readability { common_words, .. } => common_words.iter_mut().collect(),
            Self::Length { .. }
            | Self::Regex { .. }
            | Self::Repetition { .. }
            | Self::Refusal { .. }
            | Self::OnTopic
            | Self::JsonValid { .. }
            | Self::Similarity { .. } => Vec::new(),
        }
    }

    /// The reward, its settings checked and its files read.
    pub fn build(&self) -> Result<Box<dyn RewardModel>, RewardError> {
        match self {
            Self::Brevity {
                facts,
                tokens_per_unit,
                wrong,
            } => {
                let gate = Gate::new(*wrong)?;
                let facts = Arc::new(FactTable::open(facts)?);
                Ok(Box::new(Brevity::new(facts, *tokens_per_unit, gate)?))
            }
            Self::Detail {
                facts,
                false_penalty,
                wrong,
            } => {
                let gate = Gate::new(*wrong)?;
                let facts = Arc::new(FactTable::open(facts)?);
                Ok(Box::new(Detail::new(facts, *false_penalty, gate)?))
            }
            Self::Correct { facts } => {
                let facts = Arc::new(FactTable::open(facts)?);
                Ok(Box::new(Correct::new(facts)))
            }
            Self::Length { unit, goal, scale } => length::reward(*unit, *goal, *scale),
            Self::Regex {
                pattern,
                found,
                absent,
            } => regex_match::reward(pattern, *found, *absent),
            Self::Repetition { run } => repetition::reward(*run),
            Self::Refusal { rewarded } => Ok(refusal::reward(*rewarded)),
            Self::OnTopic => Ok(on_topic::reward()),
            Self::JsonValid { object } => Ok(json_valid::reward(*object)),
            Self::Readability { common_words, top } => {
                readability::reward(common_words.as_deref(), *top)
            }
            Self::Similarity { field, measure } => Ok(similarity::reward(field, *measure)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn build(config: serde_json::Value) -> Result<Box<dyn RewardModel>, String> {
        let config: RuleConfig =
            serde_json::from_value(config).map_err(|error| error.to_string())?;
        config.build().map_err(|error| error.to_string())
    }

    #[test]
    fn every_rule_is_built_from_its_settings() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("facts.json");
        FactTable::default().save(&table).unwrap();
        for config in [
            json!({"name": "brevity", "facts": {"table": &table}}),
            json!({"name": "detail", "facts": {"table": &table}, "wrong": -2.0}),
            json!({"name": "correct", "facts": {"table": &table}}),
            json!({"name": "length", "unit": "tokens", "goal": "shorter", "scale": 100}),
            json!({"name": "length", "unit": "words", "goal": {"near": 50}, "scale": 10}),
            json!({"name": "regex", "pattern": "^Yes"}),
            json!({"name": "repetition"}),
            json!({"name": "refusal", "rewarded": false}),
            json!({"name": "on_topic"}),
            json!({"name": "json_valid", "object": true}),
            json!({"name": "readability"}),
            json!({"name": "similarity", "measure": "rouge_l"}),
        ] {
            let expected = config["name"].clone();
            assert_eq!(build(config).unwrap().name(), expected);
        }
    }

    #[test]
    fn bad_settings_are_refused_in_words() {
        let check = |config: serde_json::Value, says: &str| {
            let error = build(config).err().expect("the settings are bad");
            assert!(error.contains(says), "{error}");
        };
        check(
            json!({"name": "regex", "pattern": "("}),
            "pattern `(` is not a regular expression",
        );
        check(
            json!({"name": "regex", "pattern": "a", "flags": "i"}),
            "unknown field `flags`",
        );
        check(json!({"name": "kindness"}), "unknown variant `kindness`");
        check(json!({"name": "repetition", "run": 0}), "`run` is 0");
        check(
            json!({"name": "length", "unit": "words", "goal": "longer", "scale": 0}),
            "`scale` is 0",
        );
        check(
            json!({"name": "brevity", "facts": {"rows": []}}),
            "names no file",
        );
        check(
            json!({"name": "brevity", "facts": {"table": "/nowhere/f.json"}}),
            "/nowhere/f.json",
        );
    }
}
