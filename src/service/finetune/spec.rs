//! What a job is: from what a request says to settings that a worker can run, and back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::hyperparameters::{self, BATCH_TOKENS, EPOCHS, MULTIPLIER, RATE};
use super::method_input::MethodInput;
use super::request_checks::{check_metadata, check_seed, check_suffix};
use super::{FileInfo, FineTuningError};
use crate::registry::{CheckpointId, FileRecord};
use crate::service::LivePolicy;
use crate::training::TrainingError;
use crate::training::config::Job;
use crate::training::supervised::TextLengths;

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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// What its files hold, by id; those that an earlier version took in are not listed.
    #[serde(default)]
    pub(super) files: BTreeMap<String, FileRecord>,
    /// The checkpoint whose adapter it goes on from, where that policy was promoted.
    #[serde(default)]
    pub(super) start_checkpoint: Option<String>,
}

/// Where the settings name the adapter to go on from.
pub(super) const START_ADAPTER: &str = "policy.start_adapter";

/// What a request names, found.
pub(super) struct Found<'a> {
    /// The model to start from.
    pub(super) policy: &'a LivePolicy,
    /// The id of the base under it.
    pub(super) base: &'a str,
    pub(super) training: FileInfo,
    pub(super) validation: Option<FileInfo>,
    /// How long the training file's texts are, where the method trains on texts.
    pub(super) texts: Option<TextLengths>,
    /// The policy's checkpoint, where it was promoted.
    pub(super) checkpoint: Option<CheckpointId>,
    /// Tells the job's default name and seed from others.
    pub(super) digits: &'a str,
}

impl Found<'_> {
    fn files(&self) -> impl Iterator<Item = &FileInfo> {
        [&self.training].into_iter().chain(&self.validation)
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
        let mut settings = method.read_settings(settings)?.settings();
        method.fill_step(&given, &mut settings, found);
        let job = method.read_settings(settings.clone())?;
        let (epochs, steps) = method.length(&given, (&job, &settings), found);
        hyperparameters::set(&mut settings, "job.steps", json!(steps));
        let settings = method.read_settings(settings)?.settings();
        let mut shown = hyperparameters::shown(method.method, &settings);
        shown.insert(EPOCHS.to_owned(), json!(epochs));
        if !settings["sequences_per_step"].is_null() {
            shown.insert(BATCH_TOKENS.to_owned(), Value::Null);
        }
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
            files: found
                .files()
                .filter_map(|file| Some((file.id.clone(), file.content.clone()?)))
                .collect(),
            start_checkpoint: found.checkpoint.as_ref().map(ToString::to_string),
        })
    }

    /// The settings, to be run on these files into this folder; `start` is where the checkpoint
    /// lies that it starts from, if it does from one.
    pub(super) fn job(
        &self,
        file: impl Fn(&str) -> PathBuf,
        start: Option<&Path>,
        output: &Path,
    ) -> Result<Job, TrainingError> {
        let in_place = |path: &mut PathBuf| {
            *path = file(&path.to_string_lossy());
        };
        let mut settings = self.settings.clone();
        if let Some(start) = start {
            hyperparameters::set(&mut settings, START_ADAPTER, json!(start));
        }
        let mut job = Job::from_json(settings)?;
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
            Job::Dpo(job) => {
                job.data.train.iter_mut().for_each(in_place);
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

fn learning_rate(job: &Job) -> f64 {
    match job {
        Job::MoOdpo(job) => job.optimizer().learning_rate,
        Job::Supervised(job) => job.optimizer().learning_rate,
        Job::Dpo(job) => job.optimizer().learning_rate,
        Job::RewardModel(job) => job.optimizer().learning_rate,
    }
}
