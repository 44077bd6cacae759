//! `POST /v1/completions`: text to continue, whole and streamed, in OpenAI's shapes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::super::asking::{Caller, Refusals, ReplyOptions, SteeringHeaders};
use super::super::body::JsonBody;
use super::super::error::ApiError;
use super::super::generate::echo_with_logprobs;
use super::super::reply::{Identity, UsageBody};
use super::super::sse::json;
use super::super::tell::{Piece, Wording, tell};
use super::completion_shapes::{
    CompletionChoice, CompletionLogprobs, CompletionRequest, PromptField, TextCompletion,
};
use crate::service::{Answers, App, PromptInput, WholeAnswer};
use crate::types::{FinishReason, Usage};

/// Most alternatives told with each token.
const MAX_LOGPROBS: u64 = 5;

/// Continue texts, steered by objective weights, in OpenAI's shapes.
///
/// No chat template is applied: the prompt is raw text, continued as it stands, behind the
/// conditioning. A policy that was trained on conversations, as those of `steersman train` are,
/// answers better on /v1/chat/completions and /v1/generate; `warnings` say so.
/// `suffix` and `best_of` above 1 are refused, and so is `echo` together with `logprobs`.
#[utoipa::path(
    post,
    path = "/v1/completions",
    operation_id = "create_completion",
    tag = "generation",
    params(SteeringHeaders),
    request_body = CompletionRequest,
    responses(
        (status = 200, description = "The completions; with `stream` server-sent events, each a \
         TextCompletion, the last one `[DONE]`.", content(
            (TextCompletion = "application/json"),
            (TextCompletion = "text/event-stream"),
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
pub(in crate::http) async fn create_completion(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(request): JsonBody<CompletionRequest>,
) -> Result<Response, ApiError> {
    let prompts = request
        .prompt
        .ok_or_else(|| {
            let message = "`prompt` is missing; it holds the text to continue";
            ApiError::invalid("missing_field", message).with_param("prompt")
        })?
        .read()?;
    if let Some(logprobs) = request.logprobs
        && logprobs > MAX_LOGPROBS
    {
        let message = format!("`logprobs` must be between 0 and {MAX_LOGPROBS}, got {logprobs}");
        return Err(ApiError::invalid("invalid_value", message).with_param("logprobs"));
    }
    let echo = request.echo.unwrap_or(false);
    if echo && request.logprobs.is_some() {
        return Err(echo_with_logprobs());
    }
    let echoed = echo.then(|| prompts.clone());
    let asked = request
        .shared
        .take_apart(&caller, prompts, request.logprobs)?;
    let answers = app.generate(asked.input).await?;
    let echoes = spell_prompts(&app, &echoed.unwrap_or_default()).await?;
    let wording = CompletionWording {
        identity: Identity::of("cmpl", &answers, asked.warnings),
        options: asked.options,
        seeds: (0..answers.count()).map(|i| answers.seed_of(i)).collect(),
        echoes,
    };
    tell(answers, asked.options.stream, caller, wording).await
}

/// The text of each prompt.
async fn spell_prompts(app: &App, prompts: &[PromptInput]) -> Result<Vec<String>, ApiError> {
    let mut texts = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        texts.push(match prompt {
            PromptInput::Tokens(ids) => {
                // they were checked when they became a prompt
                app.detokenize(ids.clone(), true).await?
            }
            PromptInput::Text(text) | PromptInput::Raw(text) => text.clone(),
            PromptInput::Dialogue(_) => String::new(),
        });
    }
    Ok(texts)
}

impl PromptField {
    fn read(self) -> Result<Vec<PromptInput>, ApiError> {
        let prompts = match self {
            Self::Text(text) => vec![PromptInput::Raw(text)],
            Self::Texts(texts) => texts.into_iter().map(PromptInput::Raw).collect(),
            Self::Ids(ids) => vec![PromptInput::Tokens(ids)],
            Self::IdLists(lists) => lists.into_iter().map(PromptInput::Tokens).collect(),
        };
        if prompts.is_empty() {
            let message = "`prompt` must hold at least one prompt, got an empty list";
            return Err(ApiError::invalid("invalid_value", message).with_param("prompt"));
        }
        Ok(prompts)
    }
}

struct CompletionWording {
    identity: Identity,
    options: ReplyOptions,
    /// Of each answer.
    seeds: Vec<u64>,
    /// What the answers to each prompt begin with; empty where nothing is echoed.
    echoes: Vec<String>,
}

impl Wording for CompletionWording {
    fn whole(self, answers: &Answers, whole: Vec<WholeAnswer>, usage: Usage) -> Response {
        let choices = whole
            .iter()
            .enumerate()
            .map(|(index, answer)| CompletionChoice {
                finish_reason: Some(answer.reason),
                logprobs: self
                    .options
                    .logprobs
                    .then(|| CompletionLogprobs::of(&answers.speller(), &answer.tokens)),
                token_ids: self.options.token_ids(&answer.tokens),
                seed: Some(answer.seed),
                ..choice(index, self.echo(index).to_owned() + &answer.text)
            })
            .collect();
        let completion = TextCompletion {
            usage: Some(Some(UsageBody::new(usage, self.identity.steering.clone()))),
            steering: Some(self.identity.steering.clone()),
            seed: Some(self.identity.seed),
            warnings: self.identity.warnings.clone(),
            ..self.chunk(choices)
        };
        Json(completion).into_response()
    }

    fn opening(&mut self) -> Vec<String> {
        let mut chunks = Vec::with_capacity(self.seeds.len());
        for (index, seed) in self.seeds.iter().enumerate() {
            let opening = CompletionChoice {
                seed: Some(*seed),
                ..choice(index, self.echo(index).to_owned())
            };
            chunks.push(self.chunk(vec![opening]));
        }
        if let Some(first) = chunks.first_mut() {
            first.steering = Some(self.identity.steering.clone());
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
        let piece = CompletionChoice {
            logprobs: self
                .options
                .logprobs
                .then(|| CompletionLogprobs::of(&answers.speller(), &tokens)),
            token_ids: self.options.token_ids(&tokens),
            ..choice(index, text)
        };
        vec![json(&self.chunk(vec![piece]))]
    }

    fn end(&mut self, index: usize, reason: FinishReason, usage: Option<Usage>) -> Vec<String> {
        let steering = self.identity.steering.clone();
        let end = CompletionChoice {
            finish_reason: Some(reason),
            ..choice(index, String::new())
        };
        let last = TextCompletion {
            steering: Some(steering.clone()),
            ..self.chunk(vec![end])
        };
        let mut words = vec![json(&last)];
        if let Some(usage) = usage.filter(|_| self.options.include_usage) {
            words.push(json(&TextCompletion {
                usage: Some(Some(UsageBody::new(usage, steering.clone()))),
                steering: Some(steering),
                ..self.chunk(Vec::new())
            }));
        }
        words
    }
}

impl CompletionWording {
    /// What an answer begins with.
    fn echo(&self, index: usize) -> &str {
        let per_prompt = self.seeds.len() / self.echoes.len().max(1);
        let echo = self.echoes.get(index / per_prompt.max(1));
        echo.map_or("", String::as_str)
    }

    fn chunk(&self, choices: Vec<CompletionChoice>) -> TextCompletion {
        TextCompletion {
            id: self.identity.id.clone(),
            object: "text_completion",
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

fn choice(index: usize, text: String) -> CompletionChoice {
    CompletionChoice {
        index,
        text,
        finish_reason: None,
        logprobs: None,
        token_ids: None,
        seed: None,
    }
}
