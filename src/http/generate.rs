//! `POST /v1/generate`: the native route, one prompt or conversation in, steered answers out.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::asking::{Caller, Refusals, ReplyOptions, SharedFields, SteeringHeaders};
use super::body::JsonBody;
use super::error::ApiError;
use super::generate_shapes::{AnswerBody, Generation, GenerationChoice, GenerationChunk};
use super::messages::{MessageSchema, read_messages};
use super::reply::{Identity, UsageBody};
use super::sampling::LogprobsFields;
use super::sse::json;
use super::tell::{Piece, Wording, tell};
use crate::service::{Answers, App, PromptInput, WholeAnswer};
use crate::types::{FinishReason, Usage};

/// A prompt and how to answer it.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct GenerateRequest {
    /// What to answer: one turn of the user where the checkpoint has a chat template, else text
    /// to continue. Exactly one of `prompt` and `messages` must be there.
    #[schema(example = "What is the capital of France?")]
    prompt: Option<String>,
    /// A conversation to answer.
    #[schema(value_type = Option<Vec<MessageSchema>>)]
    messages: Option<Vec<Value>>,
    /// Begin the answer with `prompt`.
    echo: Option<bool>,
    #[serde(flatten)]
    logprobs: LogprobsFields,
    #[serde(flatten)]
    shared: SharedFields,
}

/// Generate answers, steered by objective weights.
///
/// Weights come from the body, the header, `profile`, the suffix of `model`, the profile that
/// `user` names, the key's default profile, or the checkpoint, in that order; two of the first
/// four that disagree are refused. Unknown fields are refused.
#[utoipa::path(
    post,
    path = "/v1/generate",
    operation_id = "create_generation",
    tag = "generation",
    params(SteeringHeaders),
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
            ("openai-processing-ms" = u64, description = "Milliseconds until the reply began."),
         )),
        Refusals,
    )
)]
pub(super) async fn create_generation(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(request): JsonBody<GenerateRequest>,
) -> Result<Response, ApiError> {
    let mut turns = Vec::new();
    let (prompt, echo) = read_prompt(&request, &mut turns)?;
    let top_logprobs = request.logprobs.read()?;
    if echo.is_some() && top_logprobs.is_some() {
        return Err(echo_with_logprobs());
    }
    let mut asked = request
        .shared
        .take_apart(&caller, vec![prompt], top_logprobs)?;
    asked.warnings.extend(turns);
    let answers = app.generate(asked.input).await?;
    let identity = Identity::of("gen", &answers, asked.warnings);
    let wording = NativeWording {
        identity,
        options: asked.options,
        count: answers.count(),
        echo,
    };
    tell(answers, asked.options.stream, caller, wording).await
}

/// What is to be answered, and what the answer begins with.
fn read_prompt(
    request: &GenerateRequest,
    warnings: &mut Vec<String>,
) -> Result<(PromptInput, Option<String>), ApiError> {
    let echo = request.echo.unwrap_or(false);
    match (&request.prompt, &request.messages) {
        (Some(prompt), None) => {
            let echoed = echo.then(|| prompt.clone());
            Ok((PromptInput::Text(prompt.clone()), echoed))
        }
        (None, Some(_)) if echo => {
            let message = "`echo` needs a `prompt`; the messages of a conversation are not echoed";
            Err(ApiError::invalid("invalid_value", message).with_param("echo"))
        }
        (None, Some(turns)) => {
            let messages = read_messages(turns, warnings)?;
            Ok((PromptInput::Dialogue(messages), None))
        }
        (prompt, _) => {
            let got = if prompt.is_some() { "both" } else { "neither" };
            let message =
                format!("exactly one of `prompt` and `messages` must be given, got {got}");
            Err(ApiError::invalid("invalid_value", message).with_param("prompt"))
        }
    }
}

/// A prompt's own log-probabilities are not computed, so they cannot be told.
pub(super) fn echo_with_logprobs() -> ApiError {
    let message = "`echo` and `logprobs` cannot be combined: this server does not compute the \
                   log-probabilities of a prompt's own tokens; leave one of them out";
    ApiError::invalid("unsupported_parameter", message).with_param("echo")
}

struct NativeWording {
    identity: Identity,
    options: ReplyOptions,
    count: usize,
    /// What every answer begins with.
    echo: Option<String>,
}

impl Wording for NativeWording {
    fn whole(self, answers: &Answers, whole: Vec<WholeAnswer>, usage: Usage) -> Response {
        let body = |answer: &WholeAnswer| AnswerBody {
            text: self.echo.clone().unwrap_or_default() + &answer.text,
            finish_reason: answer.reason,
            token_ids: self.options.token_ids(&answer.tokens),
            logprobs: self.options.logprobs(&answers.speller(), &answer.tokens),
        };
        let Some(first) = whole.first().map(body) else {
            return ApiError::internal().into_response();
        };
        let several = whole.iter().filter(|_| whole.len() > 1).enumerate();
        let choices = several
            .map(|(index, answer)| GenerationChoice {
                index,
                seed: answer.seed,
                answer: body(answer),
            })
            .collect();
        let identity = self.identity;
        let generation = Generation {
            id: identity.id,
            object: "generation",
            created: identity.created,
            model: identity.model,
            answer: first,
            choices,
            usage: UsageBody::new(usage, identity.steering.clone()),
            steering: identity.steering,
            seed: identity.seed,
            warnings: identity.warnings,
        };
        Json(generation).into_response()
    }

    fn opening(&mut self) -> Vec<String> {
        let echo = self.echo.clone().unwrap_or_default();
        let first = GenerationChunk {
            steering: self.identity.steering.clone(),
            seed: Some(self.identity.seed),
            warnings: std::mem::take(&mut self.identity.warnings),
            ..self.chunk(0, echo.clone())
        };
        let others = 1..self.count;
        let others = others
            .filter(|_| !echo.is_empty())
            .map(|index| json(&self.chunk(index, echo.clone())));
        std::iter::once(json(&first)).chain(others).collect()
    }

    fn piece(&mut self, answers: &Answers, index: usize, piece: Piece) -> Vec<String> {
        if self.options.leave_out(&piece) {
            return Vec::new();
        }
        let Piece { text, tokens } = piece;
        let delta = GenerationChunk {
            token_ids: self.options.token_ids(&tokens),
            logprobs: self.options.logprobs(&answers.speller(), &tokens),
            ..self.chunk(index, text)
        };
        vec![json(&delta)]
    }

    fn end(&mut self, index: usize, reason: FinishReason, usage: Option<Usage>) -> Vec<String> {
        let steering = self.identity.steering.clone();
        let last = GenerationChunk {
            finish_reason: Some(reason),
            usage: usage.map(|usage| UsageBody::new(usage, steering.clone())),
            steering,
            ..self.chunk(index, String::new())
        };
        vec![json(&last)]
    }
}

impl NativeWording {
    fn chunk(&self, index: usize, text: String) -> GenerationChunk {
        GenerationChunk {
            id: self.identity.id.clone(),
            object: "generation.chunk",
            created: self.identity.created,
            model: self.identity.model.clone(),
            index,
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
