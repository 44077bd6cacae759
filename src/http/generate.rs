//! `POST /v1/generate`: the native route, one prompt or conversation in, one steered answer out.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::body::JsonBody;
use super::envelope::RequestId;
use super::error::{ApiError, ErrorBody};
use super::fields::sort_rest;
use super::messages::{MessageSchema, read_messages};
use super::reply::{Identity, Logprobs, UsageBody, token_ids};
use super::sampling::{ReplyOptions, SamplingFields};
use super::sse::json;
use super::tell::{Wording, tell};
use super::weights::{Steering, WeightsField, header_weights};
use crate::service::{Access, Answer, AnswerEvent, App, GenerationInput, PromptInput, WholeAnswer};
use crate::types::{FinishReason, TokenId};

/// A prompt and how to answer it.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct GenerateRequest {
    /// A model's id, `default`, or either followed by `@NAME=NUMBER,...` or `@PROFILE`. Default:
    /// the default policy.
    #[schema(example = "default")]
    model: Option<String>,
    /// What to answer: one turn of the user where the checkpoint has a chat template, else text
    /// to continue. Exactly one of `prompt` and `messages` must be there.
    #[schema(example = "How do magnets work?")]
    prompt: Option<String>,
    /// A conversation to answer.
    #[schema(value_type = Option<Vec<MessageSchema>>)]
    messages: Option<Vec<Value>>,
    /// Objective weights.
    objective_weights: Option<WeightsField>,
    /// A profile whose weights to use.
    #[schema(example = "cautious")]
    profile: Option<String>,
    /// Names a profile to use where nothing else says anything; else of no effect.
    user: Option<String>,
    #[serde(flatten)]
    sampling: SamplingFields,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Map<String, Value>,
}

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Generation {
    /// Unique to this answer.
    id: String,
    /// Always `generation`.
    #[schema(example = "generation")]
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    /// The model that answered.
    model: String,
    /// The answer.
    text: String,
    /// `stop`: an end-of-sequence token or a stop string; `length`: `max_tokens`.
    #[schema(value_type = String, example = "stop")]
    finish_reason: FinishReason,
    /// With `return_token_ids`: the answer's tokens, a final stop token included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<u32>>)]
    token_ids: Option<Vec<TokenId>>,
    /// With `logprobs`: each token's log-probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Logprobs>,
    /// What it cost.
    usage: UsageBody,
    /// What it was steered by; `null` for a model without objectives.
    steering: Option<Steering>,
    /// The seed it was drawn with.
    seed: u64,
    /// What of the request had no effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// A piece of a streamed answer. The first carries `seed` and `warnings`, the first and the last
/// `steering`, the last `finish_reason` and `usage`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GenerationChunk {
    /// The same in every chunk.
    id: String,
    /// Always `generation.chunk`.
    #[schema(example = "generation.chunk")]
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    /// The model that answers.
    model: String,
    /// Text to append.
    text: String,
    /// Why the answer ended; `null` before the last chunk.
    #[schema(value_type = Option<String>)]
    finish_reason: Option<FinishReason>,
    /// With `return_token_ids`: tokens to append.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<u32>>)]
    token_ids: Option<Vec<TokenId>>,
    /// With `logprobs`: the log-probabilities of these tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Logprobs>,
    /// What it cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageBody>,
    /// What it is steered by.
    #[serde(skip_serializing_if = "Option::is_none")]
    steering: Option<Steering>,
    /// The seed it is drawn with.
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    /// What of the request had no effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Generate one answer, steered by objective weights.
///
/// Weights come from the body, the header, `profile`, the suffix of `model`, the profile that
/// `user` names, the key's default profile, or the checkpoint, in that order; two of the first
/// four that disagree are refused. Unknown fields are refused.
#[utoipa::path(
    post,
    path = "/v1/generate",
    operation_id = "create_generation",
    tag = "generation",
    params(
        ("x-objective-weights" = Option<String>, Header,
         description = "Weights as `helpfulness=0.7,harmlessness=0.3`, where the body has none."),
        ("x-request-id" = Option<String>, Header, description = "Taken over and echoed."),
    ),
    request_body = GenerateRequest,
    responses(
        (status = 200, description = "The answer; with `stream` server-sent events, each a \
         GenerationChunk, the last one `[DONE]`.", content(
            (Generation = "application/json"),
            (GenerationChunk = "text/event-stream"),
         ), headers(
            ("x-steering-weights" = String,
             description = "The weights that were asked for; missing for a model without objectives."),
            ("x-policy-version" = String, description = "The version of the policy that answers."),
            ("x-request-id" = String, description = "The request's id."),
         )),
        (status = 400, description = "The request cannot be answered.", body = ErrorBody),
        (status = 404, description = "No such model or profile.", body = ErrorBody),
        (status = 413, description = "The body is too large.", body = ErrorBody),
        (status = 415, description = "The body is not JSON.", body = ErrorBody),
        (status = 429, description = "The queue is full.", body = ErrorBody),
        (status = 500, description = "The server failed.", body = ErrorBody),
        (status = 503, description = "The server cannot serve now.", body = ErrorBody),
    )
)]
pub(super) async fn create_generation(
    State(app): State<Arc<App>>,
    Extension(request_id): Extension<RequestId>,
    Extension(access): Extension<Access>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<GenerateRequest>,
) -> Result<Response, ApiError> {
    let mut warnings = sort_rest(&request.rest)?;
    let prompt = match (request.prompt, request.messages) {
        (Some(prompt), None) => PromptInput::Text(prompt),
        (None, Some(turns)) => PromptInput::Dialogue(read_messages(&turns, &mut warnings)?),
        (prompt, _) => {
            let got = if prompt.is_some() { "both" } else { "neither" };
            let message =
                format!("exactly one of `prompt` and `messages` must be given, got {got}");
            return Err(ApiError::invalid("invalid_value", message).with_param("prompt"));
        }
    };
    let (sampling, options) = request.sampling.split()?;
    let input = GenerationInput {
        model: request.model,
        prompt,
        body_weights: request.objective_weights.map(|weights| weights.0),
        header_weights: header_weights(&headers)?,
        profile: request.profile,
        user: request.user,
        access,
        sampling,
    };
    let answer = app.generate(input).await?;
    let identity = Identity::of("gen", &answer, warnings);
    let wording = NativeWording { identity, options };
    tell(answer, options.stream, request_id, wording).await
}

struct NativeWording {
    identity: Identity,
    options: ReplyOptions,
}

impl Wording for NativeWording {
    fn whole(self, answer: &Answer, whole: WholeAnswer) -> Response {
        let Identity {
            id,
            created,
            model,
            seed,
            steering,
            warnings,
            ..
        } = self.identity;
        let generation = Generation {
            id,
            object: "generation",
            created,
            model,
            text: whole.text,
            finish_reason: whole.reason,
            token_ids: self.options.token_ids.then(|| token_ids(&whole.tokens)),
            logprobs: self
                .options
                .logprobs
                .then(|| Logprobs::of(answer, &whole.tokens)),
            usage: UsageBody::new(whole.usage, steering.clone()),
            steering,
            seed,
            warnings,
        };
        Json(generation).into_response()
    }

    fn opening(&mut self) -> Vec<String> {
        let first = GenerationChunk {
            steering: self.identity.steering.clone(),
            seed: Some(self.identity.seed),
            warnings: std::mem::take(&mut self.identity.warnings),
            ..self.chunk(String::new())
        };
        vec![json(&first)]
    }

    fn word(&mut self, answer: &Answer, event: AnswerEvent) -> Vec<String> {
        match event {
            AnswerEvent::Delta { text, tokens } => {
                let told = self.options.token_ids || self.options.logprobs;
                if text.is_empty() && !told {
                    return Vec::new();
                }
                let delta = GenerationChunk {
                    token_ids: self.options.token_ids.then(|| token_ids(&tokens)),
                    logprobs: self.options.logprobs.then(|| Logprobs::of(answer, &tokens)),
                    ..self.chunk(text)
                };
                vec![json(&delta)]
            }
            AnswerEvent::Finished { reason, usage } => {
                let steering = self.identity.steering.clone();
                let last = GenerationChunk {
                    finish_reason: Some(reason),
                    usage: Some(UsageBody::new(usage, steering.clone())),
                    steering,
                    ..self.chunk(String::new())
                };
                vec![json(&last)]
            }
        }
    }
}

impl NativeWording {
    fn chunk(&self, text: String) -> GenerationChunk {
        GenerationChunk {
            id: self.identity.id.clone(),
            object: "generation.chunk",
            created: self.identity.created,
            model: self.identity.model.clone(),
            text,
            finish_reason: None,
            token_ids: None,
            logprobs: None,
            usage: None,
            steering: None,
            seed: None,
            warnings: Vec::new(),
        }
    }
}
