//! The sampling fields that every generating route shares.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::error::ApiError;
use crate::service::SamplingInput;
use crate::types::TokenId;

/// How tokens are chosen.
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
    /// Keep the tokens whose surprise is nearest to the expected one, up to this share; above 0,
    /// up to 1 (off).
    #[schema(exclusive_minimum = 0, maximum = 1)]
    typical_p: Option<f64>,
    /// Taken off the logit of each token that was generated already; 0 is off.
    #[schema(minimum = -2, maximum = 2)]
    presence_penalty: Option<f64>,
    /// Taken off a token's logit for each time that it was generated already; 0 is off.
    #[schema(minimum = -2, maximum = 2)]
    frequency_penalty: Option<f64>,
    /// Divides the positive and multiplies the negative logits of tokens of prompt and answer;
    /// above 0, up to 2; 1 is off. Default: the checkpoint's, else 1.
    #[schema(exclusive_minimum = 0, maximum = 2)]
    repetition_penalty: Option<f64>,
    /// Token ids, each with what is added to its logit: -100 to 100.
    #[schema(value_type = Option<BTreeMap<String, f64>>)]
    logit_bias: Option<BTreeMap<String, f64>>,
    /// Same seed, weights, policy version and prompt: same answer. Drawn and told where absent.
    #[schema(minimum = 0)]
    seed: Option<u64>,
    /// One string or up to 16, each of 1 to 256 bytes, that end the answer and are no part of it.
    #[schema(value_type = Option<StopSchema>)]
    stop: Option<StopField>,
    /// Token ids that end the answer and are no part of its text.
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
}

/// Whether each token's log-probability is told, as chats ask for it.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(super) struct LogprobsFields {
    /// Tell each token's log-probability.
    logprobs: Option<bool>,
    /// With `logprobs`: tell also this many of the likeliest tokens at each place.
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<u64>,
}

impl LogprobsFields {
    /// How many alternatives are told with each token; `None` where nothing is.
    pub(super) fn read(&self) -> Result<Option<u64>, ApiError> {
        match (self.logprobs.unwrap_or(false), self.top_logprobs) {
            (true, top) => Ok(Some(top.unwrap_or(0))),
            (false, None | Some(0)) => Ok(None),
            (false, Some(_)) => {
                let message = "`top_logprobs` needs `logprobs` to be true";
                Err(ApiError::invalid("invalid_value", message).with_param("top_logprobs"))
            }
        }
    }
}

impl SamplingFields {
    /// The fields as the service takes them, without log-probabilities.
    pub(super) fn read(self) -> Result<SamplingInput, ApiError> {
        if let (Some(a), Some(b)) = (self.max_tokens, self.max_completion_tokens)
            && a != b
        {
            let message = format!(
                "`max_tokens` ({a}) and `max_completion_tokens` ({b}) are two names of one \
                 setting and must not differ; send one of them"
            );
            return Err(ApiError::invalid("invalid_value", message).with_param("max_tokens"));
        }
        Ok(SamplingInput {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            typical_p: self.typical_p,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            repetition_penalty: self.repetition_penalty,
            logit_bias: read_biases(self.logit_bias.unwrap_or_default())?,
            seed: self.seed,
            stop: self.stop.map_or_else(Vec::new, |stop| stop.0),
            stop_token_ids: self.stop_token_ids.unwrap_or_default(),
            max_tokens: self.max_tokens.or(self.max_completion_tokens),
            min_tokens: self.min_tokens,
            ignore_eos: self.ignore_eos.unwrap_or(false),
            top_logprobs: None,
        })
    }
}

/// JSON has only text as keys, so ids come as text.
fn read_biases(stated: BTreeMap<String, f64>) -> Result<Vec<(TokenId, f64)>, ApiError> {
    let mut biases: Vec<(TokenId, f64)> = Vec::with_capacity(stated.len());
    for (key, bias) in stated {
        let quoted: String = key.chars().take(40).collect();
        let refuse = |problem: &str| {
            let message = format!("`logit_bias` names `{quoted}`, {problem}");
            ApiError::invalid("invalid_value", message).with_param("logit_bias")
        };
        let id = key
            .parse::<TokenId>()
            .map_err(|_| refuse("expected a token id as in {\"42\": -100}"))?;
        if biases.iter().any(|(seen, _)| *seen == id) {
            return Err(refuse("which stands there twice"));
        }
        biases.push((id, bias));
    }
    Ok(biases)
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
