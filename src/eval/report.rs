//! What an evaluation found, as data: computed from a sweep, written as JSON and HTML.

mod chart;
mod drawing;
mod html;
mod letters;
mod plot;
mod png;
mod point_names;
mod refusals;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::EvalError;
use super::pareto::{front, hypervolume};
use super::stats::{Estimate, bootstrap, mean, mean_interval};
use super::steerability::{Response, mean_inner_product, response};
use super::sweep::{EvalPrompt, SweepSettings, SweptPoint, score};
use super::text_measures::{Measured, TextMeasures, measure};
use crate::rewards::{Normalizer, RewardModel};
use chart::number;
pub use refusals::{RefusalPoint, RefusalResponse};

/// Seed of the bootstrap intervals: they are part of the report's text.
const BOOTSTRAP_SEED: u64 = 2503;

/// How far below the worst mean the hypervolume's reference point lies, in deviations.
const REFERENCE_MARGIN: f64 = 0.1;

/// One weight vector's results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PointReport {
    /// The weights that were asked for, in the order of the objectives.
    pub weights: Vec<f64>,
    /// Mean raw reward of each objective, with bootstrap intervals over prompts.
    pub rewards: Vec<Estimate>,
    /// Mean normalised reward of each objective.
    pub normalized: Vec<f64>,
    /// Weights times normalised rewards.
    pub score: f64,
    /// Mean of each outside judge, in the judges' order.
    pub judges: Vec<Estimate>,
    /// What the answers look like as text.
    pub text: Option<TextMeasures>,
    /// Score minus the baseline's at the same weights, paired by prompt.
    pub gain: Option<Estimate>,
}

impl PointReport {
    /// Its weights, in the order of the objectives.
    fn told(&self) -> String {
        let weights = self.weights.iter().map(|weight| number(*weight));
        weights.collect::<Vec<_>>().join(" / ")
    }
}

/// How one number answers to the weight of one objective.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedResponse {
    /// Whose weight.
    pub objective: String,
    /// Which number: the objective's own reward, or a judge.
    pub measured: String,
    /// The response.
    pub response: Response,
    /// The baseline's response.
    pub baseline: Option<Response>,
}

/// What a whole policy reaches along the grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrontReport {
    /// Mean over the grid of weights times normalised rewards.
    pub mean_inner_product: f64,
    /// Volume dominated above the reference point, in normalised rewards.
    pub hypervolume: f64,
    /// Which points no other point of the same policy dominates.
    pub front: Vec<usize>,
}

/// An evaluation's findings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// Version of this shape.
    pub format_version: u32,
    /// The policy's name.
    pub policy: String,
    /// What it is compared with.
    pub baseline: Option<String>,
    /// Names of the objectives, in order.
    pub objectives: Vec<String>,
    /// Names of the outside judges, in order.
    pub judges: Vec<String>,
    /// Prompts asked at each point.
    pub prompts: usize,
    /// How answers were drawn.
    pub sampling: SweepSettings,
    /// The frozen statistics behind normalised rewards.
    pub normalizers: Vec<Normalizer>,
    /// Reference point of both hypervolumes: a tenth of a deviation below the worst mean of policy
    /// and baseline on each objective. Volumes above another point are not comparable.
    pub reference_point: Vec<f64>,
    /// The policy, point by point.
    pub points: Vec<PointReport>,
    /// The baseline, point by point.
    pub baseline_points: Vec<PointReport>,
    /// What the policy reaches.
    pub reached: FrontReport,
    /// What the baseline reaches.
    pub baseline_reached: Option<FrontReport>,
    /// Points at which the policy's score is above the baseline's.
    pub points_above_baseline: usize,
    /// How rewards and judges answer to weights.
    pub responses: Vec<NamedResponse>,
    /// Refusal rates, where prompts for them were given.
    pub refusals: Vec<RefusalPoint>,
    /// How refusing answers to each objective's weight.
    #[serde(default)]
    pub refusal_responses: Vec<RefusalResponse>,
    /// Some answers, for a person to read.
    pub samples: Vec<Sample>,
}

/// One prompt's answers along the grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The prompt's id.
    pub id: String,
    /// Its last turn.
    pub question: String,
    /// One answer for each point.
    pub answers: Vec<String>,
}

/// What a report is computed from.
pub struct Findings<'a> {
    /// The policy's name.
    pub policy: &'a str,
    /// The prompts of the sweep.
    pub prompts: &'a [EvalPrompt],
    /// How answers were drawn.
    pub sampling: &'a SweepSettings,
    /// Name and reward of each objective, in order.
    pub objectives: &'a [(String, Box<dyn RewardModel>)],
    /// Frozen statistics, in the order of the objectives.
    pub normalizers: &'a [Normalizer],
    /// Name and measure of each outside judge.
    pub judges: &'a [(String, Box<dyn RewardModel>)],
    /// The policy's answers.
    pub points: &'a [SweptPoint],
    /// The baseline's name and answers at the same weights.
    pub baseline: Option<(&'a str, &'a [SweptPoint])>,
    /// Prompts whose answers are shown.
    pub samples: usize,
}

/// Rewards and judgements of one sweep: `[point][objective or judge][prompt]`.
struct Scored {
    rewards: Vec<Vec<Vec<f64>>>,
    normalized: Vec<Vec<Vec<f64>>>,
    judged: Vec<Vec<Vec<f64>>>,
}

impl Findings<'_> {
    /// Scores all answers and measures them.
    pub fn report(&self) -> Result<EvalReport, EvalError> {
        let scored = self.scored(self.points)?;
        let baseline = match self.baseline {
            Some((_, points)) => Some((points, self.scored(points)?)),
            None => None,
        };
        let against = baseline.as_ref().map(|(_, scored)| scored);
        let points = self.point_reports(self.points, &scored, against);
        let baseline_points = match &baseline {
            Some((swept, scored)) => self.point_reports(swept, scored, None),
            None => Vec::new(),
        };
        let reference_point = reference_point(points.iter().chain(&baseline_points));
        let above = points
            .iter()
            .filter(|p| p.gain.is_some_and(|gain| gain.value > 0.0))
            .count();
        Ok(EvalReport {
            format_version: 1,
            policy: self.policy.to_owned(),
            baseline: self.baseline.map(|(name, _)| name.to_owned()),
            objectives: names(self.objectives),
            judges: names(self.judges),
            prompts: self.prompts.len(),
            sampling: self.sampling.clone(),
            normalizers: self.normalizers.to_vec(),
            reached: reached(&points, &reference_point),
            baseline_reached: self
                .baseline
                .map(|_| reached(&baseline_points, &reference_point)),
            reference_point,
            points_above_baseline: above,
            responses: self.responses(&scored, against),
            points,
            baseline_points,
            refusals: Vec::new(),
            refusal_responses: Vec::new(),
            samples: self.sample_answers(),
        })
    }

    fn scored(&self, points: &[SweptPoint]) -> Result<Scored, EvalError> {
        let ask = |models: &[(String, Box<dyn RewardModel>)], point: &SweptPoint| {
            models
                .iter()
                .map(|(_, model)| score(model.as_ref(), self.prompts, &point.answers))
                .collect::<Result<Vec<_>, _>>()
        };
        let each = |models| {
            points
                .iter()
                .map(|p| ask(models, p))
                .collect::<Result<Vec<_>, _>>()
        };
        let rewards: Vec<Vec<Vec<f64>>> = each(self.objectives)?;
        let normalize = |rewards: &Vec<Vec<f64>>| -> Vec<Vec<f64>> {
            let each = rewards.iter().zip(self.normalizers);
            each.map(|(values, n)| {
                values
                    .iter()
                    .map(|x| f64::from(n.apply(*x as f32)))
                    .collect()
            })
            .collect()
        };
        let normalized = rewards.iter().map(normalize).collect();
        Ok(Scored {
            rewards,
            normalized,
            judged: each(self.judges)?,
        })
    }

    fn point_reports(
        &self,
        swept: &[SweptPoint],
        scored: &Scored,
        baseline: Option<&Scored>,
    ) -> Vec<PointReport> {
        let interval = |values: &Vec<f64>| mean_interval(values, BOOTSTRAP_SEED);
        swept
            .iter()
            .enumerate()
            .map(|(i, point)| {
                let weights: Vec<f64> = point.weights.iter().map(|w| f64::from(*w)).collect();
                let scores = weighted(&weights, &scored.normalized[i]);
                let gain = baseline.map(|baseline| {
                    let theirs = weighted(&weights, &baseline.normalized[i]);
                    bootstrap(scores.len(), BOOTSTRAP_SEED, |sample| {
                        let gains: Vec<f64> =
                            sample.iter().map(|&j| scores[j] - theirs[j]).collect();
                        mean(&gains)
                    })
                });
                let measured: Vec<Measured<'_>> = point
                    .answers
                    .iter()
                    .map(|a| Measured {
                        text: &a.text,
                        tokens: a.tokens,
                        finished: a.finished,
                    })
                    .collect();
                PointReport {
                    rewards: scored.rewards[i].iter().map(interval).collect(),
                    normalized: scored.normalized[i].iter().map(|v| mean(v)).collect(),
                    score: mean(&scores),
                    judges: scored.judged[i].iter().map(interval).collect(),
                    text: measure(&measured),
                    gain,
                    weights,
                }
            })
            .collect()
    }

    /// Each objective's own reward, and every judge, against each objective's weight.
    fn responses(&self, scored: &Scored, baseline: Option<&Scored>) -> Vec<NamedResponse> {
        let mut responses = Vec::new();
        for (k, (objective, _)) in self.objectives.iter().enumerate() {
            let weights: Vec<f64> = self
                .points
                .iter()
                .map(|point| f64::from(point.weights[k]))
                .collect();
            let column = |table: &[Vec<Vec<f64>>], j: usize| -> Vec<Vec<f64>> {
                table.iter().map(|point| point[j].clone()).collect()
            };
            responses.push(NamedResponse {
                objective: objective.clone(),
                measured: objective.clone(),
                response: response(&weights, &column(&scored.rewards, k)),
                baseline: baseline.map(|b| response(&weights, &column(&b.rewards, k))),
            });
            for (j, (judge, _)) in self.judges.iter().enumerate() {
                responses.push(NamedResponse {
                    objective: objective.clone(),
                    measured: judge.clone(),
                    response: response(&weights, &column(&scored.judged, j)),
                    baseline: baseline.map(|b| response(&weights, &column(&b.judged, j))),
                });
            }
        }
        responses
    }

    fn sample_answers(&self) -> Vec<Sample> {
        let shown = self.prompts.iter().enumerate().take(self.samples);
        shown
            .map(|(i, prompt)| Sample {
                id: prompt.id.clone(),
                question: prompt
                    .prompt
                    .last()
                    .map_or_else(String::new, |m| m.content.clone()),
                answers: self
                    .points
                    .iter()
                    .map(|p| p.answers[i].text.clone())
                    .collect(),
            })
            .collect()
    }
}

impl EvalReport {
    /// Writes `report.json`, `report.html`, and each plot as an `.svg` and a `.png` file.
    pub fn write(&self, folder: &Path) -> Result<(), EvalError> {
        let fail = |source| EvalError::Write {
            path: folder.to_owned(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(fail)?;
        let json = serde_json::to_string_pretty(self).map_err(std::io::Error::other);
        std::fs::write(folder.join("report.json"), json.map_err(fail)?).map_err(fail)?;
        let plots = plot::plots(self);
        for (name, drawing) in &plots {
            let path = |kind: &str| folder.join(format!("{name}.{kind}"));
            std::fs::write(path("svg"), drawing.svg()).map_err(fail)?;
            let png = drawing.png().map_err(std::io::Error::other);
            std::fs::write(path("png"), png.map_err(fail)?).map_err(fail)?;
        }
        std::fs::write(folder.join("report.html"), html::page(self, &plots)).map_err(fail)
    }
}

fn names(models: &[(String, Box<dyn RewardModel>)]) -> Vec<String> {
    models.iter().map(|(name, _)| name.clone()).collect()
}

/// Weights times rewards, prompt by prompt.
fn weighted(weights: &[f64], rewards: &[Vec<f64>]) -> Vec<f64> {
    let count = rewards.first().map_or(0, Vec::len);
    (0..count)
        .map(|j| weights.iter().zip(rewards).map(|(w, r)| w * r[j]).sum())
        .collect()
}

fn reference_point<'a>(points: impl Iterator<Item = &'a PointReport>) -> Vec<f64> {
    let mut worst: Vec<f64> = Vec::new();
    for point in points {
        if worst.is_empty() {
            worst.clone_from(&point.normalized);
        }
        for (low, value) in worst.iter_mut().zip(&point.normalized) {
            *low = low.min(*value);
        }
    }
    worst.iter().map(|low| low - REFERENCE_MARGIN).collect()
}

fn reached(points: &[PointReport], reference: &[f64]) -> FrontReport {
    let rewards: Vec<Vec<f64>> = points.iter().map(|p| p.normalized.clone()).collect();
    let weights: Vec<Vec<f64>> = points.iter().map(|p| p.weights.clone()).collect();
    FrontReport {
        mean_inner_product: mean_inner_product(&weights, &rewards),
        hypervolume: hypervolume(&rewards, reference),
        front: front(&rewards),
    }
}

#[cfg(test)]
mod tests;
