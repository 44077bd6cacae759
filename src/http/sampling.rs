//! The sampling fields that every generating route shares.

use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::error::ApiError;
use crate::service::SamplingInput;

/// How tokens are chosen, and how the reply is told.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(super) struct SamplingFields {
    /// 0 to 2; 0 always takes the likeliest token. Default: the checkpoint's, else 1.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// Keep the likeliest tokens that make up this share; above 0, up to 1 (off).
    #[schema(exclusive_minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// Keep this many of the likeliest tokens; -1 or 0 is off.
    #[schema(minimum = -1)]
    top_k: Option<i64>,
    /// Keep tokens with at least this share of the likeliest token's probability; 0 is off.
    #[schema(minimum = 0, maximum = 1)]
    min_p: Option<f64>,
    /// Same seed, weights, policy version and prompt: same answer. Drawn and told where absent.
    #[schema(minimum = 0)]
    seed: Option<u64>,
    /// One string or up to 16, each of 1 to 256 bytes, that end the answer and are no part of it.
    #[schema(value_type = Option<StopSchema>)]
    stop: Option<StopField>,
    /// Token ids that end the answer and are no part of its text.
    #[serde(default)]
    stop_token_ids: Option<Vec<u32>>,
    /// Most tokens to generate. Default: the checkpoint's or the server's, within the context.
    #[schema(minimum = 1)]
    max_tokens: Option<u64>,
    /// Another name of `max_tokens`.
    #[schema(minimum = 1)]
    max_completion_tokens: Option<u64>,
    /// Fewest tokens before the answer may end.
    #[schema(minimum = 0)]
    min_tokens: Option<u64>,
    /// Go on past the end-of-sequence token until `max_tokens`.
    ignore_eos: Option<bool>,
    /// Tell each token's log-probability.
    logprobs: Option<bool>,
    /// With `logprobs`: tell also this many of the likeliest tokens at each place.
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<u64>,
    /// Answers per prompt; only 1 so far.
    #[schema(minimum = 1, maximum = 1)]
    n: Option<u64>,
    /// Add `token_ids` to the reply.
    return_token_ids: Option<bool>,
    /// Send the answer as server-sent events.
    stream: Option<bool>,
}

/// How a reply is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReplyOptions {
    pub(super) stream: bool,
    pub(super) token_ids: bool,
    pub(super) logprobs: bool,
}

impl SamplingFields {
    /// Takes the fields apart into what the engine and the reply need.
    pub(super) fn split(self) -> Result<(SamplingInput, ReplyOptions), ApiError> {
        let logprobs = self.logprobs.unwrap_or(false);
        self.check(logprobs)?;
        let reply = ReplyOptions {
            stream: self.stream.unwrap_or(false),
            token_ids: self.return_token_ids.unwrap_or(false),
            logprobs,
        };
        let sampling = SamplingInput {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            seed: self.seed,
            stop: self.stop.map_or_else(Vec::new, |stop| stop.0),
            stop_token_ids: self.stop_token_ids.unwrap_or_default(),
            max_tokens: self.max_tokens.or(self.max_completion_tokens),
            min_tokens: self.min_tokens,
            ignore_eos: self.ignore_eos.unwrap_or(false),
            top_logprobs: logprobs.then(|| self.top_logprobs.unwrap_or(0)),
        };
        Ok((sampling, reply))
    }

    fn check(&self, logprobs: bool) -> Result<(), ApiError> {
        if let (Some(a), Some(b)) = (self.max_tokens, self.max_completion_tokens)
            && a != b
        {
            let message = format!(
                "`max_tokens` ({a}) and `max_completion_tokens` ({b}) are two names of one \
                 setting and must not differ; send one of them"
            );
            return Err(ApiError::invalid("invalid_value", message).with_param("max_tokens"));
        }
        if let Some(n) = self.n
            && n != 1
        {
            let message = format!("`n` must be 1, got {n}: this server gives one answer a request");
            return Err(ApiError::invalid("unsupported_parameter", message).with_param("n"));
        }
        if self.top_logprobs.is_some_and(|top| top > 0) && !logprobs {
            let message = "`top_logprobs` needs `logprobs` to be true";
            return Err(ApiError::invalid("invalid_value", message).with_param("top_logprobs"));
        }
        Ok(())
    }
}

/// `stop`: a string or several.
#[derive(Debug, Clone)]
struct StopField(Vec<String>);

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or an array of strings")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl<'de> Deserialize<'de> for StopField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match OneOrMany::deserialize(deserializer)? {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        }))
    }
}

/// A string or up to 16, each of 1 to 256 bytes.
#[derive(ToSchema)]
#[schema(as = Stop)]
#[expect(dead_code, reason = "only its schema is used")]
#[serde(untagged)]
enum StopSchema {
    One(String),
    Many(Vec<String>),
}
