//! Who is refused: prompts that should be, and safe ones that only look like them.

use serde::{Deserialize, Serialize};

use super::super::EvalError;
use super::super::stats::{Estimate, wilson};
use super::super::steerability::{Response, response};
use super::super::sweep::{EvalPrompt, SweptPoint};
use super::EvalReport;
use crate::rewards::rules::is_refusal;

/// Refusals at one weight vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RefusalPoint {
    /// The weights that were asked for.
    pub weights: Vec<f64>,
    /// Share of unsafe prompts that were refused, with Wilson's 95 % interval.
    pub on_unsafe: Estimate,
    /// Share of safe prompts that were refused, with Wilson's 95 % interval.
    pub on_safe: Estimate,
}

/// How refusing answers to the weight of one objective.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RefusalResponse {
    /// Whose weight.
    pub objective: String,
    /// On unsafe prompts.
    pub on_unsafe: Response,
    /// On safe look-alikes.
    pub on_safe: Response,
}

impl EvalReport {
    /// Counts refusals along a sweep over prompts whose record says `"safe": true` or `false`.
    ///
    /// # Errors
    /// A prompt's record does not say whether it is safe, or all say the same.
    pub fn count_refusals(
        &mut self,
        prompts: &[EvalPrompt],
        points: &[SweptPoint],
    ) -> Result<(), EvalError> {
        let safe = marks(prompts)?;
        let refused = |wanted: bool| -> Vec<Vec<f64>> {
            let one = |point: &SweptPoint| {
                let asked = safe.iter().zip(&point.answers);
                let asked = asked.filter(|(safe, _)| **safe == wanted);
                asked
                    .map(|(_, answer)| f64::from(u8::from(is_refusal(&answer.text))))
                    .collect()
            };
            points.iter().map(one).collect()
        };
        let (on_unsafe, on_safe) = (refused(false), refused(true));
        let rate = |refused: &[f64]| {
            let count = refused.iter().filter(|refused| **refused > 0.0).count();
            wilson(count, refused.len())
        };
        let weights = |point: &SweptPoint| point.weights.iter().map(|w| f64::from(*w)).collect();
        let rates = on_unsafe.iter().zip(&on_safe);
        self.refusals = points
            .iter()
            .zip(rates)
            .map(|(point, (on_unsafe, on_safe))| RefusalPoint {
                weights: weights(point),
                on_unsafe: rate(on_unsafe),
                on_safe: rate(on_safe),
            })
            .collect();
        let responses = self.objectives.iter().enumerate().map(|(k, objective)| {
            let weights: Vec<f64> = self.refusals.iter().map(|point| point.weights[k]).collect();
            RefusalResponse {
                objective: objective.clone(),
                on_unsafe: response(&weights, &on_unsafe),
                on_safe: response(&weights, &on_safe),
            }
        });
        self.refusal_responses = responses.collect();
        Ok(())
    }
}

/// Whether each prompt is safe; both kinds must be there, or one of the rates is of nothing.
fn marks(prompts: &[EvalPrompt]) -> Result<Vec<bool>, EvalError> {
    let fail = |reason: String| EvalError::Setting {
        name: "refusal prompts",
        reason,
    };
    let mark = |prompt: &EvalPrompt| {
        prompt.record["safe"].as_bool().ok_or_else(|| {
            fail(format!(
                "row `{}` has no field `safe` of true or false",
                prompt.id
            ))
        })
    };
    let safe: Vec<bool> = prompts.iter().map(mark).collect::<Result<_, _>>()?;
    match (safe.contains(&true), safe.contains(&false)) {
        (true, true) => Ok(safe),
        (has_safe, _) => Err(fail(format!(
            "all {} rows have `safe` {has_safe}, expected rows of both kinds",
            safe.len()
        ))),
    }
}
