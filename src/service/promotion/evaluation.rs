//! A fresh evaluation of a checkpoint beside the live policy: the same prompts, weights and seeds
//! for both, scored by the checkpoint's own rewards on one scale.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::error::PromotionError;
use crate::eval::EvalError;
use crate::eval::stats::mean;
use crate::eval::steerability::{mean_inner_product, response};
use crate::eval::sweep::{
    EvalPrompt, Subject, SweepSettings, exchanges, sweep_unless, weight_grid,
};
use crate::rewards::RewardSuite;
use crate::service::app::App;
use crate::service::asker::{Asker, Wanted};
use crate::service::error::chain;
use crate::service::policy::LivePolicy;
use crate::steering::{NormalizerStats, SteeringManifest, WeightVector};

/// What a fresh evaluation asks.
#[derive(Debug, Clone, PartialEq)]
pub struct FreshEvaluation {
    /// Prompts, each answered under each weight vector.
    pub prompts: Vec<EvalPrompt>,
    /// Points per edge of the weight grid.
    pub grid: usize,
    /// How answers are drawn.
    pub sampling: SweepSettings,
}

/// Both sides and what they are measured by.
struct Measuring {
    candidate: Arc<LivePolicy>,
    live: Option<Arc<LivePolicy>>,
    suite: Arc<RewardSuite>,
    asked: FreshEvaluation,
    wanted: Wanted,
}

impl App {
    /// Measures a checkpoint, and the live policy beside it. Takes as long as its answers take,
    /// beside whoever else uses the engine. Ends, and leaves the engine, where nobody waits for it
    /// any more.
    pub(super) async fn measure(
        self: &Arc<Self>,
        (candidate, live): (&Arc<LivePolicy>, Option<Arc<LivePolicy>>),
        suite: Arc<RewardSuite>,
        asked: FreshEvaluation,
    ) -> Result<Value, PromotionError> {
        let _turn = self.measuring.lock().await;
        let asker = Asker::default();
        let measuring = Measuring {
            candidate: Arc::clone(candidate),
            live,
            suite,
            asked,
            wanted: asker.wanted(),
        };
        let app = Arc::clone(self);
        let measured = tokio::task::spawn_blocking(move || measuring.run(&app)).await;
        let measured =
            measured.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        measured.map_err(|error| PromotionError::Evaluation(chain(&error)))
    }
}

impl Measuring {
    fn run(&self, app: &App) -> Result<Value, EvalError> {
        // whoever calls has checked that both are steerable
        let Some(manifest) = &self.candidate.manifest else {
            return Ok(Value::Null);
        };
        let live = self.live.as_ref();
        let live = live.and_then(|policy| Some((policy, policy.manifest.as_ref()?)));
        // one scale for both, the one that is known
        let normalizers = live.map_or(&manifest.normalizers, |(_, live)| &live.normalizers);
        let grid = weight_grid(&manifest.objectives, self.asked.grid)?;
        let own = self.rewards(app, &self.candidate, manifest, &grid)?;
        let mut objectives = Map::new();
        for (k, objective) in manifest.objectives.iter().enumerate() {
            let weights: Vec<f64> = grid.iter().map(|w| f64::from(w.as_slice()[k])).collect();
            let values: Vec<Vec<f64>> = own
                .iter()
                .map(|rows| rows.iter().map(|row| f64::from(row[k])).collect())
                .collect();
            let found = response(&weights, &values);
            let found = json!({
                "spearman": found.spearman,
                "kendall": found.kendall,
                "monotone_violations": found.monotone_violations,
                "range": found.range,
            });
            objectives.insert(objective.name.clone(), found);
        }
        let live_score = match live {
            Some((policy, manifest)) => {
                let rewards = self.rewards(app, policy, manifest, &grid)?;
                Some(score(&grid, &rewards, normalizers))
            }
            None => None,
        };
        Ok(json!({
            "prompts": self.asked.prompts.len(),
            "points": grid.len(),
            "objectives": objectives,
            "mean_inner_product": score(&grid, &own, normalizers),
            "live_mean_inner_product": live_score,
            "normalizers": normalizers,
        }))
    }

    /// `[point][prompt][objective]`.
    fn rewards(
        &self,
        app: &App,
        policy: &LivePolicy,
        manifest: &SteeringManifest,
        grid: &[WeightVector],
    ) -> Result<Vec<Vec<Vec<f32>>>, EvalError> {
        let subject = Subject {
            engine: &app.engine,
            adapter: &|told| policy.adapter.under(told),
            objectives: &manifest.objectives,
            template: &manifest.conditioning,
            encoder: &app.encoder,
            stop_ids: app.stop_ids(),
        };
        let prompts = &self.asked.prompts;
        let stop = || self.wanted.is_over();
        let points = sweep_unless(&subject, prompts, grid, &self.asked.sampling, &stop)?;
        let scored = points.iter().map(|point| {
            let exchanges = exchanges(prompts, &point.answers);
            Ok(self.suite.score_unless(&exchanges, &stop)?)
        });
        scored.collect()
    }
}

/// Mean over the grid of weights times mean normalised rewards.
fn score(grid: &[WeightVector], rewards: &[Vec<Vec<f32>>], normalizers: &[NormalizerStats]) -> f64 {
    let wide = |w: &WeightVector| w.as_slice().iter().map(|w| f64::from(*w)).collect();
    let weights: Vec<Vec<f64>> = grid.iter().map(wide).collect();
    let means: Vec<Vec<f64>> = rewards
        .iter()
        .map(|rows| {
            let objective = |(k, n): (usize, &NormalizerStats)| {
                let values = rows
                    .iter()
                    .map(|row| f64::from(((row[k] - n.mean) / n.std).clamp(-n.clip, n.clip)));
                mean(&values.collect::<Vec<_>>())
            };
            normalizers.iter().enumerate().map(objective).collect()
        })
        .collect();
    mean_inner_product(&weights, &means)
}
