//! Supervised training: the next token of texts, and of the assistant's turns in dialogues.
//!
//! The loss is the mean of -log p(token) over a step's trained tokens. Sequences are packed into
//! passes without padding, each seeing itself only.

mod lengths;
mod setup;

use std::time::Instant;

use candle_core::{Device, Tensor};

use super::TrainingError;
use super::batches::TrainSequence;
use super::config::SupervisedJob;
use super::gradients::Gradients;
use super::logps::pack;
use super::observe::{Ending, StepReport, TrainObserver};
use super::passes::{Keep, Passes};
use super::schedule::learning_rate;
use crate::model::ForwardBatch;
use crate::text::PromptEncoder;
use lengths::Filled;
pub use lengths::TextLengths;
use setup::Trainer;

/// Runs a job to its end, from its newest saved state where there is one. The result is in
/// `model/` of the job's folder, or in `adapter/`.
pub fn run(job: &SupervisedJob, observer: &mut dyn TrainObserver) -> Result<Ending, TrainingError> {
    let encoder = PromptEncoder::load(&job.job.model)?;
    let mut trainer = Trainer::load(job, &encoder, observer)?;
    while trainer.course.step < job.job.steps {
        let mut report = trainer.take_step(observer)?;
        let last = trainer.course.step == job.job.steps;
        if !trainer.test.is_empty()
            && (last || trainer.course.step.is_multiple_of(job.measure_every))
        {
            report.record("test_loss", trainer.test_loss()?);
        }
        trainer.course.metrics.write(&report)?;
        observer.step(&report);
        let stop = observer.stop_requested() && !last;
        if stop || trainer.course.step.is_multiple_of(job.job.save_every) {
            trainer.save(observer)?;
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
        let sequences = self.next_batch()?;
        let mut gradients = Gradients::new(self.model.vars().len());
        let trained: usize = sequences.iter().map(trained_tokens).sum();
        let tokens: usize = sequences.iter().map(|s| s.tokens.len()).sum();
        let mut loss = 0.0;
        for range in pack(&sizes(&sequences), self.job.micro_batch_tokens) {
            let mut passes = self.model.live().passes(self.job.policy.keep());
            if let Some(sum) = self.loss_sum(&mut passes, &sequences[range])? {
                let share = (sum / trained.max(1) as f64)?;
                loss += f64::from(share.to_scalar::<f32>()?);
                gradients.add_all(passes.backward(&share, self.model.vars())?)?;
            }
        }
        let norm = gradients.clip(self.optimizer.max_grad_norm)?;
        let rate = learning_rate(&self.optimizer, self.course.step, self.job.job.steps);
        if self
            .course
            .guard
            .check(self.course.step + 1, loss, norm, observer)?
        {
            self.course.adam.step(&gradients, rate)?;
        }
        self.course.step += 1;

        let mut report = StepReport::new(self.course.step, self.job.job.steps);
        report.record("loss", loss);
        report.record("grad_norm", norm);
        report.record("learning_rate", rate);
        report.record("epoch", self.course.deal.epoch());
        report.record("tokens", tokens as f64);
        report.record("trained_tokens", trained as f64);
        report.cost(started.elapsed().as_secs_f64(), tokens);
        Ok(report)
    }

    /// Sequences until the step is full; a step ends where an epoch ends, so that it meets no
    /// sequence twice.
    fn next_batch(&mut self) -> Result<Vec<TrainSequence>, TrainingError> {
        let mut sequences = Vec::new();
        let mut filled = Filled::default();
        loop {
            let turn = self.course.deal.dealt();
            let place = self.course.deal.next(1)[0];
            let sequence = self.texts.sequence(place, turn)?;
            let full = filled.add(sequence.tokens.len(), self.job);
            if trained_tokens(&sequence) > 0 {
                sequences.push(sequence);
            }
            if full || self.course.deal.is_between_epochs() {
                return Ok(sequences);
            }
        }
    }

    /// Sum of -log p over the trained tokens of one pass, differentiable; none without any.
    fn loss_sum(
        &self,
        passes: &mut Passes<'_>,
        sequences: &[TrainSequence],
    ) -> Result<Option<Tensor>, TrainingError> {
        let side = self.model.live();
        let mut batch = ForwardBatch::default();
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        for sequence in sequences
            .iter()
            .filter(|sequence| trained_tokens(sequence) > 0)
        {
            let first = batch.len();
            for (place, wanted) in sequence.targets.iter().enumerate().skip(1) {
                if *wanted {
                    rows.push((first + place - 1) as u32);
                    targets.push(sequence.tokens[place]);
                }
            }
            // The last token predicts nothing.
            let seen = &sequence.tokens[..sequence.tokens.len() - 1];
            batch.push(seen, 0, side.adapter.cloned());
        }
        if targets.is_empty() {
            return Ok(None);
        }
        let hidden = passes.forward(batch)?;
        let rows = Tensor::from_vec(rows, targets.len(), &Device::Cpu)?;
        let logps = side
            .decoder
            .token_logprobs(&hidden.index_select(&rows, 0)?, &targets)?;
        Ok(Some(logps.sum_all()?.neg()?))
    }

    /// Mean loss over the test texts.
    fn test_loss(&self) -> Result<f64, TrainingError> {
        let trained: usize = self.test.iter().map(trained_tokens).sum();
        let mut total = 0.0;
        for range in pack(&sizes(&self.test), self.job.micro_batch_tokens) {
            let mut passes = self.model.live().passes(Keep::Nothing);
            if let Some(sum) = self.loss_sum(&mut passes, &self.test[range])? {
                total += f64::from(sum.detach().to_scalar::<f32>()?);
            }
        }
        Ok(total / trained.max(1) as f64)
    }
}

fn trained_tokens(sequence: &TrainSequence) -> usize {
    sequence.targets.iter().filter(|target| **target).count()
}

fn sizes(sequences: &[TrainSequence]) -> Vec<usize> {
    sequences
        .iter()
        .map(|sequence| sequence.tokens.len())
        .collect()
}
