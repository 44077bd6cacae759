//! MO-ODPO: online DPO for several objectives at once (arXiv 2503.00295).
//!
//! Each step, for each prompt x: draw objective weights w and write them into the prompt, x' =
//! w + x; draw two completions from the policy itself, y1, y2 ~ pi(. | x'); score them,
//! s_i = sum_k w_k R_k(x, y_i), on the prompt *without* w; call the better one y+; and minimise
//!
//! ```text
//! -log sigmoid( beta [ log pi(y+|x') / pi_ref(y+|x')  -  log pi(y-|x') / pi_ref(y-|x') ] )
//! ```
//!
//! The reference is the policy as it started, with the same x'. What is around this page:
//! `setup` loads the parts, `rollout` draws, `pairs` labels, `preference_step` differentiates.

mod metrics;
mod setup;

use std::time::Instant;

use super::TrainingError;
use super::config::MoOdpoJob;
use super::logps::Sequence;
use super::observe::{Ending, StepReport, TrainObserver};
use super::pairs::{Answer, PairCounts, Verdict, judge};
use super::preference_step::{Contrast, Objective, PreferenceStep, TrainPair, preference_step};
use super::rollout::{self, Rollout};
use super::schedule::learning_rate;
use super::seeds::stream;
use crate::steering::WeightVector;
use crate::types::TokenId;
use metrics::Seen;
use setup::Trainer;

/// Runs a job to its end, from its newest saved state where there is one.
pub fn run(job: &MoOdpoJob, observer: &mut dyn TrainObserver) -> Result<Ending, TrainingError> {
    let mut trainer = match Trainer::load(job, observer) {
        // while the statistics were fitted: there is nothing yet to save
        Err(error) if error.is_called_off() => return Ok(Ending::Interrupted),
        loaded => loaded?,
    };
    while trainer.course.step < job.job.steps {
        let dealt = trainer.course.deal.dealt();
        let report = match trainer.take_step(observer) {
            Ok(report) => report,
            Err(error) if error.is_called_off() || error.is_service_failure() => {
                // completions and rewards come before anything of a step changes, so only its
                // prompts are dealt back
                trainer.course.deal.go_to(dealt);
                let is_new = !trainer.course.is_saved();
                trainer.save(observer)?;
                if !error.is_called_off() {
                    return Err(error);
                }
                if is_new && trainer.course.step > 0 {
                    trainer.publish_on_the_way(observer)?;
                }
                return Ok(Ending::Interrupted);
            }
            Err(error) => return Err(error),
        };
        trainer.course.metrics.write(&report)?;
        observer.step(&report);
        // the step that went too far is told before it ends the run
        trainer.check_kl()?;
        let stop = observer.stop_requested() && trainer.course.step < job.job.steps;
        if stop || trainer.course.step.is_multiple_of(job.job.save_every) {
            trainer.save(observer)?;
            trainer.publish_on_the_way(observer)?;
        }
        if stop {
            return Ok(Ending::Interrupted);
        }
    }
    trainer.save(observer)?;
    trainer.publish(observer)?;
    Ok(Ending::Finished)
}

impl Trainer<'_> {
    fn take_step(&mut self, observer: &mut dyn TrainObserver) -> Result<StepReport, TrainingError> {
        let started = Instant::now();
        let chosen = self.course.deal.next(self.job.rollout.prompts_per_step);
        let rows: Vec<_> = chosen
            .into_iter()
            .map(|row| (row, &self.rows[row]))
            .collect();

        // w, x' and y1, y2
        let source = self.policy.sampler()?;
        let mut rollouts =
            self.sampler()
                .roll(source, ("rollout", self.course.step), &rows, observer)?;
        let sampled = Instant::now();

        // R_k(x, y_i), then y+ and y-
        rollout::reward(&self.suite, &self.rows, &mut rollouts, &|| {
            observer.stop_requested()
        })?;
        let (mut pairs, counts) = self.label(&rollouts)?;
        let rewarded = Instant::now();

        // log pi_ref, the loss, and its gradient
        let rate = learning_rate(&self.optimizer, self.course.step, self.job.job.steps);
        let mut update = None;
        if !pairs.is_empty() {
            self.add_reference(&mut pairs)?;
            let mut step = self.differentiate(&pairs)?;
            let norm = step.gradients.clip(self.optimizer.max_grad_norm)?;
            if self
                .course
                .guard
                .check(self.course.step + 1, step.loss, norm, observer)?
            {
                self.course.adam.step(&step.gradients, rate)?;
            }
            update = Some((step, norm));
        }
        self.course.step += 1;

        let mut report = StepReport::new(self.course.step, self.job.job.steps);
        let seen = Seen {
            job: self.job,
            rollouts: &rollouts,
            normalizers: &self.normalizers,
        };
        seen.record(&mut report);
        metrics::record_pairs(&mut report, &pairs, counts);
        report.record("learning_rate", rate);
        report.record("epoch", self.course.deal.epoch());
        if let Some((step, norm)) = &update {
            let kl = metrics::record_update(&mut report, &pairs, step, *norm);
            self.kl = Some(kl);
        }
        let marks = [started, sampled, rewarded];
        metrics::record_times(&mut report, &rollouts, &pairs, marks);
        Ok(report)
    }

    /// Which answer of each rollout is the better one under its own weights, and under further
    /// ones where pairs are relabelled.
    fn label(&self, rollouts: &[Rollout]) -> Result<(Vec<TrainPair>, PairCounts), TrainingError> {
        let mut counts = PairCounts::default();
        let mut pairs = Vec::with_capacity(rollouts.len());
        for (place, rollout) in rollouts.iter().enumerate() {
            let rewards = [0, 1].map(|i| self.normalize(&rollout.rewards[i]));
            let answers = [0, 1].map(|i| Answer {
                rewards: &rewards[i],
                finished: rollout.answers[i].finished,
            });
            let same = rollout.answers[0].tokens == rollout.answers[1].tokens;
            counts.duplicates += usize::from(same);
            for (number, weights) in self.judged_under(rollout, place).iter().enumerate() {
                let verdict = judge(&self.job.pairs, weights.as_slice(), answers);
                let (Verdict::Preferred { chosen, target }, false) = (verdict, same) else {
                    counts.ties += 1;
                    continue;
                };
                counts.kept += 1;
                let on_policy = number == 0;
                let prompt = if on_policy {
                    rollout.prompt.clone()
                } else {
                    self.prompt_under(rollout, weights)?
                };
                let completion = |i: usize| rollout.answers[i].tokens.clone();
                pairs.push(TrainPair {
                    prompt,
                    completions: [completion(chosen), completion(1 - chosen)],
                    target,
                    reference: [0.0; 2],
                    contrast: self.contrast(rollout, place)?,
                    on_policy,
                });
            }
        }
        Ok((pairs, counts))
    }

    /// A rollout's own weights, then those it is relabelled with.
    fn judged_under(&self, rollout: &Rollout, place: usize) -> Vec<WeightVector> {
        let mut rng = stream(
            self.job.job.seed,
            "relabel",
            &[self.course.step, place as u64],
        );
        let further = if rollout.conditioned {
            self.job.pairs.relabel
        } else {
            0
        };
        let drawn = (0..further).map(|_| self.sampler().draw_weights(&mut rng));
        std::iter::once(rollout.weights.clone())
            .chain(drawn)
            .collect()
    }

    fn prompt_under(
        &self,
        rollout: &Rollout,
        weights: &WeightVector,
    ) -> Result<Vec<TokenId>, TrainingError> {
        let prompt = &self.rows[rollout.row].prompt;
        self.sampler().conditioner.encode(prompt, Some(weights))
    }

    /// The same prompt under weights drawn anew, where the MI-EPO term asks for it.
    fn contrast(&self, rollout: &Rollout, place: usize) -> Result<Option<Contrast>, TrainingError> {
        if !self.job.terms.mi_term || !rollout.conditioned {
            return Ok(None);
        }
        let mut rng = stream(
            self.job.job.seed,
            "contrast",
            &[self.course.step, place as u64],
        );
        let other = self.sampler().draw_weights(&mut rng);
        Ok(Some(Contrast {
            prompt: self.prompt_under(rollout, &other)?,
            reference: [0.0; 2],
        }))
    }

    /// log pi_ref of every completion, under the same conditioned prompt as the policy's.
    fn add_reference(&self, pairs: &mut [TrainPair]) -> Result<(), TrainingError> {
        let mut sequences: Vec<Sequence<'_>> = Vec::with_capacity(pairs.len() * 2);
        for pair in pairs.iter() {
            sequences.extend(pair.sequences());
            if let Some(contrast) = &pair.contrast {
                sequences.extend(pair.under(&contrast.prompt));
            }
        }
        let budget = self.job.rollout.micro_batch_tokens;
        let logps = self.policy.reference().constant_logps(&sequences, budget)?;
        let mut logps = logps.as_chunks::<2>().0.iter();
        for pair in pairs {
            let mut next = || logps.next().copied().unwrap_or([f32::NAN; 2]);
            pair.reference = next();
            if let Some(contrast) = &mut pair.contrast {
                contrast.reference = next();
            }
        }
        Ok(())
    }

    fn differentiate(&self, pairs: &[TrainPair]) -> Result<PreferenceStep, TrainingError> {
        let objective = Objective {
            loss: &self.job.loss,
            terms: &self.job.terms,
            micro_batch_tokens: self.job.rollout.micro_batch_tokens,
            keep: self.job.policy.keep(),
        };
        let policy = self.policy.trainable();
        preference_step(policy.live(), policy.vars(), pairs, objective)
    }
}
