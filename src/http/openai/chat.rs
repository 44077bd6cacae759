//! `POST /v1/chat/completions`, whole and streamed.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::super::body::JsonBody;
use super::super::envelope::RequestId;
use super::super::error::{ApiError, ErrorBody};
use super::super::fields::sort_rest;
use super::super::messages::read_messages;
use super::super::reply::{Identity, Logprobs, UsageBody, token_ids};
use super::super::sampling::ReplyOptions;
use super::super::sse::json;
use super::super::tell::{Wording, tell};
use super::super::weights::header_weights;
use super::chat_shapes::{
    ChatAnswer, ChatChoice, ChatChunk, ChatCompletion, ChatDelta, ChatRequest, ChunkChoice,
    StreamOptions,
};
use crate::service::{Access, Answer, AnswerEvent, App, GenerationInput, PromptInput, WholeAnswer};

/// Answer a conversation, steered by objective weights, in OpenAI's shapes.
///
/// The fields `metadata`, `service_tier`, `store`, `safety_identifier`,
/// `prompt_cache_key`, `parallel_tool_calls`, `reasoning_effort` and `verbosity` are accepted and
/// named in `warnings`. Fields that cannot be honoured are refused by name.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    operation_id = "create_chat_completion",
    tag = "generation",
    params(
        ("x-objective-weights" = Option<String>, Header,
         description = "Weights as `helpfulness=0.7,harmlessness=0.3`, where the body has none."),
        ("x-request-id" = Option<String>, Header, description = "Taken over and echoed."),
    ),
    request_body = ChatRequest,
    responses(
        (status = 200, description = "The answer; with `stream` server-sent events, each a \
         ChatChunk, the last one `[DONE]`.", content(
            (ChatCompletion = "application/json"),
            (ChatChunk = "text/event-stream"),
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
pub(in crate::http) async fn create_chat_completion(
    State(app): State<Arc<App>>,
    Extension(request_id): Extension<RequestId>,
    Extension(access): Extension<Access>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<ChatRequest>,
) -> Result<Response, ApiError> {
    let mut warnings = sort_rest(&request.rest)?;
    let turns = request.messages.ok_or_else(|| {
        let message = "`messages` is missing; it holds the conversation to answer";
        ApiError::invalid("missing_field", message).with_param("messages")
    })?;
    let messages = read_messages(&turns, &mut warnings)?;
    let (sampling, options) = request.sampling.split()?;
    let include_usage = read_stream_options(request.stream_options, options, &mut warnings)?;
    let input = GenerationInput {
        model: request.model,
        prompt: PromptInput::Dialogue(messages),
        body_weights: request.objective_weights.map(|weights| weights.0),
        header_weights: header_weights(&headers)?,
        profile: request.profile,
        user: request.user,
        access,
        sampling,
    };
    let answer = app.generate(input).await?;
    let identity = Identity::of("chatcmpl", &answer, warnings);
    tell(
        answer,
        options.stream,
        request_id,
        ChatWording {
            identity,
            options,
            include_usage,
        },
    )
    .await
}

fn read_stream_options(
    stated: Option<StreamOptions>,
    options: ReplyOptions,
    warnings: &mut Vec<String>,
) -> Result<bool, ApiError> {
    let Some(stated) = stated else {
        return Ok(false);
    };
    if !options.stream {
        let message = "`stream_options` may only be given where `stream` is true";
        return Err(ApiError::invalid("invalid_value", message).with_param("stream_options"));
    }
    if stated.include_obfuscation == Some(true) {
        let warning = "`stream_options.include_obfuscation` was accepted but has no effect";
        warnings.push(warning.to_owned());
    }
    Ok(stated.include_usage.unwrap_or(false))
}

struct ChatWording {
    identity: Identity,
    options: ReplyOptions,
    include_usage: bool,
}

impl Wording for ChatWording {
    fn whole(self, answer: &Answer, whole: WholeAnswer) -> Response {
        let Identity {
            id,
            created,
            model,
            system_fingerprint,
            seed,
            steering,
            warnings,
        } = self.identity;
        let choice = ChatChoice {
            index: 0,
            message: ChatAnswer {
                role: "assistant",
                content: whole.text,
                refusal: None,
            },
            finish_reason: whole.reason,
            logprobs: self
                .options
                .logprobs
                .then(|| Logprobs::of(answer, &whole.tokens)),
            token_ids: self.options.token_ids.then(|| token_ids(&whole.tokens)),
        };
        let completion = ChatCompletion {
            id,
            object: "chat.completion",
            created,
            model,
            system_fingerprint,
            choices: vec![choice],
            usage: UsageBody::new(whole.usage, steering.clone()),
            steering,
            seed,
            warnings,
        };
        Json(completion).into_response()
    }

    fn opening(&mut self) -> Vec<String> {
        let delta = ChatDelta {
            role: Some("assistant"),
            content: Some(String::new()),
        };
        let first = ChatChunk {
            steering: self.identity.steering.clone(),
            seed: Some(self.identity.seed),
            warnings: std::mem::take(&mut self.identity.warnings),
            ..self.chunk(vec![choice(delta)])
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
                let piece = ChunkChoice {
                    logprobs: self.options.logprobs.then(|| Logprobs::of(answer, &tokens)),
                    token_ids: self.options.token_ids.then(|| token_ids(&tokens)),
                    ..choice(ChatDelta {
                        role: None,
                        content: Some(text),
                    })
                };
                vec![json(&self.chunk(vec![piece]))]
            }
            AnswerEvent::Finished { reason, usage } => {
                let steering = self.identity.steering.clone();
                let end = ChunkChoice {
                    finish_reason: Some(reason),
                    ..choice(ChatDelta::default())
                };
                let last = ChatChunk {
                    steering: steering.clone(),
                    ..self.chunk(vec![end])
                };
                let mut words = vec![json(&last)];
                if self.include_usage {
                    words.push(json(&ChatChunk {
                        usage: Some(Some(UsageBody::new(usage, steering.clone()))),
                        steering,
                        ..self.chunk(Vec::new())
                    }));
                }
                words
            }
        }
    }
}

impl ChatWording {
    fn chunk(&self, choices: Vec<ChunkChoice>) -> ChatChunk {
        ChatChunk {
            id: self.identity.id.clone(),
            object: "chat.completion.chunk",
            created: self.identity.created,
            model: self.identity.model.clone(),
            system_fingerprint: self.identity.system_fingerprint.clone(),
            choices,
            usage: self.include_usage.then_some(None),
            steering: None,
            seed: None,
            warnings: Vec::new(),
        }
    }
}

fn choice(delta: ChatDelta) -> ChunkChoice {
    ChunkChoice {
        index: 0,
        delta,
        finish_reason: None,
        logprobs: None,
        token_ids: None,
    }
}
