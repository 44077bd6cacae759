//! Everything around a DPO step: loading, saving, resuming, the finished policy.

use std::path::Path;

use super::super::TrainingError;
use super::super::config::{DpoJob, OptimizerSettings};
use super::super::course::Course;
use super::super::observe::TrainObserver;
use super::super::optim::AdamW;
use super::super::policy::{PolicySides, stop_ids};
use super::super::seeds::derive;
use super::PairSet;
use super::pair_set::PairEncoder;
use crate::steering::{BaseRef, NormalizerStats, ObjectiveSet, SteeringManifest};
use crate::text::PromptEncoder;

/// Bad steps in a row after which a job gives up.
const MAX_FAILURES: u32 = 3;

/// A job in progress.
pub(super) struct Trainer<'a> {
    pub(super) job: &'a DpoJob,
    pub(super) optimizer: OptimizerSettings,
    pub(super) train: PairSet,
    pub(super) test: PairSet,
    pub(super) policy: PolicySides,
    pub(super) course: Course,
}

impl<'a> Trainer<'a> {
    pub(super) fn load(
        job: &'a DpoJob,
        observer: &mut dyn TrainObserver,
    ) -> Result<Self, TrainingError> {
        let encoder = PromptEncoder::load(&job.job.model)?;
        let seed = derive(job.job.seed, "adapter", &[]);
        let policy = PolicySides::load(&job.job.model, &job.policy, seed)?;
        let config = policy.trainable().config();
        let stop_ids = stop_ids(config, &encoder)?;
        let reader = PairEncoder::new(job, &encoder, &stop_ids, config.max_positions)?;
        let train = read(&reader, job, observer)?;
        let test = match job.data.test.as_slice() {
            [] => PairSet::empty(),
            files => reader.read(files)?,
        };
        if !job.data.test.is_empty() {
            let (count, left_out) = (test.len(), test.left_out);
            observer.log(&format!(
                "{count} test pairs; {left_out} left out as too long"
            ));
        }
        let optimizer = job.optimizer();
        let adam = AdamW::new(policy.trainable().vars().to_vec(), optimizer.clone());
        let (course, found) = Course::open(job, adam, train.len(), MAX_FAILURES)?;
        let mut trainer = Self {
            optimizer,
            train,
            test,
            policy,
            course,
            job,
        };
        trainer.self_check()?;
        trainer.course.go_on::<_, ()>(job, found, observer)?;
        Ok(trainer)
    }

    /// A gradient must reach every trainable tensor, or training would leave it as it is.
    fn self_check(&mut self) -> Result<(), TrainingError> {
        let budget = self.job.micro_batch_tokens;
        self.train
            .add_reference(&[0], self.policy.reference(), budget)?;
        self.differentiate(&self.train.taken(&[0]))?
            .gradients
            .self_check(self.policy.trainable().vars())
    }

    /// Saves the state after the current step.
    pub(super) fn save(&mut self, observer: &mut dyn TrainObserver) -> Result<(), TrainingError> {
        self.course.save(self.job, &(), observer)
    }

    /// Writes the finished policy to `policy/` in the job's folder.
    pub(super) fn publish(&self, observer: &mut dyn TrainObserver) -> Result<(), TrainingError> {
        self.course
            .publish((self.job, "policy"), observer, |folder| {
                self.write_policy(folder)
            })
    }

    /// Writes the policy as it is now where the observer wants it; the last step's is the result.
    pub(super) fn publish_on_the_way(
        &self,
        observer: &mut dyn TrainObserver,
    ) -> Result<(), TrainingError> {
        self.course
            .publish_on_the_way(self.job, observer, |folder| self.write_policy(folder))
    }

    fn write_policy(&self, folder: &Path) -> Result<(), TrainingError> {
        self.policy.trainable().save(&self.job.job.model, folder)?;
        match self.manifest()? {
            Some(manifest) => manifest
                .save(folder)
                .map_err(|error| TrainingError::Steering(Box::new(error))),
            None => Ok(()),
        }
    }

    /// What the adapter that it started from says of the same objectives: the scale of their rewards
    /// still holds, and so do the rewards.
    fn start_manifest(
        &self,
        objectives: &ObjectiveSet,
    ) -> Result<Option<SteeringManifest>, TrainingError> {
        let start = self.job.policy.start_adapter.as_deref();
        let Some(start) = start.filter(|dir| dir.join("steering.json").is_file()) else {
            return Ok(None);
        };
        let manifest = SteeringManifest::load(start)
            .map_err(|error| TrainingError::Steering(Box::new(error)))?;
        Ok(Some(manifest).filter(|manifest| manifest.objectives == *objectives))
    }

    /// None where the policy is not steered.
    fn manifest(&self) -> Result<Option<SteeringManifest>, TrainingError> {
        let Some((objectives, template)) = self.job.steering()? else {
            return Ok(None);
        };
        let name = |path: &Path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        // preferences carry no rewards whose scale could be told
        let as_it_is = NormalizerStats {
            mean: 0.0,
            std: 1.0,
            clip: 3.0,
        };
        let before = self.start_manifest(&objectives)?;
        let mut training = serde_json::json!({
            "method": "dpo",
            "steps": self.course.step,
            "seed": self.job.job.seed,
            "pairs": self.train.len(),
            "loss": self.job.loss,
            "terms": self.job.terms,
            "optimizer": self.optimizer,
        });
        let rewards = before.as_ref().map(|it| &it.training["rewards"]);
        if let Some(rewards) = rewards.filter(|rewards| !rewards.is_null()) {
            training["rewards"] = rewards.clone();
        }
        Ok(Some(SteeringManifest {
            format_version: SteeringManifest::FORMAT_VERSION,
            name: (self.job.name.clone()).unwrap_or_else(|| name(&self.job.job.output)),
            description: self.job.description.clone(),
            normalizers: before
                .map_or_else(|| vec![as_it_is; objectives.len()], |it| it.normalizers),
            objectives,
            conditioning: template.clone(),
            base: Some(BaseRef {
                name: name(&self.job.job.model),
                hash: self.course.base_hash.clone(),
            }),
            training,
            evaluation: serde_json::Value::Null,
        }))
    }
}

/// The pairs to train on, at least one.
fn read(
    reader: &PairEncoder<'_>,
    job: &DpoJob,
    observer: &mut dyn TrainObserver,
) -> Result<PairSet, TrainingError> {
    let train = reader.read(&job.data.train)?;
    let (count, left_out, longest) = (train.len(), train.left_out, job.data.max_tokens);
    observer.log(&format!(
        "{count} pairs; {left_out} with more than {longest} tokens left out"
    ));
    if train.is_empty() {
        let objective = job.data.objective.as_deref().unwrap_or("any objective");
        return Err(TrainingError::Data(format!(
            "no pair of {objective} has at most {longest} tokens"
        )));
    }
    Ok(train)
}
