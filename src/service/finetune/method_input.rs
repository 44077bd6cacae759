//! What a request says of its method: read, checked, and turned into a job's settings.

use serde_json::{Map, Value, json};

use super::hyperparameters::{self, BATCH_SIZE, BATCH_TOKENS, EPOCHS, Method, STEPS};
use super::spec::Found;
use super::{FineTuningError, NewJobInput};
use crate::training::TrainingError;
use crate::training::config::Job;
use crate::training::data::RowKind;

/// Steps of a pass over texts that are few, where a request does not say how large a step is.
const STEPS_A_PASS: f64 = 8.0;
/// What settings are called that cannot be read at all.
const WHOLE: &str = "the job";

/// The method's type and its part of the request.
pub(super) struct MethodInput {
    pub(super) method: Method,
    pub(super) hyperparameters: Map<String, Value>,
    pub(super) rest: Map<String, Value>,
    /// Where the hyperparameters stand, for messages.
    pub(super) at: String,
}

impl MethodInput {
    /// Reads `method` and `hyperparameters` of a request.
    pub(super) fn read(input: &NewJobInput) -> Result<Self, FineTuningError> {
        let old = input.hyperparameters.clone().unwrap_or_default();
        let Some(given) = &input.method else {
            return Ok(Self {
                method: Method::Supervised,
                hyperparameters: old,
                rest: Map::new(),
                at: "hyperparameters".to_owned(),
            });
        };
        let word = given["type"].as_str().unwrap_or_default();
        let known = || Method::ALL.map(Method::as_str).join(", ");
        let method = Method::parse(word).ok_or_else(|| {
            let problem = format!("must be one of {}, got {}", known(), given["type"]);
            FineTuningError::invalid("method.type", problem)
        })?;
        for name in given.as_object().into_iter().flat_map(Map::keys) {
            if name != "type" && name != word {
                let problem = format!("does not belong to the method {word}");
                return Err(FineTuningError::invalid(format!("method.{name}"), problem));
            }
        }
        let mut rest = match &given[word] {
            Value::Object(part) => part.clone(),
            Value::Null => Map::new(),
            other => {
                let problem = format!("must be an object, got {other}");
                return Err(FineTuningError::invalid(format!("method.{word}"), problem));
            }
        };
        let at = format!("method.{word}.hyperparameters");
        let hyperparameters = match rest.remove("hyperparameters") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(given)) => given,
            Some(other) => {
                return Err(FineTuningError::invalid(
                    at,
                    format!("must be an object, got {other}"),
                ));
            }
        };
        if !old.is_empty() {
            let problem = format!("must be left out beside `method`; they belong to {at}");
            return Err(FineTuningError::invalid("hyperparameters", problem));
        }
        Ok(Self {
            method,
            hyperparameters,
            rest,
            at,
        })
    }

    pub(super) fn part(&self, name: &str) -> String {
        format!("method.{}.{name}", self.method.as_str())
    }

    /// Which rows its files hold.
    pub(super) fn rows(&self) -> RowKind {
        match self.method {
            Method::MoOdpo => RowKind::Prompts,
            Method::Supervised => RowKind::Texts,
            Method::Dpo | Method::RewardModel => RowKind::Pairs,
        }
    }
}

impl MethodInput {
    /// How large a step is: what was stated, else as settings have it, but for supervised training
    /// on few texts, where one step of the usual size would be a whole pass.
    pub(super) fn fill_step(
        &self,
        given: &Map<String, Value>,
        settings: &mut Value,
        found: &Found<'_>,
    ) {
        let stated = [BATCH_SIZE, BATCH_TOKENS].map(|name| given.contains_key(name));
        if let (Some(texts), [false, false]) = (&found.texts, stated) {
            let usual = settings["batch_tokens"].as_f64().unwrap_or(0.0);
            if texts.tokens() < STEPS_A_PASS * usual {
                let sequences = (texts.sequences() / STEPS_A_PASS).ceil().max(1.0);
                settings["sequences_per_step"] = json!(sequences as u64);
            }
        }
    }

    /// Passes and steps: what was stated, else what follows from the file.
    pub(super) fn length(
        &self,
        given: &Map<String, Value>,
        (job, settings): (&Job, &Value),
        found: &Found<'_>,
    ) -> (f64, u64) {
        let rows = found.training.rows as f64;
        let (a_pass, epochs) = match self.method {
            Method::MoOdpo => {
                let batch = settings["rollout"]["prompts_per_step"].as_f64();
                let many = self.rest["objectives"]
                    .as_array()
                    .is_some_and(|o| o.len() > 2);
                (rows / batch.unwrap_or(1.0), if many { 3.0 } else { 2.0 })
            }
            Method::Supervised => {
                let a_pass = match (job, &found.texts) {
                    (Job::Supervised(job), Some(texts)) => texts.steps_a_pass(job),
                    _ => 1.0,
                };
                (a_pass, 3.0)
            }
            Method::Dpo | Method::RewardModel => {
                let batch = settings["pairs_per_step"].as_f64();
                (rows / batch.unwrap_or(1.0), 1.0)
            }
        };
        if let Some(steps) = given.get(STEPS).and_then(Value::as_u64) {
            return (steps as f64 / a_pass, steps);
        }
        let epochs = given.get(EPOCHS).and_then(Value::as_f64).unwrap_or(epochs);
        (epochs, ((epochs * a_pass).ceil() as u64).max(1))
    }

    /// Reads settings; what is at fault is named as the request names it.
    pub(super) fn read_settings(&self, settings: Value) -> Result<Job, FineTuningError> {
        Job::from_json(settings).map_err(|error| match error {
            TrainingError::Setting { name, reason } if name == WHOLE => {
                let param = format!("method.{}", self.method.as_str());
                FineTuningError::invalid(param, format!("cannot be read: {reason}"))
            }
            // the way of telling weights is then the policy's own, and the objectives are new
            TrainingError::Setting { name, reason }
                if name == "conditioning"
                    && !self.rest.contains_key("conditioning")
                    && self.rest.contains_key("objectives") =>
            {
                let problem = format!(
                    "do not fit how the policy is told its weights ({reason}); name its own \
                     objectives, or give a `conditioning` beside them"
                );
                FineTuningError::invalid(self.part("objectives"), problem)
            }
            TrainingError::Setting { name, reason } => {
                let param = match hyperparameters::name_of(self.method, &name) {
                    Some(name) => format!("{}.{name}", self.at),
                    None => self.part(&name),
                };
                FineTuningError::invalid(param, reason)
            }
            other => FineTuningError::invalid("method", crate::service::chain(&other)),
        })
    }
}
