//! The rewards that a policy was trained on, to score what it answers now.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use super::error::{RequestError, chain};
use super::policy::LivePolicy;
use crate::rewards::{Exchange, RewardConfig, RewardError, RewardModel, RewardSuite, build};
use crate::types::Message;

/// A policy's rewards, loaded when they are first asked for. A failure is not kept: the files may
/// be put right.
#[derive(Default)]
pub(super) struct Scorer(OnceCell<Arc<RewardSuite>>);

/// An answer to be scored.
pub(super) struct Scored {
    pub(super) text: String,
    /// Its end token left out.
    pub(super) tokens: usize,
    pub(super) finished: bool,
}

impl LivePolicy {
    /// Its rewards, one for each objective.
    pub(super) async fn rewards(self: &Arc<Self>) -> Result<Arc<RewardSuite>, RequestError> {
        let load = || async {
            let policy = Arc::clone(self);
            // models and tables are read and hashed for seconds
            let loaded = tokio::task::spawn_blocking(move || policy.manifests_rewards()).await;
            loaded.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        };
        self.scorer.0.get_or_try_init(load).await.cloned()
    }

    /// Its rewards as the job that made it was created with them, by objective. Whoever created it
    /// named its services, so that these are asked.
    pub(super) async fn rewards_of_job(
        self: &Arc<Self>,
        stated: Map<String, Value>,
    ) -> Result<Arc<RewardSuite>, RequestError> {
        let policy = Arc::clone(self);
        let load = move || policy.load_rewards(&stated, read_and_build);
        let loaded = tokio::task::spawn_blocking(load).await;
        loaded.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    fn manifests_rewards(&self) -> Result<Arc<RewardSuite>, RequestError> {
        let manifest = self.manifest.as_ref();
        let stated = manifest.and_then(|manifest| manifest.training.get("rewards")?.as_object());
        let stated = stated.ok_or_else(|| self.lacks("its manifest states none"))?;
        self.load_rewards(stated, |mut config| {
            find_files(&mut config, &self.root);
            let config = read(config)?;
            if config.is_remote() {
                // a downloaded checkpoint must not decide where callers' texts are sent
                let problem = "it is a service, and a manifest may not name one to send texts to";
                return Err(problem.to_owned());
            }
            build(&config).map_err(|error| chain(&error))
        })
    }

    /// One reward for each objective, each made by `load` of what is `stated` for it.
    fn load_rewards(
        &self,
        stated: &Map<String, Value>,
        load: impl Fn(Value) -> Result<Box<dyn RewardModel>, String>,
    ) -> Result<Arc<RewardSuite>, RequestError> {
        let Some(manifest) = &self.manifest else {
            return Err(self.lacks("it has no objectives"));
        };
        let mut rewards = Vec::new();
        for objective in manifest.objectives.iter() {
            let name = &objective.name;
            let config = stated.get(name).cloned();
            let config =
                config.ok_or_else(|| self.lacks(&format!("none is stated for `{name}`")))?;
            let reward = load(config).map_err(|error| {
                // paths of the server are for its log alone
                tracing::warn!(policy = self.id, objective = name, "no reward: {error}");
                self.lacks(&format!("that of `{name}` cannot be loaded here"))
            })?;
            rewards.push(reward);
        }
        let suite = RewardSuite::new(rewards).map_err(|error| self.lacks(&error.to_string()))?;
        Ok(Arc::new(suite))
    }

    fn lacks(&self, what: &str) -> RequestError {
        let problem = format!(
            "scoring needs the rewards that the policy `{}` was trained on, and {what}",
            self.id
        );
        RequestError::Rewards { problem }
    }
}

fn read(config: Value) -> Result<RewardConfig, String> {
    serde_json::from_value(config).map_err(|error| error.to_string())
}

fn read_and_build(config: Value) -> Result<Box<dyn RewardModel>, String> {
    build(&read(config)?).map_err(|error| chain(&error))
}

/// A manifest names files as the training job saw them. Where one is not there, what the end of its
/// path names in the model's folder stands for it, the longest end first:
/// `models/demo/rewards/helpful` is the folder's own `rewards/helpful`.
fn find_files(config: &mut Value, root: &Path) {
    match config {
        Value::String(text) if text.contains(['/', '.']) && !Path::new(text).exists() => {
            let mut places = ends(Path::new(text)).map(|end| root.join(end));
            let beside = places.find(|place| place.exists());
            drop(places);
            if let Some(beside) = beside {
                *text = beside.to_string_lossy().into_owned();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| find_files(item, root)),
        Value::Object(entries) => entries
            .iter_mut()
            .for_each(|(_, value)| find_files(value, root)),
        _ => {}
    }
}

/// The path without its first 0, 1, 2 ... parts, as long as what is left only leads downwards.
fn ends(path: &Path) -> impl Iterator<Item = PathBuf> {
    let parts: Vec<_> = path.components().collect();
    (0..parts.len()).filter_map(move |from| {
        let end = &parts[from..];
        let downwards = end.iter().all(|part| matches!(part, Component::Normal(_)));
        downwards.then(|| end.iter().collect())
    })
}

/// `[answer][objective]`.
pub(super) async fn score(
    suite: Arc<RewardSuite>,
    prompt: Vec<Message>,
    answers: Vec<Scored>,
) -> Result<Vec<Vec<f32>>, RequestError> {
    let scoring = tokio::task::spawn_blocking(move || {
        let exchanges: Vec<Exchange<'_>> = answers
            .iter()
            .map(|answer| Exchange {
                prompt: &prompt,
                completion: &answer.text,
                completion_tokens: answer.tokens,
                finished: answer.finished,
                record: &Value::Null,
            })
            .collect();
        suite.score(&exchanges)
    });
    let scored = scoring
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    scored.map_err(|error| match error {
        RewardError::UnknownQuestion { .. } | RewardError::Row { .. } => RequestError::Rewards {
            problem: format!(
                "the rewards cannot judge answers to this prompt: {}",
                chain(&error)
            ),
        },
        other => {
            tracing::warn!("a reward failed: {}", chain(&other));
            let problem = "scoring failed: a reward of this policy gave no usable number; \
                           the server's log has the cause";
            RequestError::Rewards {
                problem: problem.to_owned(),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_that_is_elsewhere_now_is_looked_for_beside_the_model() {
        let root = tempfile::tempdir().expect("temp");
        std::fs::write(root.path().join("facts.json"), "{}").expect("write");
        std::fs::create_dir_all(root.path().join("rewards/helpful")).expect("create");
        let mut config = json!({
            "rule": {"name": "brevity", "facts": {"table": "/gone/facts.json"}, "pattern": "a.b"},
            "path": "/gone/other",
            "model": "gone/rewards/helpful",
            "outside": "gone/../..",
        });
        find_files(&mut config, root.path());
        let found = root.path().join("facts.json");
        assert_eq!(
            config["rule"]["facts"]["table"],
            found.to_string_lossy().as_ref()
        );
        assert_eq!(config["rule"]["pattern"], "a.b");
        assert_eq!(config["path"], "/gone/other");
        let model = root.path().join("rewards/helpful");
        assert_eq!(config["model"], model.to_string_lossy().as_ref());
        assert_eq!(config["outside"], "gone/../..");
    }
}
