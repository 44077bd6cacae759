//! A job's settings beside its hyperparameters, as each method's part of a request describes them.

use serde::Deserialize;
use serde_json::{Value, json};

use super::FineTuningError;
use super::hyperparameters::{self, Method};
use super::method_input::MethodInput;
use super::spec::{Found, START_ADAPTER};
use crate::rewards::RewardConfig;
use crate::service::PolicyAdapter;

impl MethodInput {
    /// What the method's settings are beside the hyperparameters.
    pub(super) fn describe(
        &self,
        settings: &mut Value,
        found: &Found<'_>,
        name: &str,
    ) -> Result<(), FineTuningError> {
        let training = &found.training.id;
        let validation: Vec<_> = found.validation.iter().map(|file| &file.id).collect();
        let known: &[&str] = match self.method {
            Method::MoOdpo => &["objectives", "conditioning", "description"],
            Method::Supervised => &[],
            Method::Dpo => &["objective", "objectives", "conditioning", "description"],
            Method::RewardModel => &["objective"],
        };
        if let Some(other) = self
            .rest
            .keys()
            .find(|name| !known.contains(&name.as_str()))
        {
            let problem = format!(
                "is no field of this method; it has hyperparameters{}",
                known
                    .iter()
                    .map(|name| format!(", {name}"))
                    .collect::<String>()
            );
            return Err(FineTuningError::invalid(self.part(other), problem));
        }
        match self.method {
            Method::MoOdpo => self.describe_mo_odpo(settings, found, name)?,
            Method::Supervised => {
                settings["data"] = json!({"train": [{"path": training}], "test": validation});
            }
            Method::Dpo => {
                settings["data"] = json!({"train": [training], "test": validation});
                self.describe_dpo(settings, found, name);
            }
            Method::RewardModel => {
                if validation.is_empty() {
                    let problem = "is missing; a reward model is measured on pairs that it was \
                                   not trained on";
                    return Err(FineTuningError::invalid("validation_file", problem));
                }
                settings["data"] = json!({"train": [training], "test": validation});
                if let Some(objective) = self.rest.get("objective") {
                    settings["data"]["objective"] = objective.clone();
                }
            }
        }
        if matches!(found.policy.adapter, PolicyAdapter::Mix(_)) {
            let problem = format!(
                "must be the base `{}`: `{}` mixes several adapters, and a job trains one",
                found.base, found.policy.id
            );
            return Err(FineTuningError::invalid("model", problem));
        }
        if found.policy.adapter.is_some() {
            if self.method == Method::RewardModel {
                let problem = format!(
                    "must be the base `{}`: a reward model starts from a whole model",
                    found.base
                );
                return Err(FineTuningError::invalid("model", problem));
            }
            hyperparameters::set(settings, START_ADAPTER, json!(found.policy.dir));
        }
        Ok(())
    }

    fn describe_mo_odpo(
        &self,
        settings: &mut Value,
        found: &Found<'_>,
        name: &str,
    ) -> Result<(), FineTuningError> {
        if found.validation.is_some() {
            let problem = "must be left out: this method measures itself on its own answers";
            return Err(FineTuningError::invalid("validation_file", problem));
        }
        let objectives = self.rest.get("objectives").and_then(Value::as_array);
        let mut objectives = objectives.cloned().ok_or_else(|| {
            let problem = "must be a list of {\"name\", \"reward\"}, one for each objective";
            FineTuningError::invalid(self.part("objectives"), problem)
        })?;
        for (index, objective) in objectives.iter_mut().enumerate() {
            if let Value::Object(fields) = objective {
                let name = fields.get("name").cloned().unwrap_or_default();
                fields.entry("description").or_insert(name);
            }
            self.check_reward(index, objective)?;
        }
        settings["objectives"] = Value::Array(objectives);
        settings["data"] = json!({"prompts": [found.training.id]});
        settings["name"] = json!(name);
        if let Some(description) = self.rest.get("description") {
            settings["description"] = description.clone();
        }
        let own = found.policy.manifest.as_ref();
        let conditioning = match (self.rest.get("conditioning"), own) {
            (Some(given), _) => given.clone(),
            (None, Some(manifest)) => json!(manifest.conditioning),
            (None, None) => {
                let problem = format!(
                    "is missing, and `{}` has none of its own; it says how the policy is told \
                     the weights, as in {{\"open\": TOKEN, \"close\": TOKEN, \"template\": \
                     \"brevity {{brevity}}\", \"decimals\": 1}}",
                    found.policy.id
                );
                return Err(FineTuningError::invalid(self.part("conditioning"), problem));
            }
        };
        settings["conditioning"] = conditioning;
        Ok(())
    }

    /// A policy that can be steered already stays so: its own objectives and its own way of being
    /// told the weights are taken where the request names none.
    fn describe_dpo(&self, settings: &mut Value, found: &Found<'_>, name: &str) {
        settings["name"] = json!(name);
        if let Some(manifest) = &found.policy.manifest {
            settings["objectives"] = json!(manifest.objectives);
            settings["conditioning"] = json!(manifest.conditioning);
        }
        for field in ["objectives", "conditioning", "description"] {
            if let Some(given) = self.rest.get(field) {
                settings[field] = given.clone();
            }
        }
        if let Some(objective) = self.rest.get("objective") {
            settings["data"]["objective"] = objective.clone();
        }
    }

    /// Refuses a reward that no worker could use.
    fn check_reward(&self, index: usize, objective: &Value) -> Result<(), FineTuningError> {
        let param = self.part(&format!("objectives[{index}].reward"));
        let reward = RewardConfig::deserialize(&objective["reward"])
            .map_err(|error| FineTuningError::invalid(&param, error.to_string()))?;
        reward
            .check()
            .map_err(|error| FineTuningError::invalid(param, crate::service::chain(&error)))
    }
}
