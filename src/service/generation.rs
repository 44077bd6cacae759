//! From a caller's wish to running answers: policy, weights, prompts, sampling, engine.

use std::sync::Arc;

use super::access::Access;
use super::answer::{Answer, Plan};
use super::answers::Answers;
use super::app::App;
use super::error::RequestError;
use super::lifecycle::Phase;
use super::offer::{RawWeights, WeightsOffers, WeightsSource};
use super::policy::LivePolicy;
use super::prompt::{Encoding, PromptInput, PromptTokens};
use super::remarks::Remarkable;
use super::resolve::resolve;
use super::sampling::{Room, SamplingInput, seed_of};
use super::selector::{Selector, Suffix};
use super::truncation::TruncationInput;
use crate::engine::{EngineError, GenerationRequest, Guidance};
use crate::model::LoraAdapter;
use crate::telemetry::Timeline;
use crate::text::GrammarSource;
use crate::types::{ControlSpan, SamplingParams, TokenConstraint};

/// Most answers to one prompt.
pub const MAX_N: usize = 16;
/// Most answers of one request, over all its prompts.
pub const MAX_ANSWERS: usize = 64;
/// Highest `guidance`.
pub const MAX_GUIDANCE: f64 = 10.0;

/// One request, as a transport understood it.
#[derive(Debug, Clone, Default)]
pub struct GenerationInput {
    /// The request's `model`, suffix and all.
    pub model: Option<String>,
    /// What is to be answered: one prompt, or several side by side.
    pub prompts: Vec<PromptInput>,
    /// Weights of the body's `objective_weights`.
    pub body_weights: Option<RawWeights>,
    /// Weights of the header.
    pub header_weights: Option<RawWeights>,
    /// The body's `profile`.
    pub profile: Option<String>,
    /// Weights of the body's `metadata.objectives`.
    pub metadata_weights: Option<RawWeights>,
    /// OpenAI's `user`.
    pub user: Option<String>,
    /// Who asks.
    pub access: Access,
    /// How tokens are chosen.
    pub sampling: SamplingInput,
    /// How prompts are shortened.
    pub truncation: Option<TruncationInput>,
    /// Answers to each prompt.
    pub n: Option<u64>,
    /// How far beyond its weights the policy is pushed, away from equal weights; 1 is not at all.
    pub guidance: Option<f64>,
    /// What the answer must be, and the field that says so.
    pub grammar: Option<(&'static str, GrammarSource)>,
    /// Where the times of its answers are told.
    pub timeline: Timeline,
}

/// A model id and the weights that go with it.
#[derive(Clone)]
pub struct Steered {
    /// The policy.
    pub policy: Arc<LivePolicy>,
    /// What was asked of it and what it is told; `None` for an ordinary model.
    pub steering: Option<SteeringUsed>,
    /// The control span of its prompt.
    pub(super) span: Option<ControlSpan>,
    /// Who asked.
    pub(super) access: Access,
}

/// The steering of one answer, as replies tell it.
#[derive(Debug, Clone, PartialEq)]
pub struct SteeringUsed {
    /// The weights that were asked for, by objective, summing to 1.
    pub weights: Vec<(String, f32)>,
    /// What the policy was told: the weights, or what they ask of each objective, rounded.
    pub encoded: Vec<(String, f32)>,
    /// Who asked.
    pub source: WeightsSource,
    /// The version of the policy that answers.
    pub policy_version: String,
}

/// One sequence on its way to the engine.
pub(super) struct Sequence {
    pub(super) prompt: PromptTokens,
    /// What its policy adds to the base under its weights.
    pub(super) adapter: Option<Arc<LoraAdapter>>,
    pub(super) sampling: SamplingParams,
}

/// What the sequences of one request have in common.
pub(super) struct Together<'a> {
    pub(super) policy: &'a LivePolicy,
    pub(super) access: &'a Access,
    pub(super) guidance: f64,
    pub(super) constraint: Option<Box<dyn TokenConstraint>>,
    pub(super) stop: &'a [String],
    pub(super) timeline: &'a Timeline,
}

impl GenerationInput {
    /// Checks everything that depends on neither policy nor prompt; returns `n`.
    pub(super) fn check(&self) -> Result<usize, RequestError> {
        self.sampling.check()?;
        for prompt in &self.prompts {
            prompt.check()?;
        }
        let n = self.n.unwrap_or(1);
        if !(1..=MAX_N as u64).contains(&n) {
            let problem = format!("must be between 1 and {MAX_N}, got {n}");
            return Err(RequestError::invalid("n", problem));
        }
        let n = n as usize;
        if self.prompts.len() * n > MAX_ANSWERS {
            let problem = format!(
                "asks for {} prompts with {n} answers each; at most {MAX_ANSWERS} answers are \
                 given to one request",
                self.prompts.len()
            );
            return Err(RequestError::invalid("prompt", problem));
        }
        if let Some(guidance) = self.guidance
            && !(0.0..=MAX_GUIDANCE).contains(&guidance)
        {
            let problem = format!("must be between 0 and {MAX_GUIDANCE}, got {guidance}");
            return Err(RequestError::invalid("guidance", problem));
        }
        if let Some((field, _)) = &self.grammar {
            self.sampling.check_beside_grammar(field)?;
        }
        Ok(n)
    }
}

impl App {
    /// Checks a request, hands it to the engine, and returns the answers under way.
    ///
    /// # Errors
    /// Whatever is wrong with the request, or that the engine cannot take it.
    pub async fn generate(&self, input: GenerationInput) -> Result<Answers, RequestError> {
        self.check_serving()?;
        let n = input.check()?;
        let remarkable = Remarkable::of(input.user.as_deref(), &input.prompts);
        let offers = WeightsOffers {
            body: input.body_weights,
            header: input.header_weights,
            profile: input.profile,
            metadata: input.metadata_weights,
            user: input.user,
        };
        let steered = self
            .steer(input.model.as_deref(), &offers, &input.access)
            .await?;
        let neutral = self.neutral_span(&steered, input.guidance)?;
        // what must be refused anyway is refused before there is work for it
        self.engine.has_room()?;
        let constraint = self.constraint(input.grammar.as_ref()).await?;
        let adapter = steered.adapter().await?;
        let spans = vec![(steered.span.clone(), neutral)];
        let encoding = Encoding {
            prompts: input.prompts,
            spans,
            most: Some(self.context_length()),
            truncation: self.truncation(input.truncation, &input.sampling)?,
        };
        let prompts = self.encode(encoding, &steered.policy).await?;
        let remarks = remarkable.remarks(self, &steered, &prompts);
        let prompt_tokens = prompts.iter().map(|prompt| prompt.tokens.len()).sum();
        let seed = input.sampling.seed_or_drawn();
        let mut sequences = Vec::with_capacity(prompts.len() * n);
        for prompt in prompts {
            let sampling = input.sampling.resolve(&self.defaults, self.room(&prompt))?;
            sampling_fits(&sampling, n)?;
            sequences.extend((0..n).map(|choice| Sequence {
                prompt: prompt.clone(),
                adapter: adapter.clone(),
                sampling: SamplingParams {
                    seed: seed_of(seed, choice),
                    ..sampling.clone()
                },
            }));
        }
        let together = Together {
            policy: &steered.policy,
            access: &steered.access,
            guidance: input.guidance.unwrap_or(1.0),
            constraint,
            stop: &input.sampling.stop,
            timeline: &input.timeline,
        };
        let choices = self.start(sequences, &together)?;
        steered.access.charge_tokens(prompt_tokens);
        let mut answers = Answers::new(self, steered, choices, n);
        answers.remarks = remarks;
        Ok(answers)
    }

    /// Refuses new work once the process is about to end.
    pub(super) fn check_serving(&self) -> Result<(), RequestError> {
        match self.lifecycle.phase() > Phase::Serving {
            true => Err(RequestError::Draining),
            false => Ok(()),
        }
    }

    /// How much room a prompt leaves.
    pub(super) fn room(&self, prompt: &PromptTokens) -> Room {
        Room {
            context: self.engine.context_length(),
            prompt_tokens: prompt.longest(),
            vocabulary: self.engine.vocab_size(),
        }
    }

    /// The span of equal weights, where guidance needs it and it says something else.
    pub(super) fn neutral_span(
        &self,
        steered: &Steered,
        guidance: Option<f64>,
    ) -> Result<Option<ControlSpan>, RequestError> {
        let Some(guidance) = guidance else {
            return Ok(None);
        };
        let Some(manifest) = &steered.policy.manifest else {
            let problem = format!(
                "needs a model with objectives, and `{}` has none; {}",
                steered.policy.id,
                self.describe_steerable()
            );
            return Err(RequestError::invalid("guidance", problem));
        };
        let objectives = &manifest.objectives;
        let neutral = manifest
            .conditioning
            .render(objectives, &objectives.equal());
        if neutral.is_none() && guidance != 1.0 {
            let problem = format!(
                "must be 1 for `{}`, which mixes adapters and is told nothing in its prompt; got \
                 {guidance}",
                steered.policy.id
            );
            return Err(RequestError::invalid("guidance", problem));
        }
        Ok(neutral.filter(|span| guidance != 1.0 && steered.span.as_ref() != Some(span)))
    }

    /// Hands sequences to the engine, all or none.
    pub(super) fn start(
        &self,
        sequences: Vec<Sequence>,
        together: &Together<'_>,
    ) -> Result<Vec<Answer>, RequestError> {
        let (mut requests, mut plans) = (Vec::new(), Vec::new());
        let adapted = together.policy.adapter.is_some();
        let adapted = adapted.then(|| Arc::<str>::from(together.policy.id.as_str()));
        for sequence in sequences {
            let Sequence {
                prompt,
                adapter,
                sampling,
            } = sequence;
            let request = GenerationRequest::new(prompt.tokens, sampling.clone());
            plans.push(Plan {
                prompt_tokens: request.prompt.len(),
                sampling,
                stop: together.stop.to_vec(),
                access: together.access.clone(),
                adapted: adapted.clone(),
                timeline: together.timeline.clone(),
            });
            let scale = together.guidance as f32;
            requests.push(GenerationRequest {
                adapter,
                caller: together.access.caller,
                cache_salt: together.access.caller,
                guidance: prompt.neutral.map(|prompt| Guidance { prompt, scale }),
                constraint: together.constraint.as_ref().map(|c| c.boxed_clone()),
                ..request
            });
        }
        let count = requests.len();
        let streams = self.engine.submit_group(requests);
        let streams = streams.map_err(|error| match error {
            // would never be admitted, so trying again later does not help
            EngineError::QueueFull { capacity } if count > capacity => {
                let problem = format!(
                    "asks for {count} answers at once, but this server has {capacity} places"
                );
                RequestError::invalid("n", problem)
            }
            other => other.into(),
        })?;
        let answers = streams.into_iter().zip(plans);
        Ok(answers
            .map(|(stream, plan)| Answer::new(self, stream, plan))
            .collect())
    }

    /// Finds the policy of a `model` field and its weights.
    ///
    /// # Errors
    /// No such model, or weights that it cannot take or this caller may not ask for.
    pub async fn steer(
        &self,
        model: Option<&str>,
        offers: &WeightsOffers,
        access: &Access,
    ) -> Result<Steered, RequestError> {
        let selector = Selector::parse(model)?;
        let policy = self.answering(selector.id.as_deref())?;
        self.steer_policy(policy, selector.suffix, offers, access)
            .await
    }

    /// The same for a policy that was already taken, so that all parts of a request have one
    /// version.
    pub(super) async fn steer_policy(
        &self,
        policy: Arc<LivePolicy>,
        suffix: Option<Suffix>,
        offers: &WeightsOffers,
        access: &Access,
    ) -> Result<Steered, RequestError> {
        let mut gathered = self.explicit_weights(offers, suffix).await?;
        let Some(manifest) = &policy.manifest else {
            if let Some(&(from, _)) = gathered.first() {
                let (model, steerable) = (policy.id.clone(), self.describe_steerable());
                return Err(RequestError::NoObjectives {
                    model,
                    from,
                    steerable,
                });
            }
            return Ok(Steered {
                policy,
                steering: None,
                span: None,
                access: access.clone(),
            });
        };
        if gathered.is_empty() {
            gathered.extend(self.implied_weights(offers.user.as_deref(), access).await?);
        }
        let objectives = &manifest.objectives;
        let resolved = resolve(objectives, &gathered, access)?;
        let told = manifest.conditioning.told(&resolved.vector);
        let named = |weights: &[f32]| {
            let names = objectives.iter().map(|objective| objective.name.clone());
            names.zip(weights.iter().copied()).collect::<Vec<_>>()
        };
        let steering = SteeringUsed {
            weights: named(resolved.vector.as_slice()),
            encoded: named(&told),
            source: resolved.source,
            policy_version: policy.version.clone(),
        };
        let span = manifest.conditioning.render(objectives, &resolved.vector);
        Ok(Steered {
            policy,
            steering: Some(steering),
            span,
            access: access.clone(),
        })
    }

    pub(super) fn describe_steerable(&self) -> String {
        let ids: Vec<_> = self
            .policies()
            .iter()
            .filter(|policy| policy.manifest.is_some())
            .map(|policy| format!("`{}`", policy.id))
            .collect();
        match ids.is_empty() {
            true => "no model of this server has any".to_owned(),
            false => format!(
                "leave them out, or ask a model that has: {}",
                ids.join(", ")
            ),
        }
    }
}

/// Several greedy answers to one prompt would be one answer several times.
fn sampling_fits(sampling: &SamplingParams, n: usize) -> Result<(), RequestError> {
    if n > 1 && sampling.temperature == 0.0 {
        let problem = format!("must be 1 where temperature is 0, got {n}: all would be the same");
        return Err(RequestError::invalid("n", problem));
    }
    Ok(())
}
