//! Draws weights for each prompt, writes them into it, and has it answered through the engine.
//!
//! Everything random is a function of the job's seed, the step and the prompt's place in it, so
//! that neither batching nor a resume changes a completion. Rewards are asked about the
//! *unprefixed* prompt: what an answer is worth does not depend on what was asked for.

use std::sync::Arc;

use rand::Rng;

use super::TrainingError;
use super::config::RolloutSettings;
use super::data::PromptRow;
use super::observe::TrainObserver;
use super::seeds::{derive, stream};
use crate::engine::{EngineHandle, GenerationRequest, complete_unless};
use crate::model::LoraAdapter;
use crate::rewards::{Exchange, RewardSuite};
use crate::steering::{ConditioningTemplate, ObjectiveSet, WeightVector};
use crate::text::PromptEncoder;
use crate::types::{FinishReason, Message, SamplingParams, TokenId};

/// One completion, as drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its tokens; where it is finished the last one is the end token.
    pub tokens: Vec<TokenId>,
    /// Each token's log-probability when it was drawn.
    pub logps: Vec<f32>,
    /// The policy ended it itself.
    pub finished: bool,
    /// Its text, without the end token.
    pub text: String,
}

impl Answer {
    /// Tokens without the end token.
    pub fn text_tokens(&self) -> usize {
        self.tokens.len() - usize::from(self.finished)
    }
}

/// A prompt under one weight vector, and two answers to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Which prompt, by its place in the data.
    pub row: usize,
    /// The weights it is judged under: those it was told, or equal ones where it was told none.
    pub weights: WeightVector,
    /// Whether the prompt carried the weights.
    pub conditioned: bool,
    /// The prompt's tokens, conditioning included.
    pub prompt: Vec<TokenId>,
    /// Two answers, drawn independently.
    pub answers: [Answer; 2],
    /// Raw rewards of each answer, in the order of the objectives; filled in by `reward`.
    pub rewards: [Vec<f32>; 2],
}

/// How prompts become token ids under weights.
#[derive(Clone, Copy)]
pub struct Conditioner<'a> {
    /// What is traded off.
    pub objectives: &'a ObjectiveSet,
    /// How weights are written.
    pub template: &'a ConditioningTemplate,
    /// How conversations are written.
    pub encoder: &'a PromptEncoder,
}

impl Conditioner<'_> {
    /// A conversation under weights, or without any, ready to be answered.
    pub fn encode(
        &self,
        prompt: &[Message],
        weights: Option<&WeightVector>,
    ) -> Result<Vec<TokenId>, TrainingError> {
        let span = weights.and_then(|weights| self.template.render(self.objectives, weights));
        Ok(self.encoder.encode_chat(prompt, span.as_ref())?)
    }

    /// Most tokens that a control span takes, fences included, whatever the weights.
    pub fn longest_span(&self) -> Result<usize, TrainingError> {
        let mut longest = 0;
        for span in self.template.spans(self.objectives) {
            let body = self.encoder.tokenizer().encode_plain(&span.body)?;
            longest = longest.max(body.len() + 2);
        }
        Ok(longest)
    }
}

/// What a step's completions are drawn with.
pub struct Sampler<'a> {
    /// How prompts are written.
    pub conditioner: Conditioner<'a>,
    /// How weights and tokens are drawn.
    pub settings: &'a RolloutSettings,
    /// Tokens that end an answer.
    pub stop_ids: &'a [TokenId],
    /// The job's seed.
    pub seed: u64,
}

/// Where completions come from: an engine and the adapter to name in requests.
pub type Source = (EngineHandle<LoraAdapter>, Option<Arc<LoraAdapter>>);

/// What a prompt is asked under.
struct Asked {
    row: usize,
    weights: WeightVector,
    conditioned: bool,
    prompt: Vec<TokenId>,
}

impl Sampler<'_> {
    /// Answers each row twice. `purpose` names the random streams, so that the statistics of the
    /// starting policy and a training step never share one. Called off as soon as the observer asks
    /// to stop.
    pub fn roll(
        &self,
        source: Source,
        (purpose, step): (&str, u64),
        rows: &[(usize, &PromptRow)],
        observer: &dyn TrainObserver,
    ) -> Result<Vec<Rollout>, TrainingError> {
        let asked: Vec<Asked> = rows
            .iter()
            .enumerate()
            .map(|(place, row)| self.ask(purpose, &[step, place as u64], *row))
            .collect::<Result<_, _>>()?;
        let (engine, adapter) = source;
        let mut requests = Vec::with_capacity(asked.len() * 2);
        for (place, asked) in asked.iter().enumerate() {
            for k in 0..2 {
                let sampling = self.sampling(purpose, &[step, place as u64, k]);
                let prompt = asked.prompt.clone();
                requests.push(GenerationRequest {
                    adapter: adapter.clone(),
                    ..GenerationRequest::new(prompt, sampling)
                });
            }
        }
        let tokenizer = self.conditioner.encoder.tokenizer();
        let mut answers = complete_unless(&engine, requests, &|| observer.stop_requested())?
            .into_iter()
            .map(|completion| {
                let finished = completion.reason == FinishReason::Stop;
                let shown = completion.tokens.len() - usize::from(finished);
                Answer {
                    text: tokenizer.decode(&completion.tokens[..shown]),
                    tokens: completion.tokens,
                    logps: completion.logprobs,
                    finished,
                }
            });
        let mut rollouts = Vec::with_capacity(asked.len());
        for asked in asked {
            let (Some(first), Some(second)) = (answers.next(), answers.next()) else {
                return Err(TrainingError::Data(
                    "the engine returned too few answers".into(),
                ));
            };
            rollouts.push(Rollout {
                row: asked.row,
                weights: asked.weights,
                conditioned: asked.conditioned,
                prompt: asked.prompt,
                answers: [first, second],
                rewards: [Vec::new(), Vec::new()],
            });
        }
        Ok(rollouts)
    }

    fn ask(
        &self,
        purpose: &str,
        counters: &[u64],
        (row, prompt): (usize, &PromptRow),
    ) -> Result<Asked, TrainingError> {
        let mut rng = stream(self.seed, &format!("{purpose} weights"), counters);
        let conditioned = rng.random::<f64>() >= self.settings.condition_dropout;
        let weights = if conditioned {
            self.draw_weights(&mut rng)
        } else {
            self.conditioner.objectives.equal()
        };
        let told = conditioned.then_some(&weights);
        let prompt = self.conditioner.encode(&prompt.prompt, told)?;
        Ok(Asked {
            row,
            weights,
            conditioned,
            prompt,
        })
    }

    /// Weights as the template can write them: the label is made under what the policy was told.
    pub fn draw_weights(&self, rng: &mut impl Rng) -> WeightVector {
        let count = self.conditioner.objectives.len();
        let drawn = self.settings.weights.draw(count, rng);
        self.conditioner.template.heard(&drawn)
    }

    fn sampling(&self, purpose: &str, counters: &[u64]) -> SamplingParams {
        SamplingParams {
            temperature: self.settings.temperature,
            top_p: self.settings.top_p,
            top_k: self.settings.top_k,
            seed: derive(self.seed, &format!("{purpose} tokens"), counters),
            max_tokens: self.settings.max_tokens,
            stop_token_ids: self.stop_ids.to_vec(),
            ..SamplingParams::default()
        }
    }
}

/// Fills in every answer's raw rewards, unless `stop` ends it.
pub fn reward(
    suite: &RewardSuite,
    rows: &[PromptRow],
    rollouts: &mut [Rollout],
    stop: &dyn Fn() -> bool,
) -> Result<(), TrainingError> {
    let exchanges: Vec<Exchange<'_>> = rollouts
        .iter()
        .flat_map(|rollout| {
            let row = &rows[rollout.row];
            rollout.answers.iter().map(|answer| Exchange {
                prompt: &row.prompt,
                completion: &answer.text,
                completion_tokens: answer.text_tokens(),
                finished: answer.finished,
                record: &row.record,
            })
        })
        .collect();
    let mut scores = suite.score_unless(&exchanges, stop)?.into_iter();
    for rollout in rollouts {
        // The suite has checked that there is one row for each exchange.
        rollout.rewards = [0, 1].map(|_| scores.next().unwrap_or_default());
    }
    Ok(())
}
