//! `POST /v1/chat/completions`, whole and streamed.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::super::asking::{Caller, Refusals, ReplyOptions, SteeringHeaders};
use super::super::body::JsonBody;
use super::super::error::ApiError;
use super::super::messages::read_messages;
use super::super::reply::{Identity, UsageBody};
use super::super::sse::json;
use super::super::tell::{Piece, Wording, tell};
use super::chat_shapes::{
    ChatAnswer, ChatChoice, ChatChunk, ChatCompletion, ChatDelta, ChatRequest, ChunkChoice,
};
use crate::service::{Answers, App, PromptInput, WholeAnswer};
use crate::types::{FinishReason, Usage};

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
    params(SteeringHeaders),
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
            ("openai-processing-ms" = u64, description = "Milliseconds until the reply began."),
         )),
        Refusals,
    )
)]
pub(in crate::http) async fn create_chat_completion(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(request): JsonBody<ChatRequest>,
) -> Result<Response, ApiError> {
    let turns = request.messages.ok_or_else(|| {
        let message = "`messages` is missing; it holds the conversation to answer";
        ApiError::invalid("missing_field", message).with_param("messages")
    })?;
    let mut of_turns = Vec::new();
    let prompt = PromptInput::Dialogue(read_messages(&turns, &mut of_turns)?);
    let top_logprobs = request.logprobs.read()?;
    let mut asked = request
        .shared
        .take_apart(&caller, vec![prompt], top_logprobs)?;
    asked.warnings.extend(of_turns);
    let answers = app.generate(asked.input).await?;
    let wording = ChatWording {
        identity: Identity::of("chatcmpl", &answers, asked.warnings),
        options: asked.options,
        seeds: (0..answers.count()).map(|i| answers.seed_of(i)).collect(),
    };
    tell(answers, asked.options.stream, caller, wording).await
}

struct ChatWording {
    identity: Identity,
    options: ReplyOptions,
    /// Of each answer.
    seeds: Vec<u64>,
}

impl Wording for ChatWording {
    fn whole(self, answers: &Answers, whole: Vec<WholeAnswer>, usage: Usage) -> Response {
        let options = self.options;
        let choices = whole
            .into_iter()
            .enumerate()
            .map(|(index, answer)| ChatChoice {
                index,
                finish_reason: answer.reason,
                logprobs: options.logprobs(&answers.speller(), &answer.tokens),
                token_ids: options.token_ids(&answer.tokens),
                seed: answer.seed,
                message: ChatAnswer {
                    role: "assistant",
                    content: answer.text,
                    refusal: None,
                },
            })
            .collect();
        let identity = self.identity;
        let completion = ChatCompletion {
            id: identity.id,
            object: "chat.completion",
            created: identity.created,
            model: identity.model,
            system_fingerprint: identity.system_fingerprint,
            choices,
            usage: UsageBody::new(usage, identity.steering.clone()),
            steering: identity.steering,
            seed: identity.seed,
            warnings: identity.warnings,
        };
        Json(completion).into_response()
    }

    fn opening(&mut self) -> Vec<String> {
        let mut chunks = Vec::with_capacity(self.seeds.len());
        for (index, seed) in self.seeds.iter().enumerate() {
            let delta = ChatDelta {
                role: Some("assistant"),
                content: Some(String::new()),
            };
            let opening = ChunkChoice {
                seed: Some(*seed),
                ..choice(index, delta)
            };
            chunks.push(self.chunk(vec![opening]));
        }
        if let Some(first) = chunks.first_mut() {
            first.steering.clone_from(&self.identity.steering);
            first.seed = Some(self.identity.seed);
            first.warnings = std::mem::take(&mut self.identity.warnings);
        }
        chunks.iter().map(json).collect()
    }

    fn piece(&mut self, answers: &Answers, index: usize, piece: Piece) -> Vec<String> {
        if self.options.leave_out(&piece) {
            return Vec::new();
        }
        let Piece { text, tokens } = piece;
        let delta = ChatDelta {
            role: None,
            content: Some(text),
        };
        let piece = ChunkChoice {
            logprobs: self.options.logprobs(&answers.speller(), &tokens),
            token_ids: self.options.token_ids(&tokens),
            ..choice(index, delta)
        };
        vec![json(&self.chunk(vec![piece]))]
    }

    fn end(&mut self, index: usize, reason: FinishReason, usage: Option<Usage>) -> Vec<String> {
        let steering = self.identity.steering.clone();
        let end = ChunkChoice {
            finish_reason: Some(reason),
            ..choice(index, ChatDelta::default())
        };
        let last = ChatChunk {
            steering: steering.clone(),
            ..self.chunk(vec![end])
        };
        let mut words = vec![json(&last)];
        if let Some(usage) = usage.filter(|_| self.options.include_usage) {
            words.push(json(&ChatChunk {
                usage: Some(Some(UsageBody::new(usage, steering.clone()))),
                steering,
                ..self.chunk(Vec::new())
            }));
        }
        words
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
            usage: self.options.include_usage.then_some(None),
            steering: None,
            seed: None,
            warnings: Vec::new(),
        }
    }
}

fn choice(index: usize, delta: ChatDelta) -> ChunkChoice {
    ChunkChoice {
        index,
        delta,
        finish_reason: None,
        logprobs: None,
        token_ids: None,
        seed: None,
    }
}
