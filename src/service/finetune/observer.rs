//! Passes on what a training run says: each step becomes an event with its numbers, and some
//! steps a checkpoint, of which the last ones and the best one are kept.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::jobs::{CheckpointNews, JobProgress, StepNews};
use crate::registry::{JobShelf, RegistryError, content_of};
use crate::service::chain;
use crate::store::CheckpointRow;
use crate::training::observe::{StepReport, TrainObserver};

/// Checkpoints kept beside the best one.
const KEPT: usize = 3;
/// The numbers by which the best checkpoint is told: the higher mean weighted reward, or, where a
/// method has none, the lower loss on the validation file.
const BEST_BY: [(&str, f64); 2] = [("score", 1.0), ("valid_loss", -1.0)];

/// Where a job's checkpoints lie.
pub(super) struct CheckpointPlace {
    /// The data folder.
    pub(super) data_dir: PathBuf,
    /// The job's folder in it.
    pub(super) root: PathBuf,
    /// The job's place in the bucket, where there is one.
    pub(super) shelf: Option<JobShelf>,
}

impl CheckpointPlace {
    /// Where a folder lies below the data folder.
    pub(super) fn below(&self, folder: &Path) -> String {
        let below = folder.strip_prefix(&self.data_dir).unwrap_or(folder);
        below.to_string_lossy().into_owned()
    }

    /// The id of what a folder holds, which is uploaded where there is a bucket; `None` where it
    /// is no policy.
    pub(super) fn keep(&self, folder: &Path) -> Result<Option<String>, RegistryError> {
        let content = content_of(folder)?;
        if let (Some(_), Some(shelf)) = (&content, &self.shelf) {
            shelf.upload(folder)?;
        }
        Ok(content.map(|content| content.to_string()))
    }
}

/// Hears a training run for its job.
pub(super) struct JobObserver<'a> {
    progress: &'a JobProgress,
    pub(super) place: CheckpointPlace,
    trained_tokens: i64,
    /// Numbers of the last step.
    pub(super) last: Map<String, Value>,
    /// The last step.
    pub(super) step: i64,
    /// Folders that go once this attempt has saved a state of its own.
    pub(super) older: Vec<PathBuf>,
}

impl<'a> JobObserver<'a> {
    /// Goes on counting from the tokens that earlier attempts trained on.
    pub(super) fn new(
        progress: &'a JobProgress,
        place: CheckpointPlace,
        trained_tokens: i64,
    ) -> Self {
        Self {
            progress,
            place,
            trained_tokens,
            last: Map::new(),
            step: 0,
            older: Vec::new(),
        }
    }
}

impl JobObserver<'_> {
    /// Removes checkpoints that are neither of the last ones nor the best one.
    fn thin_out(&self) {
        let rows = self.progress.checkpoints();
        let score = |metrics: &str| -> Option<f64> {
            let metrics: Value = serde_json::from_str(metrics).ok()?;
            let told = |(name, sign): &(&str, f64)| Some(metrics[*name].as_f64()? * sign);
            BEST_BY.iter().find_map(told)
        };
        let best = rows
            .iter()
            .filter_map(|row| Some((score(&row.metrics)?, row.step)))
            .max_by(|one, other| one.0.total_cmp(&other.0))
            .map(|(_, step)| step);
        for row in rows.iter().skip(KEPT) {
            if Some(row.step) != best && self.progress.forget(row.step) {
                // nobody knows of it any more; what cannot be removed only takes space
                let _ = std::fs::remove_dir_all(self.place.data_dir.join(&row.folder));
                self.take_down(row.content.as_deref(), &rows, row.step);
            }
        }
    }

    /// Removes a checkpoint from the bucket, unless another step has the same content.
    fn take_down(&self, content: Option<&str>, rows: &[CheckpointRow], step: i64) {
        let (Some(content), Some(shelf)) = (content, &self.place.shelf) else {
            return;
        };
        let is_other = |row: &&CheckpointRow| row.step != step;
        let is_shared = rows
            .iter()
            .filter(is_other)
            .any(|row| row.content.as_deref() == Some(content));
        if !is_shared && let Err(error) = shelf.remove(content) {
            let why = chain(&error);
            tracing::warn!(step, "an old checkpoint stays in the bucket: {why}");
        }
    }
}

/// The name of a metric where OpenAI's API has one for it.
pub(super) fn renamed(name: &str) -> &str {
    match name {
        "loss" => "train_loss",
        "test_loss" => "valid_loss",
        name => name,
    }
}

impl TrainObserver for JobObserver<'_> {
    fn log(&mut self, line: &str) {
        self.progress.note("info", line);
    }

    fn step(&mut self, report: &StepReport) {
        let step = i64::try_from(report.step).unwrap_or(i64::MAX);
        let mut data = Map::new();
        data.insert("step".to_owned(), json!(step));
        data.insert("total_steps".to_owned(), json!(report.total_steps));
        for (name, value) in report.metrics.iter().chain(&report.timings) {
            // a number that is not finite becomes null
            data.insert(renamed(name).to_owned(), json!(value));
        }
        self.trained_tokens += report.metric("trained_tokens").map_or(0, |n| n as i64);
        let loss = report.metric("loss");
        let message = match loss {
            Some(loss) => format!("step {step}/{}: loss {loss:.4}", report.total_steps),
            None => format!("step {step}/{}: nothing to learn from", report.total_steps),
        };
        self.step = step;
        self.progress.step(StepNews {
            step,
            total_steps: i64::try_from(report.total_steps).unwrap_or(i64::MAX),
            trained_tokens: self.trained_tokens,
            message,
            data: Value::Object(data.clone()).to_string(),
        });
        self.last = data;
    }

    fn saved(&mut self, step: u64, _folder: &Path) {
        self.progress.saved(i64::try_from(step).unwrap_or(i64::MAX));
        for folder in self.older.drain(..) {
            if let Err(error) = std::fs::remove_dir_all(&folder) {
                // it only takes space
                let place = folder.display();
                tracing::warn!("an older attempt's folder stays: {place}: {error}");
            }
        }
    }

    fn checkpoint_folder(&mut self, step: u64) -> Option<PathBuf> {
        // the attempt's own, so that a worker that lost its lease writes where nobody reads
        let name = format!("step-{step:08}-attempt-{:08}", self.progress.attempt());
        Some(self.place.root.join("checkpoints").join(name))
    }

    fn published(&mut self, step: u64, folder: &Path) {
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        let content = self.place.keep(folder).unwrap_or_else(|error| {
            let why = chain(&error);
            let said = format!("the checkpoint of step {step} is on the worker's disk only: {why}");
            self.progress.note("warn", said);
            None
        });
        self.progress.checkpoint(CheckpointNews {
            step,
            folder: self.place.below(folder),
            metrics: Value::Object(self.last.clone()).to_string(),
            content,
        });
        self.thin_out();
    }

    fn stop_requested(&self) -> bool {
        self.progress.stop_requested()
    }
}
