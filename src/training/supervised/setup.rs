//! Everything around a supervised step: loading, saving, resuming.

use serde::{Deserialize, Serialize};

use super::super::TrainingError;
use super::super::batches::{TextSet, TrainSequence, read_test};
use super::super::config::{OptimizerSettings, StartFrom, SupervisedJob, TrainWhat};
use super::super::fingerprint::base_hash;
use super::super::guard::UpdateGuard;
use super::super::observe::{MetricsFile, TrainObserver};
use super::super::optim::AdamW;
use super::super::seeds::{Deal, derive};
use super::super::state;
use super::super::trainable::{Start, Trainable};
use crate::text::PromptEncoder;

/// Bad steps in a row after which a job gives up.
const MAX_FAILURES: u32 = 3;

/// A job in progress.
pub(super) struct Trainer<'a> {
    pub(super) job: &'a SupervisedJob,
    pub(super) optimizer: OptimizerSettings,
    pub(super) texts: TextSet<'a>,
    pub(super) test: Vec<TrainSequence>,
    pub(super) model: Trainable,
    pub(super) adam: AdamW,
    pub(super) deal: Deal,
    pub(super) guard: UpdateGuard,
    pub(super) step: u64,
    pub(super) metrics: MetricsFile,
    base_hash: String,
}

/// What a saved state holds beside the tensors.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    job: SupervisedJob,
    base_hash: String,
    sequences: usize,
    sequences_dealt: u64,
    updates: u64,
    failures: u32,
    metrics_bytes: u64,
}

impl<'a> Trainer<'a> {
    pub(super) fn load(
        job: &'a SupervisedJob,
        encoder: &'a PromptEncoder,
        observer: &mut dyn TrainObserver,
    ) -> Result<Self, TrainingError> {
        let output = &job.job.output;
        std::fs::create_dir_all(output).map_err(|source| TrainingError::file(output, source))?;
        let start = match job.start {
            StartFrom::Checkpoint => Start::Checkpoint,
            StartFrom::Fresh => Start::Fresh,
        };
        let seed = derive(job.job.seed, "model", &[]);
        let model = Trainable::load(&job.job.model, &job.policy, start, seed)?;
        let context = model.config().max_positions;
        if job.data.max_tokens > context {
            let reason = format!("{}, the model's context is {context}", job.data.max_tokens);
            return Err(TrainingError::setting("data.max_tokens", reason));
        }
        let texts = TextSet::read(job, encoder)?;
        let test = read_test(&job.data, encoder)?;
        observer.log(&format!(
            "{} sequences to train on, {} to test on",
            texts.len(),
            test.len()
        ));
        let optimizer = job.optimizer();
        let found = state::load_newest::<Saved>(output)?;
        let metrics_bytes = found.as_ref().map_or(0, |found| found.meta.metrics_bytes);
        let mut trainer = Self {
            adam: AdamW::new(model.vars().to_vec(), optimizer.clone()),
            optimizer,
            deal: Deal::resume(job.job.seed, texts.len(), 0),
            texts,
            test,
            model,
            guard: UpdateGuard::new(MAX_FAILURES, 0),
            step: 0,
            metrics: MetricsFile::open(output, metrics_bytes)?,
            base_hash: base_hash(&job.job.model)?,
            job,
        };
        trainer.self_check()?;
        if let Some(found) = found {
            trainer.resume(found)?;
            observer.log(&format!("going on after step {}", trainer.step));
        }
        Ok(trainer)
    }

    /// A gradient must reach every trainable tensor, or training would leave it as it is.
    fn self_check(&self) -> Result<(), TrainingError> {
        for place in 0..self.texts.len() {
            let probe = [self.texts.sequence(place, 0)?];
            let mut passes = self.model.live().passes(self.job.policy.keep());
            if let Some(loss) = self.loss_sum(&mut passes, &probe)? {
                let vars = self.model.vars();
                return passes.backward(&loss, vars)?.self_check(vars);
            }
        }
        Err(TrainingError::Data(
            "no sequence has a token to train on".into(),
        ))
    }

    fn resume(&mut self, mut found: state::Saved<Saved>) -> Result<(), TrainingError> {
        found.check_origin(
            (&found.meta.job, &found.meta.base_hash),
            (self.job, &self.base_hash),
        )?;
        if found.meta.sequences != self.texts.len() {
            return Err(
                found.refused("was saved over other texts; the data files have changed since")
            );
        }
        self.adam
            .restore(found.meta.updates, std::mem::take(&mut found.tensors))
            .map_err(|reason| found.refused(reason))?;
        self.deal = Deal::resume(
            self.job.job.seed,
            self.texts.len(),
            found.meta.sequences_dealt,
        );
        self.guard = UpdateGuard::new(MAX_FAILURES, found.meta.failures);
        self.step = found.step;
        Ok(())
    }

    /// Saves the state after the current step.
    pub(super) fn save(&mut self, observer: &mut dyn TrainObserver) -> Result<(), TrainingError> {
        let meta = Saved {
            job: self.job.clone(),
            base_hash: self.base_hash.clone(),
            sequences: self.texts.len(),
            sequences_dealt: self.deal.dealt(),
            updates: self.adam.updates(),
            failures: self.guard.failures(),
            metrics_bytes: self.metrics.sync()?,
        };
        let tensors = self.adam.tensors()?;
        let folder = state::save(&self.job.job.output, self.step, &tensors, &meta)?;
        observer.saved(self.step, &folder);
        Ok(())
    }

    /// Writes what was trained.
    pub(super) fn publish(&self, observer: &mut dyn TrainObserver) -> Result<(), TrainingError> {
        let name = match self.job.policy.train {
            TrainWhat::Full => "model",
            TrainWhat::Lora => "adapter",
        };
        let folder = self.job.job.output.join(name);
        self.model.save(&self.job.job.model, &folder)?;
        observer.log(&format!("wrote {}", folder.display()));
        Ok(())
    }
}
