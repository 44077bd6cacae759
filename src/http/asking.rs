//! What every generating route reads of a request beside its prompt, and the steps they share.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, IntoResponses, ToSchema};

use super::account::Account;
use super::error::{ApiError, ErrorBody};
use super::fields::sort_rest;
use super::grammar::{ResponseFormat, grammar};
use super::metadata::read_metadata;
use super::reply::{Logprobs, token_ids};
use super::request_id::RequestId;
use super::sampling::SamplingFields;
use super::tell::Piece;
use super::truncation::TruncationFields;
use super::weights::{WeightsField, header_weights};
use crate::service::{
    Access, AnswerToken, GenerationInput, PromptInput, RawWeights, SamplingInput, Speller,
};
use crate::types::TokenId;

/// Who asks, as the headers tell.
pub(super) struct Caller {
    pub(super) request_id: RequestId,
    pub(super) account: Account,
    pub(super) access: Access,
    pub(super) header_weights: Option<RawWeights>,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let request_id = parts.extensions.get::<RequestId>().cloned();
        let account = parts.extensions.get::<Account>().cloned();
        // `auth` puts it there for every route that needs a key
        let access = parts.extensions.get::<Access>().cloned();
        Ok(Self {
            access: access.ok_or_else(ApiError::internal)?,
            request_id: request_id.unwrap_or_else(RequestId::invented),
            account: account.unwrap_or_default(),
            header_weights: header_weights(&parts.headers)?,
        })
    }
}

/// The fields that every generating route takes, beside its prompt.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct SharedFields {
    /// A model's id, `default`, or either followed by `@NAME=NUMBER,...` or `@PROFILE`. Default:
    /// the default policy.
    #[schema(example = "default")]
    model: Option<String>,
    /// Objective weights.
    objective_weights: Option<WeightsField>,
    /// A profile whose weights to use.
    #[schema(example = "cautious")]
    profile: Option<String>,
    /// Names a profile to use where nothing else says anything; else `warnings` say that it has
    /// no effect.
    user: Option<String>,
    /// Up to 16 strings. They have no effect, which `warnings` say, but for `objectives`, which is
    /// read as the header's weights are.
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    metadata: Option<Map<String, Value>>,
    /// How far beyond its weights the policy is pushed: the logits become
    /// `l(w) + (guidance - 1) * (l(w) - l(equal weights))`, from a second row of the same batch.
    #[schema(minimum = 0, maximum = 10, default = 1.0)]
    guidance: Option<f64>,
    /// What the answer must be. Under a grammar the answer ends where the grammar is complete; an
    /// answer that `max_tokens` cuts short is not.
    response_format: Option<ResponseFormat>,
    /// A regular expression that the answer matches from its first to its last character.
    regex: Option<String>,
    /// Answers to each prompt. The first has the request's seed, each further one a seed of its
    /// own, told in its choice; more than one needs a temperature above 0.
    #[schema(minimum = 1, maximum = 16, default = 1)]
    n: Option<u64>,
    /// Add `token_ids` to each choice.
    return_token_ids: Option<bool>,
    /// Send the answer as server-sent events.
    stream: Option<bool>,
    /// How the stream is told.
    stream_options: Option<StreamOptions>,
    #[serde(flatten)]
    truncation: TruncationFields,
    #[serde(flatten)]
    sampling: SamplingFields,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Map<String, Value>,
}

/// How a stream is told.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamOptions {
    /// Send one more chunk, without choices, that carries the usage. `/v1/generate` always tells
    /// the usage, in its last chunk.
    include_usage: Option<bool>,
    /// Has no effect here.
    include_obfuscation: Option<bool>,
}

/// How a reply is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReplyOptions {
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) token_ids: bool,
    pub(super) logprobs: bool,
}

impl ReplyOptions {
    /// Whether a piece of an answer has nothing to tell.
    pub(super) fn leave_out(&self, piece: &Piece) -> bool {
        piece.text.is_empty() && !self.token_ids && !self.logprobs
    }

    /// The ids of tokens, where they were asked for.
    pub(super) fn token_ids(&self, tokens: &[AnswerToken]) -> Option<Vec<TokenId>> {
        self.token_ids.then(|| token_ids(tokens))
    }

    /// The log-probabilities of tokens, where they were asked for.
    pub(super) fn logprobs(&self, speller: &Speller, tokens: &[AnswerToken]) -> Option<Logprobs> {
        self.logprobs.then(|| Logprobs::of(speller, tokens))
    }
}

/// Headers that say what to steer by, and which request this is.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct SteeringHeaders {
    /// Weights as `helpfulness=0.7,harmlessness=0.3`, where the body has none.
    #[param(rename = "x-objective-weights")]
    objective_weights: Option<String>,
    /// Taken over and echoed.
    #[param(rename = "x-request-id")]
    request_id: Option<String>,
}

/// A request taken apart: for the service, for the reply, and what had no effect.
pub(super) struct Asked {
    pub(super) input: GenerationInput,
    pub(super) options: ReplyOptions,
    pub(super) warnings: Vec<String>,
}

impl SharedFields {
    /// Takes a request apart. `prompts` are what is to be answered, `top_logprobs` how many
    /// alternatives the route was asked to tell with each token, if any.
    pub(super) fn take_apart(
        self,
        caller: &Caller,
        prompts: Vec<PromptInput>,
        top_logprobs: Option<u64>,
    ) -> Result<Asked, ApiError> {
        let mut warnings = sort_rest(&self.rest)?;
        let stream = self.stream.unwrap_or(false);
        let include_usage = read_stream_options(self.stream_options, stream, &mut warnings)?;
        let sampling = SamplingInput {
            top_logprobs,
            ..self.sampling.read()?
        };
        let options = ReplyOptions {
            stream,
            include_usage,
            token_ids: self.return_token_ids.unwrap_or(false),
            logprobs: top_logprobs.is_some(),
        };
        let input = GenerationInput {
            model: self.model,
            prompts,
            body_weights: self.objective_weights.map(|weights| weights.0),
            header_weights: caller.header_weights.clone(),
            profile: self.profile,
            metadata_weights: read_metadata(self.metadata, &mut warnings)?,
            user: self.user,
            access: caller.access.clone(),
            sampling,
            truncation: self.truncation.read()?,
            n: self.n,
            guidance: self.guidance,
            grammar: grammar(self.response_format, self.regex)?,
            timeline: caller.account.timeline().clone(),
        };
        Ok(Asked {
            input,
            options,
            warnings,
        })
    }
}

fn read_stream_options(
    stated: Option<StreamOptions>,
    stream: bool,
    warnings: &mut Vec<String>,
) -> Result<bool, ApiError> {
    let Some(stated) = stated else {
        return Ok(false);
    };
    if !stream {
        let message = "`stream_options` may only be given where `stream` is true";
        return Err(ApiError::invalid("invalid_value", message).with_param("stream_options"));
    }
    if stated.include_obfuscation == Some(true) {
        let warning = "`stream_options.include_obfuscation` was accepted but has no effect";
        warnings.push(warning.to_owned());
    }
    Ok(stated.include_usage.unwrap_or(false))
}

/// Why a generating route answers with an error.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum Refusals {
    /// The request cannot be answered.
    #[response(status = 400)]
    Invalid(ErrorBody),
    /// No such model or profile.
    #[response(status = 404)]
    NotFound(ErrorBody),
    /// The body is too large.
    #[response(status = 413)]
    TooLarge(ErrorBody),
    /// The body is not JSON.
    #[response(status = 415)]
    NotJson(ErrorBody),
    /// The queue is full, or the key's requests or tokens are used up for now.
    #[response(status = 429)]
    QueueFull(ErrorBody),
    /// The server failed.
    #[response(status = 500)]
    Failed(ErrorBody),
    /// The server cannot serve now.
    #[response(status = 503)]
    Unavailable(ErrorBody),
    /// The request waited too long for its first token.
    #[response(status = 504)]
    WaitedTooLong(ErrorBody),
}
