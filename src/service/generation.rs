//! From a caller's wish to a running answer: policy, weights, prompt, sampling, engine.

use std::sync::Arc;

use super::answer::Answer;
use super::app::App;
use super::error::RequestError;
use super::lifecycle::Phase;
use super::offer::{RawWeights, WeightsOffers, WeightsSource};
use super::policy::LivePolicy;
use super::resolve::resolve;
use super::sampling::{Room, SamplingInput};
use super::selector::Selector;
use crate::engine::GenerationRequest;
use crate::text::TextError;
use crate::types::{ControlSpan, Message, SamplingParams, TokenId};

/// What is to be answered.
#[derive(Debug, Clone)]
pub enum PromptInput {
    /// Plain text; one turn of the user where the checkpoint has a chat template.
    Text(String),
    /// A conversation.
    Dialogue(Vec<Message>),
}

/// One request, as a transport understood it.
#[derive(Debug, Clone)]
pub struct GenerationInput {
    /// The request's `model`, suffix and all.
    pub model: Option<String>,
    /// What is to be answered.
    pub prompt: PromptInput,
    /// Weights of the body's `objective_weights`.
    pub body_weights: Option<RawWeights>,
    /// Weights of the header.
    pub header_weights: Option<RawWeights>,
    /// How tokens are chosen.
    pub sampling: SamplingInput,
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
}

/// The steering of one answer, as replies tell it.
#[derive(Debug, Clone, PartialEq)]
pub struct SteeringUsed {
    /// The weights that were asked for, by objective, summing to 1.
    pub weights: Vec<(String, f32)>,
    /// The rounded weights that the policy was told.
    pub encoded: Vec<(String, f32)>,
    /// Who asked.
    pub source: WeightsSource,
    /// The version of the policy that answers.
    pub policy_version: String,
}

impl App {
    /// Checks a request, hands it to the engine, and returns the answer under way.
    ///
    /// # Errors
    /// Whatever is wrong with the request, or that the engine cannot take it.
    pub async fn generate(&self, input: GenerationInput) -> Result<Answer, RequestError> {
        if self.lifecycle.phase() > Phase::Serving {
            return Err(RequestError::Draining);
        }
        input.sampling.check()?;
        check_prompt(&input.prompt)?;
        let offers = WeightsOffers {
            body: input.body_weights,
            header: input.header_weights,
            model: None,
        };
        let steered = self.steer(input.model.as_deref(), offers)?;
        let prompt = self.encode(input.prompt, &steered).await?;
        let room = Room {
            context: self.engine.context_length(),
            prompt_tokens: prompt.len(),
            vocabulary: self.engine.vocab_size(),
        };
        let sampling = input.sampling.resolve(&self.defaults, room)?;
        self.submit(steered, prompt, sampling, input.sampling.stop)
    }

    /// Finds the policy of a `model` field and its weights.
    ///
    /// # Errors
    /// No such model, or weights that it cannot take.
    pub fn steer(
        &self,
        model: Option<&str>,
        mut offers: WeightsOffers,
    ) -> Result<Steered, RequestError> {
        let selector = Selector::parse(model)?;
        offers.model = selector.weights;
        let policy = Arc::clone(self.policy(selector.id.as_deref())?);
        let Some(manifest) = &policy.manifest else {
            if let Some((from, _)) = offers.explicit().next() {
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
            });
        };
        let objectives = &manifest.objectives;
        let resolved = resolve(objectives, &offers)?;
        let encoded = resolved.vector.rounded(manifest.conditioning.decimals);
        let named = |weights: &[f32]| {
            let names = objectives.iter().map(|objective| objective.name.clone());
            names.zip(weights.iter().copied()).collect::<Vec<_>>()
        };
        let steering = SteeringUsed {
            weights: named(resolved.vector.as_slice()),
            encoded: named(encoded.as_slice()),
            source: resolved.source,
            policy_version: policy.version.clone(),
        };
        let span = manifest.conditioning.render(objectives, &resolved.vector);
        Ok(Steered {
            policy,
            steering: Some(steering),
            span: Some(span),
        })
    }

    fn describe_steerable(&self) -> String {
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

    async fn encode(
        &self,
        prompt: PromptInput,
        steered: &Steered,
    ) -> Result<Vec<TokenId>, RequestError> {
        let encoder = Arc::clone(&self.encoder);
        let span = steered.span.clone();
        let model = steered.policy.id.clone();
        // a long prompt takes long to encode; the event loop must not wait for it
        let encoded = tokio::task::spawn_blocking(move || match prompt {
            PromptInput::Dialogue(messages) => encoder.encode_chat(&messages, span.as_ref()),
            PromptInput::Text(text) if encoder.has_chat_template() => {
                encoder.encode_chat(&[Message::user(text)], span.as_ref())
            }
            PromptInput::Text(text) => encoder.encode_prompt(&text, span.as_ref()),
        });
        match encoded.await {
            Ok(tokens) => tokens.map_err(|source| {
                let by_caller = !matches!(source, TextError::Tokenizer { .. });
                RequestError::Prompt {
                    model,
                    by_caller,
                    source,
                }
            }),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    fn submit(
        &self,
        steered: Steered,
        prompt: Vec<TokenId>,
        sampling: SamplingParams,
        stop: Vec<String>,
    ) -> Result<Answer, RequestError> {
        let prompt_tokens = prompt.len();
        let adapter = steered.policy.adapter.clone();
        let request = GenerationRequest {
            adapter,
            ..GenerationRequest::new(prompt, sampling.clone())
        };
        let tokens = self.engine.submit(request)?;
        Ok(Answer::new(
            self,
            steered,
            tokens,
            super::answer::Plan {
                sampling,
                stop,
                prompt_tokens,
            },
        ))
    }
}

fn check_prompt(prompt: &PromptInput) -> Result<(), RequestError> {
    match prompt {
        PromptInput::Text(text) if text.trim().is_empty() => Err(RequestError::invalid(
            "prompt",
            "must hold some text, got an empty string",
        )),
        PromptInput::Dialogue(messages) if messages.is_empty() => Err(RequestError::invalid(
            "messages",
            "must hold at least one message, got none",
        )),
        PromptInput::Dialogue(messages) if messages.iter().all(|m| m.content.trim().is_empty()) => {
            Err(RequestError::invalid(
                "messages",
                "must hold some text, got only empty contents",
            ))
        }
        _ => Ok(()),
    }
}
