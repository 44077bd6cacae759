//! Reward models: a decoder with a score head, trained on which of two answers was preferred.
//!
//! The score of an answer is one linear function of the hidden state at the conversation's last
//! token; the loss is Bradley-Terry's, -log sigmoid(score(chosen) - score(rejected)).

mod agreement;
mod card;
mod checkpoint;
mod setup;

use std::time::Instant;

use candle_core::Tensor;

use super::TrainingError;
use super::config::RewardModelJob;
use super::gradients::Gradients;
use super::logps::pack;
use super::loss::log_sigmoid;
use super::observe::{Ending, StepReport, TrainObserver};
use super::passes::{Keep, Passes};
use super::schedule::learning_rate;
use crate::types::TokenId;
pub use agreement::Agreement;
use agreement::Judged;
pub use card::RewardCard;
use setup::Trainer;

/// Two conversations as token ids: the prompt with each answer, end tokens included.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenPair {
    /// With the preferred answer, then with the other.
    pub conversations: [Vec<TokenId>; 2],
    /// Tokens of the two answers, end tokens included, though the conversations are cut.
    pub answer_tokens: [usize; 2],
}

impl TokenPair {
    fn tokens(&self) -> usize {
        self.conversations.iter().map(Vec::len).sum()
    }
}

/// Runs a job to its end, from its newest saved state where there is one. The finished model is
/// in `model/` of the job's folder, its agreement with the test pairs in `agreement.json`.
pub fn run(
    job: &RewardModelJob,
    observer: &mut dyn TrainObserver,
) -> Result<Ending, TrainingError> {
    let mut trainer = Trainer::load(job, observer)?;
    while trainer.course.step < job.job.steps {
        let report = trainer.take_step(observer)?;
        trainer.course.metrics.write(&report)?;
        observer.step(&report);
        let stop = observer.stop_requested() && trainer.course.step < job.job.steps;
        if stop || trainer.course.step.is_multiple_of(job.job.save_every) {
            trainer.save(observer)?;
        }
        if stop {
            return Ok(Ending::Interrupted);
        }
    }
    trainer.save(observer)?;
    let agreement = trainer.agreement(&trainer.test)?;
    trainer.publish(&agreement, observer)?;
    Ok(Ending::Finished)
}

impl Trainer<'_> {
    fn take_step(&mut self, observer: &mut dyn TrainObserver) -> Result<StepReport, TrainingError> {
        let started = Instant::now();
        let chosen = self.course.deal.next(self.job.pairs_per_step);
        let pairs: Vec<&TokenPair> = chosen.into_iter().map(|i| &self.train[i]).collect();
        let mut outcome = self.differentiate(&pairs)?;
        let norm = outcome.gradients.clip(self.optimizer.max_grad_norm)?;
        let rate = learning_rate(&self.optimizer, self.course.step, self.job.job.steps);
        let tokens: usize = pairs.iter().map(|pair| pair.tokens()).sum();
        if self
            .course
            .guard
            .check(self.course.step + 1, outcome.loss, norm, observer)?
        {
            self.course.adam.step(&outcome.gradients, rate)?;
        }
        self.course.step += 1;

        let mut report = StepReport::new(self.course.step, self.job.job.steps);
        report.record("loss", outcome.loss);
        let right = outcome
            .margins
            .iter()
            .filter(|margin| **margin > 0.0)
            .count();
        report.record("accuracy", right as f64 / outcome.margins.len() as f64);
        let total: f64 = outcome
            .margins
            .iter()
            .map(|margin| f64::from(*margin))
            .sum();
        report.record("margin", total / outcome.margins.len() as f64);
        report.record("grad_norm", norm);
        report.record("learning_rate", rate);
        report.record("epoch", self.course.deal.epoch());
        // a score is a function of its whole conversation
        report.record("trained_tokens", tokens as f64);
        report.cost(started.elapsed().as_secs_f64(), tokens);
        Ok(report)
    }

    /// Loss and gradient of the mean over `pairs`.
    fn differentiate(&self, pairs: &[&TokenPair]) -> Result<Outcome, TrainingError> {
        let vars = self.course.adam.vars();
        let mut outcome = Outcome {
            gradients: Gradients::new(vars.len()),
            loss: 0.0,
            margins: Vec::with_capacity(pairs.len()),
        };
        let sizes: Vec<usize> = pairs.iter().map(|pair| pair.tokens()).collect();
        for range in pack(&sizes, self.job.micro_batch_tokens) {
            let mut passes = self.model.passes(self.job.policy.keep());
            let margins = self.margins(&mut passes, &pairs[range])?;
            let loss = (log_sigmoid(&margins)?.neg()?.sum_all()? / pairs.len() as f64)?;
            outcome.loss += f64::from(loss.to_scalar::<f32>()?);
            outcome.gradients.add_all(passes.backward(&loss, vars)?)?;
            outcome.margins.extend(margins.to_vec1::<f32>()?);
        }
        Ok(outcome)
    }

    /// score(chosen) - score(rejected) of each pair, differentiable.
    fn margins(
        &self,
        passes: &mut Passes<'_>,
        pairs: &[&TokenPair],
    ) -> Result<Tensor, TrainingError> {
        let conversations: Vec<&[TokenId]> = [0, 1]
            .into_iter()
            .flat_map(|i| {
                pairs
                    .iter()
                    .map(move |pair| pair.conversations[i].as_slice())
            })
            .collect();
        let scores = self.model.scores(passes, &conversations)?;
        let count = pairs.len();
        Ok((scores.narrow(0, 0, count)? - scores.narrow(0, count, count)?)?)
    }

    fn agreement(&self, pairs: &[TokenPair]) -> Result<Agreement, TrainingError> {
        let sizes: Vec<usize> = pairs.iter().map(TokenPair::tokens).collect();
        let mut margins = Vec::with_capacity(pairs.len());
        for range in pack(&sizes, self.job.micro_batch_tokens) {
            let batch: Vec<&TokenPair> = pairs[range].iter().collect();
            let mut passes = self.model.passes(Keep::Nothing);
            margins.extend(self.margins(&mut passes, &batch)?.to_vec1::<f32>()?);
        }
        let judged = pairs.iter().zip(margins).map(|(pair, margin)| Judged {
            margin,
            answer_tokens: pair.answer_tokens,
        });
        Ok(Agreement::of(&judged.collect::<Vec<_>>()))
    }
}

/// A step's gradient and margins.
struct Outcome {
    gradients: Gradients,
    loss: f64,
    margins: Vec<f32>,
}
