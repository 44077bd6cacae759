//! What a step is seen to have done: rewards by objective and weight, distance, entropy, speed.

use std::time::Instant;

use super::super::config::MoOdpoJob;
use super::super::observe::StepReport;
use super::super::pairs::{self, PairCounts};
use super::super::preference_step::{PreferenceStep, TrainPair, trained_tokens};
use super::super::rollout::Rollout;
use crate::eval::stats::{deviation, mean, pearson};
use crate::rewards::Normalizer;

/// A step's rollouts with what is needed to read them.
pub(super) struct Seen<'a> {
    pub(super) job: &'a MoOdpoJob,
    pub(super) rollouts: &'a [Rollout],
    pub(super) normalizers: &'a [Normalizer],
}

impl Seen<'_> {
    /// Rewards per objective (raw), their response to the weights, and what the answers are like.
    pub(super) fn record(&self, report: &mut StepReport) {
        for (k, objective) in self.job.objectives.iter().enumerate() {
            self.record_objective(report, k, &objective.name);
        }
        report.record("score", mean(&self.scores()));
        let answers = || self.rollouts.iter().flat_map(|rollout| &rollout.answers);
        let lengths: Vec<f64> = answers().map(|a| a.text_tokens() as f64).collect();
        let finished: Vec<f64> = answers().map(|a| f64::from(u8::from(a.finished))).collect();
        let drawn: Vec<f64> = answers()
            .flat_map(|a| &a.logps)
            .map(|logp| f64::from(-*logp))
            .collect();
        report.record("completion_tokens", mean(&lengths));
        report.record("eos_rate", mean(&finished));
        // The mean surprise of drawn tokens is an unbiased estimate of the entropy where sampling
        // is neither tempered nor truncated.
        report.record("entropy", mean(&drawn));
    }

    /// Mean and deviation, means where the objective's weight is low, middle and high, and the
    /// correlation of weight and reward: positive where the policy follows.
    fn record_objective(&self, report: &mut StepReport, k: usize, name: &str) {
        let (mut weights, mut rewards) = (Vec::new(), Vec::new());
        for rollout in self.rollouts {
            for answer in &rollout.rewards {
                weights.push(f64::from(rollout.weights.as_slice()[k]));
                rewards.push(f64::from(answer[k]));
            }
        }
        report.record(format!("reward/{name}/mean"), mean(&rewards));
        report.record(format!("reward/{name}/std"), deviation(&rewards));
        for (bin, low, high) in [
            ("low", -1.0, 1.0 / 3.0),
            ("mid", 1.0 / 3.0, 2.0 / 3.0),
            ("high", 2.0 / 3.0, 2.0),
        ] {
            let inside: Vec<f64> = weights
                .iter()
                .zip(&rewards)
                .filter(|(w, _)| (low..high).contains(*w))
                .map(|(_, r)| *r)
                .collect();
            if !inside.is_empty() {
                report.record(format!("reward/{name}/{bin}_weight"), mean(&inside));
            }
        }
        if let Some(correlation) = pearson(&weights, &rewards) {
            report.record(format!("reward/{name}/weight_correlation"), correlation);
        }
    }

    /// Weighted normalised rewards, penalties taken off.
    fn scores(&self) -> Vec<f64> {
        let mut scores = Vec::with_capacity(self.rollouts.len() * 2);
        for rollout in self.rollouts {
            for (answer, raw) in rollout.answers.iter().zip(&rollout.rewards) {
                let rewards: Vec<f32> = raw
                    .iter()
                    .zip(self.normalizers)
                    .map(|(r, n)| n.apply(*r))
                    .collect();
                let answer = pairs::Answer {
                    rewards: &rewards,
                    finished: answer.finished,
                };
                let score = pairs::score(&self.job.pairs, rollout.weights.as_slice(), answer);
                scores.push(f64::from(score));
            }
        }
        scores
    }
}

/// What became of the pairs, and what was trained on.
pub(super) fn record_pairs(report: &mut StepReport, pairs: &[TrainPair], counts: PairCounts) {
    report.record("pairs", counts.kept as f64);
    report.record("trained_tokens", trained_tokens(pairs) as f64);
    report.record("tie_rate", counts.tie_rate());
    report.record("duplicate_pairs", counts.duplicates as f64);
}

/// Loss, margins, log-probabilities and KL; returns the mean KL of a sequence.
///
/// KL is the mean of log pi - log pi_ref over the kept pairs' completions that were drawn from the
/// policy itself, relabelled ones left out; there is no padding that could be summed along.
pub(super) fn record_update(
    report: &mut StepReport,
    pairs: &[TrainPair],
    step: &PreferenceStep,
    norm: f64,
) -> f32 {
    let margins: Vec<f64> = step.margins.iter().map(|m| f64::from(*m)).collect();
    let right = margins.iter().filter(|margin| **margin > 0.0).count();
    let column = |i: usize| -> Vec<f64> { step.policy.iter().map(|p| f64::from(p[i])).collect() };
    let (mut kl, mut sequences, mut tokens) = (0.0, 0, 0);
    let drawn = pairs.iter().zip(&step.policy);
    for (pair, policy) in drawn.filter(|(pair, _)| pair.on_policy) {
        for (i, completion) in pair.completions.iter().enumerate() {
            kl += f64::from(policy[i]) - f64::from(pair.reference[i]);
            sequences += 1;
            tokens += completion.len();
        }
    }
    let per_sequence = kl / f64::from(sequences.max(1));
    report.record("loss", step.loss);
    report.record("grad_norm", norm);
    report.record("margin", mean(&margins));
    report.record("accuracy", right as f64 / margins.len().max(1) as f64);
    report.record("logps/chosen", mean(&column(0)));
    report.record("logps/rejected", mean(&column(1)));
    report.record("kl/sequence", per_sequence);
    report.record("kl/token", kl / tokens.max(1) as f64);
    per_sequence as f32
}

/// Seconds and speed of each phase; `tokens_per_second` counts the tokens that training saw over the
/// whole step.
pub(super) fn record_times(
    report: &mut StepReport,
    rollouts: &[Rollout],
    pairs: &[TrainPair],
    marks: [Instant; 3],
) {
    let [started, sampled, rewarded] = marks;
    let drawn: usize = rollouts
        .iter()
        .flat_map(|rollout| &rollout.answers)
        .map(|a| a.tokens.len())
        .sum();
    let trained: usize = pairs.iter().map(TrainPair::tokens).sum();
    let [rollout, train] = [sampled - started, rewarded.elapsed()].map(|d| d.as_secs_f64());
    report.cost(started.elapsed().as_secs_f64(), trained);
    report.time("rollout_seconds", rollout);
    report.time("reward_seconds", (rewarded - sampled).as_secs_f64());
    report.time("train_seconds", train);
    report.time(
        "rollout_tokens_per_second",
        drawn as f64 / rollout.max(1e-9),
    );
    report.time("train_tokens_per_second", trained as f64 / train.max(1e-9));
}
