//! Dialogues that are told their own scores: the supervised stages of RiC (arXiv 2402.10207), CPO
//! (arXiv 2402.19085) and SteerLM (arXiv 2310.05344). A policy that has seen which answer goes with
//! which scores can then be asked for scores.

use super::TrainingError;
use super::config::WarmUp;
use crate::rewards::Normalizer;
use crate::steering::{ConditioningKind, NormalizerStats, ObjectiveSet};
use crate::types::ControlSpan;

/// How scores of rows become what their prompts tell.
pub struct OwnScores {
    /// Of the rows' scores, in the objectives' order; what is told is clipped where the targets end.
    pub normalizers: Vec<NormalizerStats>,
    /// Whether scores are told in units of their standard deviation, as rewards are.
    normalised: bool,
}

impl OwnScores {
    /// Takes the statistics of the rows, (rows, objectives).
    ///
    /// # Errors
    /// An objective whose scores are all equal.
    pub(super) fn fit(
        settings: &WarmUp,
        objectives: &ObjectiveSet,
        rows: &[&[f32]],
    ) -> Result<Self, TrainingError> {
        let template = &settings.conditioning;
        let normalised = template.kind == ConditioningKind::RewardTokens;
        let mut normalizers = Vec::with_capacity(objectives.len());
        for (place, objective) in objectives.iter().enumerate() {
            let scores: Vec<f32> = rows.iter().map(|row| row[place]).collect();
            let fitted = Normalizer::fit(&scores).map_err(|error| {
                TrainingError::Data(format!("scores of `{}`: {error}", objective.name))
            })?;
            let mut stats = NormalizerStats::from(fitted);
            if normalised {
                let range = template.targets[place];
                stats.clip = range.low.abs().max(range.high.abs());
            }
            normalizers.push(stats);
        }
        Ok(Self {
            normalizers,
            normalised,
        })
    }

    /// What a dialogue with these scores carries.
    pub(super) fn span(
        &self,
        settings: &WarmUp,
        objectives: &ObjectiveSet,
        scores: &[f32],
    ) -> Option<ControlSpan> {
        let told = scores.iter().zip(&self.normalizers);
        let told = told.map(|(score, stats)| match self.normalised {
            true => (score - stats.mean) / stats.std,
            false => *score,
        });
        let told: Vec<f32> = told.collect();
        settings.conditioning.render_targets(objectives, &told)
    }
}
