//! DPO on preferences that were gathered before (arXiv 2305.18290).
//!
//! The loss, its terms and the reference are those of MO-ODPO; what differs is where pairs come
//! from. A pair may say under which objective weights it holds: then they stand in its prompt, and
//! the same two answers may come again under other weights, the other way round.

mod pair_set;
mod setup;

use std::time::Instant;

use super::TrainingError;
use super::config::{DpoJob, TermSettings};
use super::observe::{Ending, StepReport, TrainObserver};
use super::preference_step::{
    Objective, PreferenceStep, TrainPair, preference_measure, preference_step, trained_tokens,
};
use super::schedule::learning_rate;
use crate::eval::stats::mean;
use pair_set::PairSet;
use setup::Trainer;

/// Runs a job to its end, from its newest saved state where there is one. The result is in
/// `policy/` of the job's folder, with `steering.json` where it can be steered.
pub fn run(job: &DpoJob, observer: &mut dyn TrainObserver) -> Result<Ending, TrainingError> {
    let mut trainer = Trainer::load(job, observer)?;
    while trainer.course.step < job.job.steps {
        let mut report = trainer.take_step(observer)?;
        let last = trainer.course.step == job.job.steps;
        if last || trainer.course.step.is_multiple_of(job.measure_every) {
            trainer.measure(&mut report)?;
        }
        trainer.course.metrics.write(&report)?;
        observer.step(&report);
        let stop = observer.stop_requested() && !last;
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
        let chosen = self.course.deal.next(self.job.pairs_per_step);
        let budget = self.job.micro_batch_tokens;
        self.train
            .add_reference(&chosen, self.policy.reference(), budget)?;
        let referred = Instant::now();
        let pairs = self.train.taken(&chosen);
        let mut step = self.differentiate(&pairs)?;
        let norm = step.gradients.clip(self.optimizer.max_grad_norm)?;
        let rate = learning_rate(&self.optimizer, self.course.step, self.job.job.steps);
        if self
            .course
            .guard
            .check(self.course.step + 1, step.loss, norm, observer)?
        {
            self.course.adam.step(&step.gradients, rate)?;
        }
        self.course.step += 1;

        let mut report = StepReport::new(self.course.step, self.job.job.steps);
        record_update(&mut report, &pairs, &step, self.job.loss.beta);
        let tokens: usize = pairs.iter().map(TrainPair::tokens).sum();
        report.record("grad_norm", norm);
        report.record("learning_rate", rate);
        report.record("epoch", self.course.deal.epoch());
        report.record("tokens", tokens as f64);
        report.record("trained_tokens", trained_tokens(&pairs) as f64);
        report.cost(started.elapsed().as_secs_f64(), tokens);
        report.time("reference_seconds", (referred - started).as_secs_f64());
        report.time("train_seconds", referred.elapsed().as_secs_f64());
        Ok(report)
    }

    fn differentiate(&self, pairs: &[TrainPair]) -> Result<PreferenceStep, TrainingError> {
        let terms = self.terms();
        let policy = self.policy.trainable();
        preference_step(policy.live(), policy.vars(), pairs, self.objective(&terms))
    }

    fn terms(&self) -> TermSettings {
        TermSettings {
            anchor_weight: self.job.terms.anchor_weight,
            ..TermSettings::default()
        }
    }

    fn objective<'a>(&'a self, terms: &'a TermSettings) -> Objective<'a> {
        Objective {
            loss: &self.job.loss,
            terms,
            micro_batch_tokens: self.job.micro_batch_tokens,
            keep: self.job.policy.keep(),
        }
    }

    /// Preference loss and accuracy on the test pairs, where there are any.
    fn measure(&mut self, report: &mut StepReport) -> Result<(), TrainingError> {
        if self.test.is_empty() {
            return Ok(());
        }
        let all: Vec<usize> = (0..self.test.len()).collect();
        let budget = self.job.micro_batch_tokens;
        self.test
            .add_reference(&all, self.policy.reference(), budget)?;
        let terms = self.terms();
        let live = self.policy.trainable().live();
        let (loss, margins) = preference_measure(live, self.test.pairs(), self.objective(&terms))?;
        report.record("test_loss", loss);
        report.record("test_accuracy", share_right(&margins));
        report.record("test_margin", mean_of(&margins));
        Ok(())
    }
}

/// Loss, margins and how far each side's log-probability has moved from the reference's.
///
/// What the answers' log-ratios say is no KL: the policy did not draw them.
fn record_update(report: &mut StepReport, pairs: &[TrainPair], step: &PreferenceStep, beta: f64) {
    let column = |i: usize| {
        mean(
            &step
                .policy
                .iter()
                .map(|p| f64::from(p[i]))
                .collect::<Vec<_>>(),
        )
    };
    let moved = |i: usize| {
        let changes = pairs.iter().zip(&step.policy);
        let changes = changes.map(|(pair, p)| f64::from(p[i]) - f64::from(pair.reference[i]));
        mean(&changes.collect::<Vec<_>>())
    };
    report.record("loss", step.loss);
    report.record("margin", mean_of(&step.margins));
    report.record("accuracy", share_right(&step.margins));
    report.record("implicit_reward/chosen", beta * moved(0));
    report.record("implicit_reward/rejected", beta * moved(1));
    report.record("logps/chosen", column(0));
    report.record("logps/rejected", column(1));
}

fn mean_of(margins: &[f32]) -> f64 {
    mean(&margins.iter().map(|m| f64::from(*m)).collect::<Vec<_>>())
}

fn share_right(margins: &[f32]) -> f64 {
    let right = margins.iter().filter(|margin| **margin > 0.0).count();
    right as f64 / margins.len().max(1) as f64
}
