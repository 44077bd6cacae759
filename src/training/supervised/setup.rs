//! Everything around a supervised step: loading, saving, resuming.

use std::path::Path;

use super::super::TrainingError;
use super::super::batches::{TextSet, TrainSequence, read_test};
use super::super::config::{OptimizerSettings, StartFrom, SupervisedJob, TrainWhat};
use super::super::course::Course;
use super::super::observe::TrainObserver;
use super::super::optim::AdamW;
use super::super::seeds::derive;
use super::super::trainable::{Start, Trainable};
use crate::steering::{BaseRef, SteeringManifest};
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
    pub(super) course: Course,
}

impl<'a> Trainer<'a> {
    pub(super) fn load(
        job: &'a SupervisedJob,
        encoder: &'a PromptEncoder,
        observer: &mut dyn TrainObserver,
    ) -> Result<Self, TrainingError> {
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
        let adam = AdamW::new(model.vars().to_vec(), optimizer.clone());
        let (course, found) = Course::open(job, adam, texts.len(), MAX_FAILURES)?;
        let mut trainer = Self {
            optimizer,
            texts,
            test,
            model,
            course,
            job,
        };
        trainer.self_check()?;
        trainer.course.go_on::<_, ()>(job, found, observer)?;
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

    /// Saves the state after the current step.
    pub(super) fn save(&mut self, observer: &mut dyn TrainObserver) -> Result<(), TrainingError> {
        self.course.save(self.job, &(), observer)
    }

    /// Writes what was trained.
    pub(super) fn publish(&self, observer: &mut dyn TrainObserver) -> Result<(), TrainingError> {
        let name = match self.job.policy.train {
            TrainWhat::Full => "model",
            TrainWhat::Lora => "adapter",
        };
        self.course.publish((self.job, name), observer, |folder| {
            self.model.save(&self.job.job.model, folder)?;
            match self.manifest() {
                Some(manifest) => manifest
                    .save(folder)
                    .map_err(|error| TrainingError::Steering(Box::new(error))),
                None => Ok(()),
            }
        })
    }

    /// How the policy is asked for what it was told; `None` where it was told no scores.
    fn manifest(&self) -> Option<SteeringManifest> {
        let (conditioning, scores) = self.texts.scored()?;
        let name = |path: &Path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        Some(SteeringManifest {
            format_version: SteeringManifest::FORMAT_VERSION,
            name: name(&self.job.job.output),
            description: String::new(),
            objectives: conditioning.objectives.clone(),
            conditioning: conditioning.settings.conditioning.clone(),
            normalizers: scores.normalizers.clone(),
            // a whole model is its own base
            base: (self.job.policy.train == TrainWhat::Lora).then(|| BaseRef {
                name: name(&self.job.job.model),
                hash: self.course.base_hash.clone(),
            }),
            training: serde_json::json!({
                "method": "supervised",
                "steps": self.course.step,
                "seed": self.job.job.seed,
                "optimizer": self.optimizer,
            }),
            evaluation: serde_json::Value::Null,
        })
    }
}
