//! Everything around an MO-ODPO step: loading, statistics, guards, saving, the finished policy.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::TrainingError;
use super::super::config::{MoOdpoJob, OptimizerSettings};
use super::super::course::Course;
use super::super::data::{PromptRow, read_prompts};
use super::super::observe::TrainObserver;
use super::super::optim::AdamW;
use super::super::policy::{Policy, stop_ids};
use super::super::preference_step::TrainPair;
use super::super::rollout::{Conditioner, Sampler, reward};
use super::super::seeds::{Deal, derive};
use crate::rewards::{Normalizer, RewardSuite, build};
use crate::steering::{BaseRef, NormalizerStats, ObjectiveSet, SteeringManifest};
use crate::text::PromptEncoder;
use crate::types::TokenId;

/// A job in progress.
pub(super) struct Trainer<'a> {
    pub(super) job: &'a MoOdpoJob,
    pub(super) optimizer: OptimizerSettings,
    pub(super) rows: Vec<PromptRow>,
    pub(super) suite: RewardSuite,
    pub(super) normalizers: Vec<Normalizer>,
    pub(super) policy: Policy,
    pub(super) course: Course,
    /// Mean KL of a sequence to the reference at the last update, in nats.
    pub(super) kl: Option<f32>,
    objectives: ObjectiveSet,
    encoder: PromptEncoder,
    stop_ids: Vec<TokenId>,
}

/// What a saved state holds that other kinds of jobs have not.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    kl: Option<f32>,
    normalizers: Vec<Normalizer>,
}

impl<'a> Trainer<'a> {
    pub(super) fn load(
        job: &'a MoOdpoJob,
        observer: &mut dyn TrainObserver,
    ) -> Result<Self, TrainingError> {
        let encoder = PromptEncoder::load(&job.job.model)?;
        let seed = derive(job.job.seed, "adapter", &[]);
        let policy = Policy::load(&job.job.model, &job.policy, seed)?;
        let rewards = job.objectives.iter().map(|section| build(&section.reward));
        let suite = RewardSuite::new(rewards.collect::<Result<_, _>>()?)?;
        let optimizer = job.optimizer();
        let stop_ids = stop_ids(policy.trainable().config(), &encoder)?;
        let objectives = job.objective_set()?;
        let conditioner = Conditioner {
            objectives: &objectives,
            template: &job.conditioning,
            encoder: &encoder,
        };
        let context = policy.trainable().config().max_positions;
        let rows = read_rows(job, &conditioner, context, observer)?;
        let adam = AdamW::new(policy.trainable().vars().to_vec(), optimizer.clone());
        let failures = job.guards.max_failures;
        let (course, found) = Course::open(job, adam, rows.len(), failures)?;
        let mut trainer = Self {
            optimizer,
            rows,
            suite,
            normalizers: Vec::new(),
            policy,
            course,
            kl: None,
            objectives,
            encoder,
            stop_ids,
            job,
        };
        trainer.self_check()?;
        match trainer.course.go_on::<_, Own>(job, found, observer)? {
            Some(own) => (trainer.kl, trainer.normalizers) = (own.kl, own.normalizers),
            None => trainer.normalizers = trainer.fit_normalizers(observer)?,
        }
        Ok(trainer)
    }

    /// How prompts are written and completions drawn.
    pub(super) fn sampler(&self) -> Sampler<'_> {
        Sampler {
            conditioner: Conditioner {
                objectives: &self.objectives,
                template: &self.job.conditioning,
                encoder: &self.encoder,
            },
            settings: &self.job.rollout,
            stop_ids: &self.stop_ids,
            seed: self.job.job.seed,
        }
    }

    /// A gradient must reach every trainable tensor, or training would leave it as it is.
    fn self_check(&self) -> Result<(), TrainingError> {
        let prompt = self
            .sampler()
            .conditioner
            .encode(&self.rows[0].prompt, None)?;
        let end = self.stop_ids.first().copied().unwrap_or(0);
        let long: Vec<TokenId> = prompt.iter().rev().take(8).copied().chain([end]).collect();
        let mut pairs = [TrainPair {
            prompt,
            completions: [long, vec![end]],
            target: 1.0,
            reference: [0.0; 2],
            contrast: None,
            on_policy: true,
        }];
        self.add_reference(&mut pairs)?;
        self.differentiate(&pairs)?
            .gradients
            .self_check(self.policy.trainable().vars())
    }

    /// Mean and deviation of each reward over answers of the policy as it starts, under weights
    /// drawn as in training; frozen from here on.
    fn fit_normalizers(
        &self,
        observer: &mut dyn TrainObserver,
    ) -> Result<Vec<Normalizer>, TrainingError> {
        if let Some(fixed) = &self.job.normalization.fixed {
            return Ok(fixed.clone());
        }
        let prompts = self.job.normalization.samples.div_ceil(2);
        observer.log(&format!(
            "fitting reward statistics on {} answers",
            prompts * 2
        ));
        let mut deal = Deal::resume(
            derive(self.job.job.seed, "statistics", &[]),
            self.rows.len(),
            0,
        );
        let rows: Vec<_> = deal
            .next(prompts)
            .into_iter()
            .map(|i| (i, &self.rows[i]))
            .collect();
        let source = self.policy.reference_sampler();
        let mut rollouts = self
            .sampler()
            .roll(source, ("statistics", 0), &rows, observer)?;
        reward(&self.suite, &self.rows, &mut rollouts, &|| {
            observer.stop_requested()
        })?;
        (0..self.objectives.len())
            .map(|k| {
                let raw = rollouts
                    .iter()
                    .flat_map(|r| &r.rewards)
                    .map(|rewards| rewards[k]);
                let fitted = Normalizer::fit(&raw.collect::<Vec<_>>())?;
                let name = &self.job.objectives[k].name;
                observer.log(&format!(
                    "{name}: mean {:.4}, std {:.4}",
                    fitted.mean, fitted.std
                ));
                Ok(fitted)
            })
            .collect()
    }

    /// Normalised rewards of one answer.
    pub(super) fn normalize(&self, raw: &[f32]) -> Vec<f32> {
        raw.iter()
            .zip(&self.normalizers)
            .map(|(reward, n)| n.apply(*reward))
            .collect()
    }

    /// Ends the job where the policy has gone too far.
    pub(super) fn check_kl(&self) -> Result<(), TrainingError> {
        match (self.job.guards.kl_cap, self.kl) {
            (Some(cap), Some(kl)) if kl > cap => Err(TrainingError::KlCap {
                step: self.course.step,
                kl,
                cap,
            }),
            _ => Ok(()),
        }
    }

    /// Saves the state after the current step.
    pub(super) fn save(&mut self, observer: &mut dyn TrainObserver) -> Result<(), TrainingError> {
        let own = Own {
            kl: self.kl,
            normalizers: self.normalizers.clone(),
        };
        self.course.save(self.job, &own, observer)
    }

    /// Writes the finished policy with its manifest to `policy/` in the job's folder.
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
        let manifest = self.manifest()?;
        manifest
            .save(folder)
            .map_err(|error| TrainingError::Steering(Box::new(error)))
    }

    fn manifest(&self) -> Result<SteeringManifest, TrainingError> {
        let name = |path: &PathBuf| {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let stats = |n: &Normalizer| NormalizerStats {
            mean: n.mean,
            std: n.std,
            clip: n.clip,
        };
        let rewards: serde_json::Map<String, serde_json::Value> = self
            .job
            .objectives
            .iter()
            .map(|section| (section.name.clone(), serde_json::json!(section.reward)))
            .collect();
        let training = serde_json::json!({
            "method": "mo_odpo",
            "steps": self.course.step,
            "kl": self.kl,
            "seed": self.job.job.seed,
            "rewards": rewards,
            "rollout": self.job.rollout,
            "pairs": self.job.pairs,
            "loss": self.job.loss,
            "terms": self.job.terms,
            "optimizer": self.optimizer,
        });
        Ok(SteeringManifest {
            format_version: 1,
            name: self
                .job
                .name
                .clone()
                .unwrap_or_else(|| name(&self.job.job.output)),
            description: self.job.description.clone(),
            objectives: self.objectives.clone(),
            conditioning: self.job.conditioning.clone(),
            normalizers: self.normalizers.iter().map(stats).collect(),
            base: Some(BaseRef {
                name: name(&self.job.job.model),
                hash: self.course.base_hash.clone(),
            }),
            training,
            evaluation: serde_json::Value::Null,
        })
    }
}

/// Prompts that fit into `context` tokens, answer and conditioning included, whatever the weights.
fn read_rows(
    job: &MoOdpoJob,
    conditioner: &Conditioner<'_>,
    context: usize,
    observer: &mut dyn TrainObserver,
) -> Result<Vec<PromptRow>, TrainingError> {
    let room = context.saturating_sub(job.rollout.max_tokens);
    let longest = job.data.max_prompt_tokens.min(room);
    let conditioning = conditioner.longest_span()?;
    let (mut kept, mut left_out) = (Vec::new(), 0);
    for path in &job.data.prompts {
        for row in read_prompts(path)? {
            let tokens = conditioner.encode(&row.prompt, None)?.len();
            if tokens + conditioning <= longest {
                kept.push(row);
            } else {
                left_out += 1;
            }
        }
    }
    let count = kept.len();
    observer.log(&format!(
        "{count} prompts; {left_out} longer than {longest} tokens left out"
    ));
    if kept.is_empty() {
        return Err(TrainingError::Data(format!(
            "no prompt has at most {longest} tokens"
        )));
    }
    Ok(kept)
}
