//! The work of a training job, as its worker does it.
//!
//! Each attempt has a folder of its own, `jobs/ID/attempt-N`, and begins by taking over the sound
//! states of the one before it. So a worker that slept past its lease writes where nobody reads.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::FineTuning;
use super::observer::{CheckpointPlace, JobObserver, renamed};
use super::spec::JobSpec;
use super::trouble::{end_of, end_of_gathering};
use crate::jobs::{CheckpointNews, Job, JobEnd, JobProgress, JobTask, JobTrouble};
use crate::registry::{CheckpointId, JobShelf, RegistryError, checked_below};
use crate::service::chain;
use crate::service::watched::run_watched;
use crate::tracking::{MlflowSettings, Tracked};
use crate::training::TrainingError;
use crate::training::config::{self, TrainWhat};
use crate::training::observe::Ending;
use crate::training::state::carry_over;

/// Trains what jobs describe.
pub struct TrainingWork {
    tuning: FineTuning,
    mlflow: Option<MlflowSettings>,
}

impl TrainingWork {
    /// Over a data folder.
    pub fn new(tuning: FineTuning) -> Self {
        Self {
            tuning,
            mlflow: None,
        }
    }

    /// The same, telling a tracker of each job.
    #[must_use]
    pub fn with_mlflow(self, mlflow: Option<MlflowSettings>) -> Self {
        Self { mlflow, ..self }
    }
}

impl Job for TrainingWork {
    fn run(&self, task: &JobTask, progress: &JobProgress) -> JobEnd {
        let spec: JobSpec = match serde_json::from_str(&task.spec) {
            Ok(spec) => spec,
            Err(error) => {
                let message = format!("its settings cannot be read by this version: {error}");
                return JobEnd::Failed(JobTrouble::new("invalid_setting", message));
            }
        };
        match self.attempt(task, &spec, progress) {
            Ok(end) => end,
            Err(error) => end_of(&error),
        }
    }
}

impl TrainingWork {
    fn attempt(
        &self,
        task: &JobTask,
        spec: &JobSpec,
        progress: &JobProgress,
    ) -> Result<JobEnd, TrainingError> {
        let root = self.tuning.job(task.id.as_str());
        let output = root.join(folder_name(task.attempt));
        fs::create_dir_all(&output).map_err(|source| TrainingError::file(&output, source))?;
        let (step, older) = take_over(&root, task.attempt, progress)?;
        let runtime = progress.runtime();
        let start = match self.gather(spec, runtime) {
            Ok(start) => start,
            Err(error) => return Ok(end_of_gathering(&error)),
        };
        let uploads = self.tuning.uploads(runtime);
        let job = spec.job(|id| uploads.path(id), start.as_deref(), &output)?;
        let place = CheckpointPlace {
            data_dir: self.tuning.data_dir.clone(),
            root: root.clone(),
            shelf: self
                .tuning
                .bucket
                .as_ref()
                .map(|bucket| JobShelf::new(bucket, runtime, task.id.as_str())),
        };
        let mut observer = JobObserver::new(progress, place, trained_tokens(&output, step));
        observer.older = older;
        let tracked = || Tracked {
            name: spec.name.clone(),
            folder: root.clone(),
            settings: json!({"method": spec.method, "model": spec.model, "job": task.id.as_str(),
                "hyperparameters": spec.hyperparameters}),
        };
        let tracker = self.mlflow.as_ref().map(|mlflow| (mlflow, tracked()));
        if run_watched(&job, &mut observer, tracker)? == Ending::Interrupted {
            return Ok(JobEnd::Stopped);
        }
        let made = output.join(result_name(&job));
        let content = match observer.place.keep(&made) {
            Ok(content) => content,
            Err(error) => return Ok(not_kept(&error)),
        };
        let folder = observer.place.below(&made);
        let metrics = match observer.last.is_empty() {
            // all steps were done before this attempt began
            true => last_metrics(&output),
            false => Value::Object(observer.last),
        };
        let steps = spec.steps();
        progress.checkpoint(CheckpointNews {
            step: steps,
            folder: folder.clone(),
            metrics: metrics.to_string(),
            content,
        });
        let result = json!({"fine_tuned_model": spec.name, "folder": folder});
        Ok(JobEnd::Succeeded(result.to_string()))
    }
}

impl TrainingWork {
    /// Sees to it that what the job reads is on this machine as it was when the job was made; the
    /// folder of the checkpoint that it starts from, if it does from one.
    fn gather(&self, spec: &JobSpec, runtime: &Handle) -> Result<Option<PathBuf>, RegistryError> {
        let uploads = self.tuning.uploads(runtime);
        for (id, content) in &spec.files {
            uploads.checked(id, content)?;
        }
        let Some(id) = &spec.start_checkpoint else {
            return Ok(None);
        };
        let (data_dir, bucket) = (&self.tuning.data_dir, self.tuning.bucket.as_ref());
        checked_below(data_dir, bucket, runtime, &CheckpointId::parse(id)?).map(Some)
    }
}

/// All steps are done, but servers cannot have the result yet.
fn not_kept(error: &RegistryError) -> JobEnd {
    let told = chain(error);
    let message = format!(
        "what was trained cannot be handed to the registry ({told}); it is whole on the worker's \
         disk: mend that and resume the job"
    );
    JobEnd::Paused(JobTrouble::new("registry_unavailable", message))
}

fn folder_name(attempt: i64) -> String {
    format!("attempt-{attempt:08}")
}

/// Where a finished run puts what it made.
fn result_name(job: &config::Job) -> &'static str {
    match job {
        config::Job::MoOdpo(_) | config::Job::Dpo(_) => "policy",
        config::Job::Supervised(job) if job.policy.train == TrainWhat::Lora => "adapter",
        config::Job::Supervised(_) | config::Job::RewardModel(_) => "model",
    }
}

/// Takes the newest sound states of earlier attempts over into this one's folder; returns the
/// step after which it goes on, 0 where it begins anew, and the folders of attempts that nobody
/// needs once this one has saved a state of its own.
fn take_over(
    root: &Path,
    attempt: i64,
    progress: &JobProgress,
) -> Result<(u64, Vec<PathBuf>), TrainingError> {
    let target = root.join(folder_name(attempt));
    let mut earlier = attempts(root)?;
    earlier.retain(|folder| *folder < target);
    if earlier.is_empty() && attempt > 1 {
        let told = "nothing of the attempts before is on this worker's disk: the job begins anew";
        progress.note("warn", told);
    }
    while let Some(folder) = earlier.pop() {
        let carried = carry_over(&folder, &target)?;
        for damage in &carried.damaged {
            progress.note("warn", format!("not used: {damage}"));
        }
        if let Some(step) = carried.step {
            return Ok((step, earlier));
        }
    }
    Ok((0, Vec::new()))
}

/// Folders of attempts, oldest first.
fn attempts(root: &Path) -> Result<Vec<PathBuf>, TrainingError> {
    let fail = |source| TrainingError::file(root, source);
    let mut found = Vec::new();
    for entry in fs::read_dir(root).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if entry.file_name().to_string_lossy().starts_with("attempt-") {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The steps that a folder's metrics tell of.
fn metrics(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Tokens trained on up to a step.
fn trained_tokens(folder: &Path, step: u64) -> i64 {
    let lines = metrics(folder).into_iter();
    lines
        .filter(|line| line["step"].as_u64().is_some_and(|done| done <= step))
        .filter_map(|line| line["trained_tokens"].as_f64())
        .map(|tokens| tokens as i64)
        .sum()
}

fn last_metrics(folder: &Path) -> Value {
    let last = metrics(folder).pop().unwrap_or_default();
    let named = last.as_object().into_iter().flatten();
    let named = named.map(|(name, value)| (renamed(name).to_owned(), value.clone()));
    Value::Object(named.collect())
}
