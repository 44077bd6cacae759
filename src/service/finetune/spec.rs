//! What a job is: from what a request says to settings that a worker can run, and back.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::hyperparameters::{self, EPOCHS, MULTIPLIER, Method, RATE, STEPS};
use super::{FileInfo, FineTuningError};
use crate::rewards::RewardConfig;
use crate::service::LivePolicy;
use crate::training::TrainingError;
use crate::training::config::Job;
use crate::training::data::RowKind;

/// Longest suffix, as in OpenAI's API.
const MAX_SUFFIX: usize = 64;
/// Most pairs of metadata, longest key, longest value, as in OpenAI's API.
const METADATA: [usize; 3] = [16, 64, 512];
/// Bytes of text that make about one token, to tell a number of steps beforehand.
const BYTES_PER_TOKEN: f64 = 4.0;

/// What a request says of a new job.
#[derive(Debug, Clone, Default)]
pub struct NewJobInput {
    /// The model to start from: the base, or a policy over it, whose adapter is trained on.
    pub model: Option<String>,
    /// The file it works on.
    pub training_file: Option<String>,
    /// The file it measures itself on.
    pub validation_file: Option<String>,
    /// `{"type": …, TYPE: {"hyperparameters", …}}`; none is `supervised`.
    pub method: Option<Value>,
    /// Hyperparameters where OpenAI's first version had them.
    pub hyperparameters: Option<Map<String, Value>>,
    /// Part of the name of what it makes.
    pub suffix: Option<String>,
    /// Fixes every random choice.
    pub seed: Option<u64>,
    /// The owner's notes.
    pub metadata: Option<Map<String, Value>>,
}

/// A job as it is stored: what was asked for, and the settings that came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct JobSpec {
    /// The model to start from, by its id.
    pub(super) model: String,
    /// What kind of job.
    pub(super) method: String,
    /// The settings that `steersman train` reads; its data are file ids, its output is empty.
    pub(super) settings: Value,
    /// All hyperparameters in effect.
    pub(super) hyperparameters: Map<String, Value>,
    /// The part of the method beside them, as it was sent.
    pub(super) rest: Map<String, Value>,
    /// The name of what it makes.
    pub(super) name: String,
    /// Part of that name.
    pub(super) suffix: Option<String>,
    /// Fixes every random choice.
    pub(super) seed: u64,
    /// The owner's notes.
    pub(super) metadata: Map<String, Value>,
}

/// What a request names, found.
pub(super) struct Found<'a> {
    /// The model to start from.
    pub(super) policy: &'a LivePolicy,
    /// The id of the base under it.
    pub(super) base: &'a str,
    pub(super) training: FileInfo,
    pub(super) validation: Option<FileInfo>,
    /// Tells the job's default name and seed from others.
    pub(super) digits: &'a str,
}

/// The method's type and its part of the request.
pub(super) struct MethodInput {
    pub(super) method: Method,
    hyperparameters: Map<String, Value>,
    rest: Map<String, Value>,
    /// Where the hyperparameters stand, for messages.
    at: String,
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

    fn part(&self, name: &str) -> String {
        format!("method.{}.{name}", self.method.as_str())
    }

    /// Which rows its files hold.
    pub(super) fn rows(&self) -> RowKind {
        match self.method {
            Method::MoOdpo => RowKind::Prompts,
            Method::Supervised => RowKind::Texts,
            Method::RewardModel => RowKind::Pairs,
        }
    }
}

impl JobSpec {
    /// Checks a request whole and fills every default in.
    pub(super) fn new(
        input: &NewJobInput,
        method: MethodInput,
        found: &Found<'_>,
    ) -> Result<Self, FineTuningError> {
        let given = hyperparameters::checked(method.method, &method.hyperparameters, &method.at)?;
        let suffix = check_suffix(input.suffix.as_deref())?;
        let seed = check_seed(input.seed, found.digits)?;
        let metadata = check_metadata(input.metadata.clone().unwrap_or_default())?;
        let name = match &suffix {
            Some(suffix) => suffix.clone(),
            None => format!("{}-{}", found.base, &found.digits[found.digits.len() - 8..]),
        };
        let mut settings = json!({
            "job": {
                "kind": method.method.as_str(),
                "model": found.policy.weights,
                "output": "",
                "seed": seed,
                "steps": 1,
            },
        });
        method.describe(&mut settings, found, &name)?;
        hyperparameters::write(method.method, &given, &mut settings);
        // the rate is needed with the other settings of the optimiser, and depends on what is
        // trained
        let bare = {
            let mut bare = settings.clone();
            if let Some(object) = bare.as_object_mut() {
                object.remove("optimizer");
            }
            bare
        };
        let rate = learning_rate(&method.read_settings(bare)?);
        let factor = given.get(MULTIPLIER).and_then(Value::as_f64).unwrap_or(1.0);
        if !given.contains_key(RATE) {
            hyperparameters::set(
                &mut settings,
                "optimizer.learning_rate",
                json!(rate * factor),
            );
        }
        let whole = written(&method.read_settings(settings)?);
        let (epochs, steps) = method.length(&given, &whole, found);
        let mut settings = whole;
        hyperparameters::set(&mut settings, "job.steps", json!(steps));
        let settings = written(&method.read_settings(settings)?);
        let mut shown = hyperparameters::shown(method.method, &settings);
        shown.insert(EPOCHS.to_owned(), json!(epochs));
        shown.insert(MULTIPLIER.to_owned(), json!(factor));
        Ok(Self {
            model: found.policy.id.clone(),
            method: method.method.as_str().to_owned(),
            settings,
            hyperparameters: shown,
            rest: method.rest,
            name,
            suffix,
            seed,
            metadata,
        })
    }

    /// The settings, to be run on these files into this folder.
    pub(super) fn job(
        &self,
        file: impl Fn(&str) -> std::path::PathBuf,
        output: &Path,
    ) -> Result<Job, TrainingError> {
        let in_place = |path: &mut std::path::PathBuf| {
            *path = file(&path.to_string_lossy());
        };
        let mut job = Job::from_json(self.settings.clone())?;
        match &mut job {
            Job::MoOdpo(job) => {
                job.data.prompts.iter_mut().for_each(in_place);
                job.job.output = output.to_owned();
            }
            Job::Supervised(job) => {
                for source in &mut job.data.train {
                    in_place(&mut source.path);
                }
                job.data.test.iter_mut().for_each(in_place);
                job.job.output = output.to_owned();
            }
            Job::RewardModel(job) => {
                job.data.train.iter_mut().for_each(in_place);
                job.data.test.iter_mut().for_each(in_place);
                job.job.output = output.to_owned();
            }
        }
        Ok(job)
    }

    /// Steps to do.
    pub(super) fn steps(&self) -> i64 {
        self.settings["job"]["steps"].as_i64().unwrap_or(0)
    }
}

impl MethodInput {
    /// What the method's settings are beside the hyperparameters.
    fn describe(
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
        if found.policy.adapter.is_some() {
            if self.method == Method::RewardModel {
                let problem = format!(
                    "must be the base `{}`: a reward model starts from a whole model",
                    found.base
                );
                return Err(FineTuningError::invalid("model", problem));
            }
            hyperparameters::set(settings, "policy.start_adapter", json!(found.policy.dir));
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

    /// Rewards that can be checked at once are: a rule is built, a checkpoint must be there.
    fn check_reward(&self, index: usize, objective: &Value) -> Result<(), FineTuningError> {
        let param = self.part(&format!("objectives[{index}].reward"));
        let reward = RewardConfig::deserialize(&objective["reward"])
            .map_err(|error| FineTuningError::invalid(&param, error.to_string()))?;
        if let RewardConfig::Rule { rule } = &reward {
            rule.build()
                .map_err(|error| FineTuningError::invalid(&param, crate::service::chain(&error)))?;
        }
        if let RewardConfig::Classifier { path, .. } = &reward
            && !path.join("config.json").is_file()
        {
            let problem = format!("names {}, which holds no config.json", path.display());
            return Err(FineTuningError::invalid(param, problem));
        }
        Ok(())
    }

    /// Passes and steps: what was stated, else what follows from the file.
    fn length(
        &self,
        given: &Map<String, Value>,
        settings: &Value,
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
                let batch = settings["batch_tokens"].as_f64().unwrap_or(1.0);
                (found.training.bytes as f64 / BYTES_PER_TOKEN / batch, 3.0)
            }
            Method::RewardModel => {
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
    fn read_settings(&self, settings: Value) -> Result<Job, FineTuningError> {
        Job::from_json(settings).map_err(|error| match error {
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

fn learning_rate(job: &Job) -> f64 {
    match job {
        Job::MoOdpo(job) => job.optimizer().learning_rate,
        Job::Supervised(job) => job.optimizer().learning_rate,
        Job::RewardModel(job) => job.optimizer().learning_rate,
    }
}

fn written(job: &Job) -> Value {
    match job {
        Job::MoOdpo(job) => json!(job),
        Job::Supervised(job) => json!(job),
        Job::RewardModel(job) => json!(job),
    }
}

fn check_suffix(suffix: Option<&str>) -> Result<Option<String>, FineTuningError> {
    let Some(suffix) = suffix else {
        return Ok(None);
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let begins = suffix.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins || !suffix.chars().all(plain) || suffix.len() > MAX_SUFFIX || suffix == "default" {
        let problem = format!(
            "must be 1 to {MAX_SUFFIX} characters of a-z, A-Z, 0-9, `.`, `_` and `-`, the first a \
             letter or digit, and not `default`: it becomes the policy's name"
        );
        return Err(FineTuningError::invalid("suffix", problem));
    }
    Ok(Some(suffix.to_owned()))
}

fn check_seed(seed: Option<u64>, digits: &str) -> Result<u64, FineTuningError> {
    // what every JSON reader can hold
    const MOST: u64 = (1 << 53) - 1;
    match seed {
        Some(seed) if seed > MOST => {
            let problem = format!("must be a whole number from 0 to {MOST}, got {seed}");
            Err(FineTuningError::invalid("seed", problem))
        }
        Some(seed) => Ok(seed),
        // a job's own, and shown in it
        None => {
            let mut first = [0; 4];
            first.copy_from_slice(&blake3::hash(digits.as_bytes()).as_bytes()[..4]);
            Ok(u64::from(u32::from_le_bytes(first)))
        }
    }
}

fn check_metadata(metadata: Map<String, Value>) -> Result<Map<String, Value>, FineTuningError> {
    let [pairs, key, text] = METADATA;
    let sound = metadata.len() <= pairs
        && metadata.iter().all(|(name, value)| {
            let value = value.as_str();
            name.chars().count() <= key && value.is_some_and(|v| v.chars().count() <= text)
        });
    match sound {
        true => Ok(metadata),
        false => {
            let problem = format!(
                "must hold at most {pairs} strings, each of at most {text} characters under a key \
                 of at most {key}"
            );
            Err(FineTuningError::invalid("metadata", problem))
        }
    }
}
