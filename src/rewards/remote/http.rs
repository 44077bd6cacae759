//! Rewards by a reward server.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::call::CallSettings;
use super::client::{Client, Question};
use super::error::ServiceError;
use super::reply;
use super::shape::{HttpShape, LabelChoice};
use super::transcript::{Texts, Transcript};
use crate::rewards::{Exchange, RewardError, RewardModel};

/// A reward server, as a job's configuration writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Where it is and how it is asked.
    #[serde(flatten)]
    pub call: CallSettings,
    /// Whose requests it understands.
    pub shape: HttpShape,
    /// The model's name there; vLLM's shapes need it.
    pub model: Option<String>,
    /// Which label's value is the reward, where there are several.
    pub label: Option<LabelChoice>,
    /// How the conversation is written.
    #[serde(default)]
    pub transcript: Transcript,
    /// Most texts of one request.
    #[serde(default = "batch")]
    pub batch: usize,
    /// The reward is `scale` times the server's value plus `shift`.
    #[serde(default = "one")]
    pub scale: f32,
    /// See `scale`.
    #[serde(default)]
    pub shift: f32,
}

fn batch() -> usize {
    64
}

/// The `scale` that changes nothing.
pub(super) fn one() -> f32 {
    1.0
}

/// A reward server as a reward.
pub struct HttpReward {
    name: String,
    config: HttpConfig,
    client: Client,
}

impl HttpReward {
    /// Checks the settings; the server is first asked when something is scored.
    ///
    /// # Errors
    /// A setting is outside its range or does not go with the shape.
    pub fn new(config: &HttpConfig) -> Result<Self, RewardError> {
        let kind = Self::check(config)?;
        let call = config.call.check(&kind)?;
        Ok(Self {
            name: format!("{kind} at {}", call.uri.host().unwrap_or_default()),
            config: config.clone(),
            client: Client::new(call),
        })
    }

    /// Checks all settings but whether the key is set; what kind of reward it is, in words.
    pub(in crate::rewards) fn check(config: &HttpConfig) -> Result<String, RewardError> {
        let kind = format!("http {}", config.shape.as_str());
        if let Some(reason) = config.shape.misfit(config) {
            return Err(RewardError::setting(kind, reason));
        }
        if !(1..=4096).contains(&config.batch) {
            let reason = format!("`batch` is {}, expected 1 to 4096", config.batch);
            return Err(RewardError::setting(kind, reason));
        }
        check_line(&kind, config.scale, config.shift)?;
        config.call.check_without_key(&kind)?;
        Ok(kind)
    }
}

/// Refuses a line that is no number, or on which all values are one.
pub(super) fn check_line(reward: &str, scale: f32, shift: f32) -> Result<(), RewardError> {
    match scale.is_finite() && scale != 0.0 && shift.is_finite() {
        true => Ok(()),
        false => {
            let reason = format!(
                "`scale` is {scale} and `shift` {shift}, expected finite numbers and `scale` not 0"
            );
            Err(RewardError::setting(reward, reason))
        }
    }
}

/// All exchanges, in parts that the server takes at once.
struct Parts<'a> {
    config: &'a HttpConfig,
    texts: Vec<Texts>,
    labels: Vec<Value>,
    parts: Vec<std::ops::Range<usize>>,
}

impl Question for Parts<'_> {
    type Answer = Vec<f32>;

    fn count(&self) -> usize {
        self.parts.len()
    }

    fn body(&self, index: usize, _attempt: u32) -> Value {
        let part = self.parts[index].clone();
        let (texts, labels) = (&self.texts[part.clone()], &self.labels[part]);
        self.config.shape.body(self.config, texts, labels)
    }

    fn read(&self, index: usize, answer: Value) -> Result<Vec<f32>, ServiceError> {
        let count = self.parts[index].len();
        reply::read(self.config.shape, self.config.label.as_ref(), count, answer)
    }
}

impl RewardModel for HttpReward {
    fn name(&self) -> &str {
        &self.name
    }

    fn score(&self, exchanges: &[Exchange<'_>]) -> Result<Vec<f32>, RewardError> {
        self.score_unless(exchanges, &|| false)
    }

    fn score_unless(
        &self,
        exchanges: &[Exchange<'_>],
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>, RewardError> {
        let config = &self.config;
        let texts = exchanges.iter().map(|e| Texts::of(e, config.transcript));
        let texts: Vec<Texts> = texts.collect();
        // what the truth is, for servers that compare; rows without one have an empty one
        let label = |e: &Exchange<'_>| e.record.get("label").cloned().unwrap_or("".into());
        let question = Parts {
            config,
            labels: exchanges.iter().map(label).collect(),
            parts: config.shape.split(&texts, config.batch),
            texts,
        };
        let answers = self.client.ask_all(&question, stop);
        let answers = answers.map_err(|failed| failed.of(&self.name))?;
        let line = |value: f32| value * config.scale + config.shift;
        Ok(answers.into_iter().flatten().map(line).collect())
    }
}
