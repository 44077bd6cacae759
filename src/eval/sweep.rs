//! Answers every prompt under every weight vector of a grid, through the serving engine.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::EvalError;
use crate::engine::{Completion, EngineHandle, GenerationRequest, complete_unless};
use crate::model::ModelError;
use crate::rewards::{Exchange, RewardModel};
use crate::steering::{ConditioningTemplate, ObjectiveSet, WeightVector};
use crate::text::PromptEncoder;
use crate::types::{FinishReason, Message, SamplingParams, TokenId};

/// A prompt of an evaluation; it took no part in training.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalPrompt {
    /// Its name in reports.
    pub id: String,
    /// The conversation; its last turn is the user's.
    pub prompt: Vec<Message>,
    /// Its whole row, for rewards that check facts.
    pub record: Value,
}

/// How answers are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SweepSettings {
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// Sampling temperature; 0 is greedy.
    pub temperature: f32,
    /// Nucleus mass; 1 is off.
    pub top_p: f32,
    /// Keep the k likeliest tokens; 0 is off.
    pub top_k: usize,
    /// Fixes every answer. A prompt has the same seed under every weight vector, so that what
    /// differs between two answers to it is the weights' doing.
    pub seed: u64,
}

impl Default for SweepSettings {
    fn default() -> Self {
        Self {
            max_tokens: 128,
            temperature: 0.7,
            top_p: 0.9,
            top_k: 0,
            seed: 0,
        }
    }
}

/// Which adapter answers where the policy is told this of its objectives, in their order.
pub type AdapterUnder<'a, A> = dyn Fn(&[f32]) -> Result<Option<Arc<A>>, ModelError> + 'a;

/// A policy and everything that is needed to ask it.
pub struct Subject<'a, A> {
    /// The engine that serves it.
    pub engine: &'a EngineHandle<A>,
    /// Its adapter under what it is told of its objectives; none is the base model.
    pub adapter: &'a AdapterUnder<'a, A>,
    /// What is traded off.
    pub objectives: &'a ObjectiveSet,
    /// How the weights are written.
    pub template: &'a ConditioningTemplate,
    /// How conversations are written.
    pub encoder: &'a PromptEncoder,
    /// Tokens that end an answer.
    pub stop_ids: &'a [TokenId],
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub struct SweptAnswer {
    /// Its text, without the end token.
    pub text: String,
    /// Its tokens, the end token left out.
    pub tokens: usize,
    /// The policy ended it itself.
    pub finished: bool,
}

/// The answers of one weight vector, in the order of the prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct SweptPoint {
    /// The weights that were asked for.
    pub weights: Vec<f32>,
    /// One answer to each prompt.
    pub answers: Vec<SweptAnswer>,
}

/// All weight vectors whose parts are multiples of 1 / (points - 1), from all weight on the last
/// objective to all weight on the first. Two objectives give `points` vectors.
pub fn weight_grid(
    objectives: &ObjectiveSet,
    points: usize,
) -> Result<Vec<WeightVector>, EvalError> {
    if points < 2 {
        let reason = format!("{points} points per edge, expected at least 2");
        return Err(EvalError::Setting {
            name: "grid",
            reason,
        });
    }
    let steps = points - 1;
    compositions(steps, objectives.len())
        .into_iter()
        .map(|parts| {
            let weights: Vec<f64> = parts.iter().map(|n| *n as f64 / steps as f64).collect();
            Ok(objectives.from_ordered(&weights)?)
        })
        .collect()
}

/// Every way to write `total` as an ordered sum of `count` whole numbers, in lexicographic order.
fn compositions(total: usize, count: usize) -> Vec<Vec<usize>> {
    if count <= 1 {
        return vec![vec![total]; count];
    }
    let with_first = |first: usize| {
        compositions(total - first, count - 1)
            .into_iter()
            .map(move |rest| {
                let mut parts = vec![first];
                parts.extend(rest);
                parts
            })
    };
    (0..=total).flat_map(with_first).collect()
}

/// Answers every prompt under every weight vector.
pub fn sweep<A: Send + Sync + 'static>(
    subject: &Subject<'_, A>,
    prompts: &[EvalPrompt],
    grid: &[WeightVector],
    settings: &SweepSettings,
) -> Result<Vec<SweptPoint>, EvalError> {
    sweep_unless(subject, prompts, grid, settings, &|| false)
}

/// As [`sweep`], until `stop` says otherwise: then every answer under way is cancelled.
pub fn sweep_unless<A: Send + Sync + 'static>(
    subject: &Subject<'_, A>,
    prompts: &[EvalPrompt],
    grid: &[WeightVector],
    settings: &SweepSettings,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<SweptPoint>, EvalError> {
    grid.iter()
        .map(|weights| {
            let requests = requests_under(subject, prompts, weights, settings)?;
            let whole = complete_unless(subject.engine, requests, stop)?;
            let answers = whole
                .into_iter()
                .map(|completion| answer(subject.encoder, &completion))
                .collect();
            Ok(SweptPoint {
                weights: weights.as_slice().to_vec(),
                answers,
            })
        })
        .collect()
}

fn requests_under<A: Send + Sync + 'static>(
    subject: &Subject<'_, A>,
    prompts: &[EvalPrompt],
    weights: &WeightVector,
    settings: &SweepSettings,
) -> Result<Vec<GenerationRequest<A>>, EvalError> {
    let span = subject.template.render(subject.objectives, weights);
    let adapter = (subject.adapter)(&subject.template.told(weights))?;
    prompts
        .iter()
        .enumerate()
        .map(|(place, prompt)| {
            let tokens = subject.encoder.encode_chat(&prompt.prompt, span.as_ref())?;
            let sampling = sampling(settings, place as u64, subject.stop_ids);
            Ok(GenerationRequest {
                adapter: adapter.clone(),
                ..GenerationRequest::new(tokens, sampling)
            })
        })
        .collect()
}

fn answer(encoder: &PromptEncoder, completion: &Completion) -> SweptAnswer {
    let finished = completion.reason == FinishReason::Stop;
    let tokens = completion.tokens.len() - usize::from(finished);
    SweptAnswer {
        text: encoder.tokenizer().decode(&completion.tokens[..tokens]),
        tokens,
        finished,
    }
}

fn sampling(settings: &SweepSettings, place: u64, stop_ids: &[TokenId]) -> SamplingParams {
    SamplingParams {
        temperature: settings.temperature,
        top_p: settings.top_p,
        top_k: settings.top_k,
        // Any bijection of the place will do; the engine mixes the seed itself.
        seed: settings
            .seed
            .wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        max_tokens: settings.max_tokens,
        stop_token_ids: stop_ids.to_vec(),
        ..SamplingParams::default()
    }
}

/// One point's answers as rewards read them: after the prompts without weights.
pub fn exchanges<'a>(prompts: &'a [EvalPrompt], answers: &'a [SweptAnswer]) -> Vec<Exchange<'a>> {
    prompts
        .iter()
        .zip(answers)
        .map(|(prompt, answer)| Exchange {
            prompt: &prompt.prompt,
            completion: &answer.text,
            completion_tokens: answer.tokens,
            finished: answer.finished,
            record: &prompt.record,
        })
        .collect()
}

/// What a reward says of one point's answers.
pub fn score(
    reward: &dyn RewardModel,
    prompts: &[EvalPrompt],
    answers: &[SweptAnswer],
) -> Result<Vec<f64>, EvalError> {
    Ok(reward
        .score(&exchanges(prompts, answers))?
        .into_iter()
        .map(f64::from)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_of_two_is_a_line_and_of_three_a_triangle() {
        assert_eq!(compositions(2, 2), [[0, 2], [1, 1], [2, 0]]);
        let triangle = compositions(10, 3);
        assert_eq!(triangle.len(), 66);
        assert!(
            triangle
                .iter()
                .all(|parts| parts.iter().sum::<usize>() == 10)
        );
    }
}
