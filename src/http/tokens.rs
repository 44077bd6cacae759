//! `POST /v1/tokenize`, `/v1/detokenize`: text to tokens and back.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::asking::Caller;
use super::body::JsonBody;
use super::error::{ApiError, ErrorBody};
use super::fields::sort_rest;
use super::messages::{MessageSchema, read_messages};
use super::truncation::TruncationFields;
use super::weights::{Steering, WeightsField, steering_headers};
use crate::service::{Access, App, PromptInput, TokenizeInput, WeightsOffers};
use crate::types::TokenId;

/// A text or conversation to be tokenised as a prompt.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct TokenizeRequest {
    /// A model's id, `default`, or either followed by `@NAME=NUMBER,...` or `@PROFILE`. Default:
    /// the default policy.
    #[schema(example = "default")]
    model: Option<String>,
    /// A text, encoded as `/v1/completions` does. Exactly one of `prompt` and `messages` must be
    /// there.
    #[schema(example = "What is the capital of France?")]
    prompt: Option<String>,
    /// A conversation, encoded as `/v1/chat/completions` does.
    #[schema(value_type = Option<Vec<MessageSchema>>)]
    messages: Option<Vec<Value>>,
    /// Objective weights: the conditioning that tells them is among the tokens. Without any, here
    /// or in header, `profile` or `model`, there is none.
    objective_weights: Option<WeightsField>,
    /// A profile whose weights to use.
    #[schema(example = "cautious")]
    profile: Option<String>,
    #[serde(flatten)]
    truncation: TruncationFields,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Map<String, Value>,
}

/// A prompt's tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenizeBody {
    /// Whose tokens they are.
    model: String,
    /// Their ids.
    #[schema(value_type = Vec<u32>)]
    tokens: Vec<TokenId>,
    /// What each of them spells; part of a character spells the replacement character.
    token_strs: Vec<String>,
    /// How many there are.
    count: usize,
    /// Tokens that prompt and answer may have together.
    max_model_len: usize,
    /// What the conditioning among them tells; `null` without any.
    steering: Option<Steering>,
    /// What of the request had no effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Tokenise a prompt, with the conditioning where weights are given.
#[utoipa::path(
    post,
    path = "/v1/tokenize",
    operation_id = "create_tokens",
    tag = "tokens",
    params(
        ("x-objective-weights" = Option<String>, Header,
         description = "Weights as `helpfulness=0.7,harmlessness=0.3`, where the body has none."),
    ),
    request_body = TokenizeRequest,
    responses(
        (status = 200, description = "The tokens.", body = TokenizeBody, headers(
            ("x-policy-version" = String, description = "The version of the policy."),
         )),
        (status = 400, description = "The prompt cannot be tokenised.", body = ErrorBody),
        (status = 404, description = "No such model.", body = ErrorBody),
        (status = 413, description = "The body is too large.", body = ErrorBody),
        (status = 415, description = "The body is not JSON.", body = ErrorBody),
        (status = 500, description = "The server failed.", body = ErrorBody),
        (status = 504, description = "No turn at a large text came in time.", body = ErrorBody),
    )
)]
pub(super) async fn create_tokens(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(request): JsonBody<TokenizeRequest>,
) -> Result<(HeaderMap, Json<TokenizeBody>), ApiError> {
    let mut warnings = sort_rest(&request.rest)?;
    let prompt = match (request.prompt, request.messages) {
        (Some(prompt), None) => PromptInput::Raw(prompt),
        (None, Some(turns)) => PromptInput::Dialogue(read_messages(&turns, &mut warnings)?),
        _ => {
            let message = "exactly one of `prompt` and `messages` must be given";
            return Err(ApiError::invalid("invalid_value", message).with_param("prompt"));
        }
    };
    let tokenized = app
        .tokenize(TokenizeInput {
            model: request.model,
            prompt,
            body_weights: request.objective_weights.map(|weights| weights.0),
            profile: request.profile,
            header_weights: caller.header_weights,
            truncation: request.truncation.read()?,
        })
        .await?;
    warnings.extend(tokenized.remarks);
    let steered = &tokenized.steered;
    let headers = steering_headers(&steered.policy.version, steered.steering.as_ref());
    let body = TokenizeBody {
        model: steered.policy.id.clone(),
        count: tokenized.ids.len(),
        max_model_len: app.context_length(),
        steering: steered.steering.as_ref().map(Steering::from),
        tokens: tokenized.ids,
        token_strs: tokenized.texts,
        warnings,
    };
    Ok((headers, Json(body)))
}

/// Tokens to be read.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct DetokenizeRequest {
    /// A model's id; all models of a server share one vocabulary.
    #[schema(example = "default")]
    model: Option<String>,
    /// Token ids.
    #[schema(value_type = Vec<u32>)]
    tokens: Option<Vec<TokenId>>,
    /// Leave the texts of special tokens out.
    #[schema(default = false)]
    skip_special_tokens: Option<bool>,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Map<String, Value>,
}

/// What tokens spell.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DetokenizeBody {
    /// The text.
    prompt: String,
    /// What of the request had no effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Read tokens as text.
#[utoipa::path(
    post,
    path = "/v1/detokenize",
    operation_id = "create_text_of_tokens",
    tag = "tokens",
    request_body = DetokenizeRequest,
    responses(
        (status = 200, description = "The text.", body = DetokenizeBody, headers(
            ("x-policy-version" = String, description = "The version of the policy."),
         )),
        (status = 400, description = "The tokens cannot be read.", body = ErrorBody),
        (status = 404, description = "No such model.", body = ErrorBody),
        (status = 413, description = "The body is too large.", body = ErrorBody),
        (status = 415, description = "The body is not JSON.", body = ErrorBody),
        (status = 500, description = "The server failed.", body = ErrorBody),
    )
)]
pub(super) async fn create_text_of_tokens(
    State(app): State<Arc<App>>,
    JsonBody(request): JsonBody<DetokenizeRequest>,
) -> Result<(HeaderMap, Json<DetokenizeBody>), ApiError> {
    let warnings = sort_rest(&request.rest)?;
    let ids = request.tokens.ok_or_else(|| {
        let message = "`tokens` is missing; it holds the token ids to read";
        ApiError::invalid("missing_field", message).with_param("tokens")
    })?;
    let offers = WeightsOffers::default();
    let steered = app
        .steer(request.model.as_deref(), &offers, &Access::open())
        .await?;
    let skip_specials = request.skip_special_tokens.unwrap_or(false);
    let prompt = app.detokenize(ids, skip_specials).await?;
    let headers = steering_headers(&steered.policy.version, None);
    Ok((headers, Json(DetokenizeBody { prompt, warnings })))
}
