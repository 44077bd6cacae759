//! One prompt under many weight vectors, answered in one batch with one seed, so that what differs
//! between two answers is the weights' doing.

use std::collections::VecDeque;
use std::sync::Arc;

use super::access::Access;
use super::answers::{Answers, WholeAnswer};
use super::app::App;
use super::error::RequestError;
use super::generation::{GenerationInput, Sequence, Steered, SteeringUsed, Together};
use super::offer::{RawWeights, WeightsOffers};
use super::policy::LivePolicy;
use super::prompt::{Encoding, PromptInput};
use super::scoring::{Scored, score};
use super::selector::Selector;
use super::truncation;
use crate::eval::pareto::front;
use crate::eval::sweep::weight_grid;
use crate::types::{FinishReason, Message, Usage};

/// Most weight vectors of one sweep.
pub const MAX_POINTS: usize = 64;

/// Which weight vectors to ask.
#[derive(Debug, Clone, PartialEq)]
pub enum SweepPoints {
    /// So many points along each edge of the simplex, evenly spaced.
    Grid(u64),
    /// These.
    List(Vec<RawWeights>),
}

/// A sweep, as a transport understood it.
#[derive(Debug, Clone)]
pub struct SweepInput {
    /// The one prompt and how to answer it; it carries no weights.
    pub question: GenerationInput,
    /// Which weight vectors to ask.
    pub points: SweepPoints,
    /// Whether the policy's rewards score the answers.
    pub score: bool,
}

/// What came of one weight vector.
#[derive(Debug, Clone, PartialEq)]
pub struct SweptAnswer {
    /// What was asked and what the policy was told.
    pub steering: SteeringUsed,
    /// The answer.
    pub answer: WholeAnswer,
    /// One reward for each objective, in their order; empty where nothing was scored.
    pub rewards: Vec<f32>,
    /// Whether no other answer is at least as good everywhere and better somewhere; `None` where
    /// nothing was scored.
    pub on_front: Option<bool>,
}

/// A whole sweep.
pub struct Swept {
    /// Who answered.
    pub policy: Arc<LivePolicy>,
    /// Names of its objectives, in their order.
    pub objectives: Vec<String>,
    /// The seed of every answer.
    pub seed: u64,
    /// In the order of the points.
    pub points: Vec<SweptAnswer>,
    /// What all of them cost together.
    pub usage: Usage,
    /// What the request did otherwise than it may seem, in words.
    pub remarks: Vec<String>,
}

/// A sweep whose answers are under way.
pub struct Sweep {
    /// The answers, one to each point.
    pub answers: Answers,
    steered: Vec<Steered>,
    question: Vec<Message>,
    suite: Option<Arc<crate::rewards::RewardSuite>>,
}

impl App {
    /// Checks a sweep and hands all its answers to the engine at once.
    ///
    /// # Errors
    /// Whatever is wrong with it, or that the engine cannot take all of it.
    pub async fn sweep(&self, input: SweepInput) -> Result<Sweep, RequestError> {
        self.check_serving()?;
        let SweepInput {
            question,
            points,
            score,
        } = input;
        question.check()?;
        let model = question.model.as_deref();
        let steered = self.steer_points(model, points, &question.access).await?;
        let policy = Arc::clone(&steered[0].policy);
        let suite = match score {
            true => Some(policy.rewards().await?),
            false => None,
        };
        self.engine.has_room()?;
        let constraint = self.constraint(question.grammar.as_ref()).await?;
        let spans = steered
            .iter()
            .map(|point| {
                let neutral = self.neutral_span(point, question.guidance)?;
                Ok((point.span.clone(), neutral))
            })
            .collect::<Result<_, RequestError>>()?;
        let asked = question.prompts.first().map_or_else(Vec::new, as_messages);
        let encoding = Encoding {
            prompts: question.prompts,
            spans,
            most: Some(self.context_length()),
            truncation: self.truncation(question.truncation, &question.sampling)?,
        };
        let prompts = self.encode(encoding, &policy).await?;
        let left_out = prompts.first().map_or(0, |prompt| prompt.left_out);
        let prompt_tokens = prompts.iter().map(|prompt| prompt.tokens.len()).sum();
        let mut sampling = question.sampling;
        sampling.seed = Some(sampling.seed_or_drawn());
        let mut sequences = Vec::with_capacity(prompts.len());
        // an encoded prompt that leaves no room is the last one, and refused here
        for (prompt, point) in prompts.into_iter().zip(&steered) {
            let sampling = sampling.resolve(&self.defaults, self.room(&prompt))?;
            let adapter = point.adapter().await?;
            sequences.push(Sequence {
                prompt,
                adapter,
                sampling,
            });
        }
        let together = Together {
            policy: &policy,
            access: &question.access,
            guidance: question.guidance.unwrap_or(1.0),
            constraint,
            stop: &sampling.stop,
            timeline: &question.timeline,
        };
        let answers = self.start(sequences, &together)?;
        question.access.charge_tokens(prompt_tokens);
        let mut answers = Answers::new(self, steered[0].clone(), answers, 1);
        answers.remarks = truncation::told(&[left_out]).collect();
        Ok(Sweep {
            answers,
            steered,
            question: asked,
            suite,
        })
    }

    async fn steer_points(
        &self,
        model: Option<&str>,
        points: SweepPoints,
        access: &Access,
    ) -> Result<Vec<Steered>, RequestError> {
        // finds the policy and what stands behind its name; the key's own weights are not asked for
        let plain = self
            .steer(model, &WeightsOffers::default(), &Access::open())
            .await?;
        let Some(manifest) = &plain.policy.manifest else {
            let problem = format!(
                "names `{}`, which has no objectives to sweep over; {}",
                plain.policy.id,
                self.describe_steerable()
            );
            return Err(RequestError::invalid("model", problem));
        };
        let used = plain.steering.as_ref().map(|used| used.source);
        if used.is_some_and(|source| source != super::WeightsSource::Default) {
            let problem = "carries weights; a sweep takes them from `grid` or `points` alone";
            return Err(RequestError::invalid("model", problem));
        }
        let weights = match points {
            SweepPoints::List(weights) => {
                check_count("points", weights.len() as u64)?;
                weights
            }
            SweepPoints::Grid(per_edge @ 0..2) => {
                let problem = format!("is {per_edge} points along an edge, expected at least 2");
                return Err(RequestError::invalid("grid", problem));
            }
            SweepPoints::Grid(per_edge) => {
                let objectives = &manifest.objectives;
                check_count("grid", grid_size(per_edge, objectives.len() as u64))?;
                let grid = weight_grid(objectives, per_edge as usize)
                    .map_err(|error| RequestError::invalid("grid", super::chain(&error)))?;
                grid.iter()
                    .map(|w| {
                        RawWeights::Ordered(w.as_slice().iter().map(|w| f64::from(*w)).collect())
                    })
                    .collect()
            }
        };
        let mut steered = Vec::with_capacity(weights.len());
        for (index, raw) in weights.into_iter().enumerate() {
            let offers = WeightsOffers {
                body: Some(raw),
                ..WeightsOffers::default()
            };
            // a promotion meanwhile must not mix versions in one sweep
            let policy = Arc::clone(&plain.policy);
            let suffix = Selector::parse(model)?.suffix;
            let point = self.steer_policy(policy, suffix, &offers, access).await;
            steered.push(point.map_err(|source| RequestError::Point {
                index,
                source: Box::new(source),
            })?);
        }
        Ok(steered)
    }
}

impl Sweep {
    /// Waits for all answers, and scores them where that was asked for.
    ///
    /// # Errors
    /// The engine failed, or a reward did.
    pub async fn finish(mut self) -> Result<Swept, RequestError> {
        let whole = self.answers.collect().await?;
        let usage = self.answers.usage().unwrap_or_default();
        let rewards = match self.suite {
            None => None,
            Some(suite) => {
                let answers = whole.iter().map(scored).collect();
                Some(score(suite, self.question, answers).await?)
            }
        };
        let on_front = rewards.as_ref().map(|rows| {
            let rows: Vec<Vec<f64>> = rows
                .iter()
                .map(|row| row.iter().map(|reward| f64::from(*reward)).collect())
                .collect();
            front(&rows)
        });
        let policy = Arc::clone(&self.answers.steered.policy);
        let objectives = policy
            .manifest
            .iter()
            .flat_map(|manifest| manifest.objectives.iter())
            .map(|objective| objective.name.clone())
            .collect();
        let mut rewards = VecDeque::from(rewards.unwrap_or_default());
        let steered = self.steered.into_iter().filter_map(|point| point.steering);
        let points = whole
            .into_iter()
            .zip(steered)
            .enumerate()
            .map(|(index, (answer, steering))| SweptAnswer {
                steering,
                answer,
                rewards: rewards.pop_front().unwrap_or_default(),
                on_front: on_front.as_ref().map(|front| front.contains(&index)),
            })
            .collect();
        Ok(Swept {
            policy,
            objectives,
            seed: self.answers.seed,
            remarks: self.answers.remarks,
            points,
            usage,
        })
    }
}

fn scored(answer: &WholeAnswer) -> Scored {
    let finished = answer.reason == FinishReason::Stop;
    Scored {
        text: answer.text.clone(),
        tokens: answer.tokens.len() - usize::from(finished && !answer.tokens.is_empty()),
        finished,
    }
}

/// What rewards are shown of a prompt.
fn as_messages(prompt: &PromptInput) -> Vec<Message> {
    match prompt {
        PromptInput::Dialogue(messages) => messages.clone(),
        PromptInput::Text(text) | PromptInput::Raw(text) => vec![Message::user(text.clone())],
        PromptInput::Tokens(_) => Vec::new(),
    }
}

fn check_count(field: &str, count: u64) -> Result<(), RequestError> {
    if (1..=MAX_POINTS as u64).contains(&count) {
        return Ok(());
    }
    let problem = format!("makes {count} weight vectors, expected 1 to {MAX_POINTS}");
    Err(RequestError::invalid(field, problem))
}

/// Points of a grid with `per_edge` along each edge: ways to share `per_edge - 1` units among the
/// objectives.
fn grid_size(per_edge: u64, objectives: u64) -> u64 {
    let units = per_edge.saturating_sub(1);
    (1..objectives).fold(1u64, |ways, i| {
        ways.saturating_mul(units.saturating_add(i))
            .checked_div(i)
            .unwrap_or(ways)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grids_points_are_counted_before_they_are_made() {
        for (per_edge, objectives, count) in [(11, 2, 11), (5, 3, 15), (2, 4, 4), (7, 1, 1)] {
            assert_eq!(grid_size(per_edge, objectives), count);
        }
        assert!(grid_size(u64::MAX, 32) > MAX_POINTS as u64);
    }
}
