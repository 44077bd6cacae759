//! How far a job has come, whatever its kind: what the optimiser holds, what was dealt, the step.
//! Saved after a step and gone on from, to the bit.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::TrainingError;
use super::config::JobFile;
use super::fingerprint::base_hash;
use super::folder_lock::FolderLock;
use super::guard::UpdateGuard;
use super::observe::{MetricsFile, TrainObserver};
use super::optim::AdamW;
use super::seeds::Deal;
use super::state::{self, Saved};

/// How far a job has come.
pub(super) struct Course {
    /// Steps done.
    pub(super) step: u64,
    /// The trainable tensors and their moments.
    pub(super) adam: AdamW,
    /// Which rows come next.
    pub(super) deal: Deal,
    /// How many steps in a row were bad.
    pub(super) guard: UpdateGuard,
    /// What the steps told.
    pub(super) metrics: MetricsFile,
    /// Of the model that it starts from.
    pub(super) base_hash: String,
    /// The step whose state is the newest on disk.
    saved: Option<u64>,
    /// No other run may write to the folder meanwhile.
    _lock: FolderLock,
}

/// What a saved state holds beside the tensors; `own` is what only this kind of job has.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta<J, O> {
    job: J,
    base_hash: String,
    rows: usize,
    rows_dealt: u64,
    updates: u64,
    failures: u32,
    metrics_bytes: u64,
    own: O,
}

/// The newest state of a job's folder, if it has one.
pub(super) struct Found<J, O>(Option<Saved<Meta<J, O>>>);

impl Course {
    /// The start of a job over `rows` rows in its folder, and the state there to go on from once
    /// the start was checked. `max_failures` bad steps in a row end it.
    pub(super) fn open<J, O>(
        job: &J,
        adam: AdamW,
        rows: usize,
        max_failures: u32,
    ) -> Result<(Self, Found<J, O>), TrainingError>
    where
        J: JobFile + DeserializeOwned,
        O: DeserializeOwned,
    {
        let section = job.section();
        let output = &section.output;
        std::fs::create_dir_all(output).map_err(|source| TrainingError::file(output, source))?;
        let lock = FolderLock::take(output)?;
        let found = state::load_newest::<Meta<J, O>>(output)?;
        let metrics_bytes = found.as_ref().map_or(0, |found| found.meta.metrics_bytes);
        let course = Self {
            step: 0,
            adam,
            deal: Deal::resume(section.seed, rows, 0),
            guard: UpdateGuard::new(max_failures, 0),
            metrics: MetricsFile::open(output, metrics_bytes)?,
            base_hash: base_hash(&section.model)?,
            saved: None,
            _lock: lock,
        };
        Ok((course, Found(found)))
    }

    /// Goes on from a state; what of it is the job's own, `None` where there is no state.
    pub(super) fn go_on<J: JobFile, O>(
        &mut self,
        job: &J,
        found: Found<J, O>,
        observer: &mut dyn TrainObserver,
    ) -> Result<Option<O>, TrainingError> {
        let Some(mut found) = found.0 else {
            return Ok(None);
        };
        found.check_origin(
            (&found.meta.job, &found.meta.base_hash),
            (job, &self.base_hash),
        )?;
        if found.meta.rows != self.deal.rows() {
            return Err(
                found.refused("was saved over other rows; the data files have changed since")
            );
        }
        self.adam
            .restore(found.meta.updates, std::mem::take(&mut found.tensors))
            .map_err(|reason| found.refused(reason))?;
        self.deal.go_to(found.meta.rows_dealt);
        self.guard.go_on(found.meta.failures);
        self.step = found.step;
        self.saved = Some(found.step);
        observer.log(&format!("going on after step {}", self.step));
        match self.metrics.lost() {
            0 => {}
            lost => observer.log(&format!(
                "metrics.jsonl lacks {lost} bytes that it had when this state was saved; the steps \
                 told there are not all that were done"
            )),
        }
        Ok(Some(found.meta.own))
    }

    /// Whether the state after the current step is on disk.
    pub(super) fn is_saved(&self) -> bool {
        self.saved == Some(self.step)
    }

    /// Saves the state after the current step, with what is the job's `own`; a state that is
    /// already on disk is neither written nor told of again.
    pub(super) fn save<J: JobFile + Serialize>(
        &mut self,
        job: &J,
        own: &impl Serialize,
        observer: &mut dyn TrainObserver,
    ) -> Result<(), TrainingError> {
        if self.is_saved() {
            return Ok(());
        }
        let meta = Meta {
            job,
            base_hash: self.base_hash.clone(),
            rows: self.deal.rows(),
            rows_dealt: self.deal.dealt(),
            updates: self.adam.updates(),
            failures: self.guard.failures(),
            metrics_bytes: self.metrics.sync()?,
            own,
        };
        let tensors = self.adam.tensors()?;
        let folder = state::save(&job.section().output, self.step, &tensors, &meta)?;
        self.saved = Some(self.step);
        observer.saved(self.step, &folder);
        Ok(())
    }

    /// Lets `write` write what the job made to the folder `name` in its own.
    pub(super) fn publish<J: JobFile>(
        &self,
        (job, name): (&J, &str),
        observer: &mut dyn TrainObserver,
        write: impl FnOnce(&Path) -> Result<(), TrainingError>,
    ) -> Result<(), TrainingError> {
        let folder = job.section().output.join(name);
        write(&folder)?;
        observer.log(&format!("wrote {}", folder.display()));
        Ok(())
    }

    /// Lets `write` write what the job makes as it is now, where the observer wants it; the last
    /// step's is the result.
    pub(super) fn publish_on_the_way<J: JobFile>(
        &self,
        job: &J,
        observer: &mut dyn TrainObserver,
        write: impl FnOnce(&Path) -> Result<(), TrainingError>,
    ) -> Result<(), TrainingError> {
        if self.step < job.section().steps
            && let Some(folder) = observer.checkpoint_folder(self.step)
        {
            write(&folder)?;
            observer.published(self.step, &folder);
        }
        Ok(())
    }
}
