//! A reward as a job's configuration writes it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::remote::{HttpConfig, HttpReward, JudgeConfig, JudgeReward};
use super::rules::RuleConfig;
use super::{ClassifierInput, ClassifierReward, RewardError, RewardModel};

/// Where one objective's reward comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum RewardConfig {
    /// A local sequence-classification checkpoint: the logit of one label.
    Classifier {
        /// The checkpoint's folder.
        path: PathBuf,
        /// Which label's logit is the reward.
        #[serde(default)]
        label: usize,
        /// How prompt and answer become the classifier's text.
        #[serde(default)]
        input: ClassifierInput,
    },
    /// A rule over the text: `{"kind": "rule", "rule": {"name": "length", …}}`.
    Rule {
        /// Which rule, with its settings.
        rule: RuleConfig,
    },
    /// A reward server.
    Http(HttpConfig),
    /// A chat model that grades.
    Judge(JudgeConfig),
}

impl RewardConfig {
    /// Checks what can be said of the settings without reading a model, asking a service or knowing
    /// its key: a rule is built, a checkpoint must be there.
    ///
    /// # Errors
    /// A setting is outside its range, or a file cannot be read.
    pub fn check(&self) -> Result<(), RewardError> {
        match self {
            Self::Rule { rule } => rule.build().map(drop),
            Self::Http(config) => HttpReward::check(config).map(drop),
            Self::Judge(config) => JudgeReward::check(config),
            Self::Classifier { path, .. } if !path.join("config.json").is_file() => {
                let reason = format!("names {}, which holds no config.json", path.display());
                Err(RewardError::setting("classifier", reason))
            }
            Self::Classifier { .. } => Ok(()),
        }
    }

    /// Whether texts leave this process to be scored.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Http(_) | Self::Judge(_))
    }

    /// Takes files that are not where a relative path leads from the working directory from
    /// `folder`, where they are there.
    pub fn look_in(&mut self, folder: &Path) {
        let paths = match self {
            Self::Classifier { path, .. } => vec![path],
            Self::Rule { rule } => rule.paths_mut(),
            Self::Http(_) | Self::Judge(_) => Vec::new(),
        };
        for path in paths {
            let beside = folder.join(&*path);
            if !path.exists() && beside.exists() {
                *path = beside;
            }
        }
    }
}

/// The reward that `config` describes: settings checked, files read, tensors loaded.
pub fn build(config: &RewardConfig) -> Result<Box<dyn RewardModel>, RewardError> {
    match config {
        RewardConfig::Classifier { path, label, input } => {
            Ok(Box::new(ClassifierReward::load(path, *label, *input)?))
        }
        RewardConfig::Rule { rule } => rule.build(),
        RewardConfig::Http(config) => Ok(Box::new(HttpReward::new(config)?)),
        RewardConfig::Judge(config) => Ok(Box::new(JudgeReward::new(config)?)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_has_defaults_and_takes_no_field_that_is_none() {
        let http = json!({"kind": "http", "url": "http://h/x", "shape": "tei_rerank"});
        let judge = json!({"kind": "judge", "url": "http://h/chat/completions", "model": "m",
            "rubric": "r"});
        for config in [http, judge] {
            let read = |more: serde_json::Value| {
                let mut config = config.clone();
                for (name, value) in more.as_object().expect("an object") {
                    config[name] = value.clone();
                }
                serde_json::from_value::<RewardConfig>(config)
            };
            let found = read(json!({"retries": 2, "timeout_seconds": 3})).expect("sound");
            let call = match &found {
                RewardConfig::Http(config) => &config.call,
                RewardConfig::Judge(config) => &config.call,
                other => panic!("{other:?}"),
            };
            assert_eq!((call.retries, call.parallel, call.backoff_ms), (2, 4, 500));
            assert_eq!(call.timeout_seconds, 3.0);
            let written = serde_json::to_value(&found).expect("JSON");
            assert_eq!(written["url"], config["url"]);
            assert_eq!(
                serde_json::from_value::<RewardConfig>(written).expect("sound"),
                found
            );
            let error = read(json!({"retires": 2})).expect_err("no such field");
            assert!(error.to_string().contains("retires"), "{error}");
        }
    }

    #[test]
    fn files_that_are_not_here_are_looked_for_in_the_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("words.tsv"), "the").expect("a file");
        let read = |path: &str| {
            let rule = json!({"name": "readability", "common_words": path});
            let config = json!({"kind": "rule", "rule": rule});
            let mut config: RewardConfig = serde_json::from_value(config).expect("sound");
            config.look_in(folder.path());
            serde_json::to_value(config).expect("JSON")["rule"]["common_words"].clone()
        };
        assert_eq!(read("words.tsv"), json!(folder.path().join("words.tsv")));
        // here, and nowhere
        assert_eq!(read("Cargo.toml"), json!("Cargo.toml"));
        assert_eq!(read("none.tsv"), json!("none.tsv"));
    }
}
