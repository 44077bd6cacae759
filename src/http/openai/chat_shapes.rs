//! The shapes of chat completions: request, whole reply, chunk.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::super::asking::SharedFields;
use super::super::messages::MessageSchema;
use super::super::reply::{Logprobs, UsageBody};
use super::super::sampling::LogprobsFields;
use super::super::weights::Steering;
use crate::types::{FinishReason, TokenId};

/// A conversation and how to answer it.
#[derive(Debug, Deserialize, ToSchema)]
pub(in crate::http) struct ChatRequest {
    /// The conversation.
    #[schema(value_type = Vec<MessageSchema>)]
    pub(super) messages: Option<Vec<Value>>,
    #[serde(flatten)]
    pub(super) logprobs: LogprobsFields,
    #[serde(flatten)]
    pub(super) shared: SharedFields,
}

/// An answer in OpenAI's shape, with `steering` and `seed` beside it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ChatCompletion {
    /// Unique to this answer.
    pub(super) id: String,
    /// Always `chat.completion`.
    #[schema(example = "chat.completion")]
    pub(super) object: &'static str,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// The model that answered.
    pub(super) model: String,
    /// Names the build and the policy's version.
    pub(super) system_fingerprint: String,
    /// `n` answers.
    pub(super) choices: Vec<ChatChoice>,
    /// What it cost.
    pub(super) usage: UsageBody,
    /// What it was steered by; `null` for a model without objectives.
    pub(super) steering: Option<Steering>,
    /// The seed that the first answer was drawn with.
    pub(super) seed: u64,
    /// What of the request had no effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

/// One answer.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ChatChoice {
    /// Counted from 0.
    pub(super) index: usize,
    /// The answer.
    pub(super) message: ChatAnswer,
    /// `stop`: an end-of-sequence token or a stop string; `length`: `max_tokens`.
    #[schema(value_type = String, example = "stop")]
    pub(super) finish_reason: FinishReason,
    /// With `logprobs`: each token's log-probability.
    pub(super) logprobs: Option<Logprobs>,
    /// With `return_token_ids`: the answer's tokens, a final stop token included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<u32>>)]
    pub(super) token_ids: Option<Vec<TokenId>>,
    /// The seed it was drawn with: asked alone with it, the same comes.
    pub(super) seed: u64,
}

/// What the model said.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ChatAnswer {
    /// Always `assistant`.
    #[schema(example = "assistant")]
    pub(super) role: &'static str,
    /// The text.
    pub(super) content: String,
    /// Always `null`: a policy that declines says so in `content`.
    pub(super) refusal: Option<String>,
}

/// A piece of a streamed answer. The first carries `seed` and `warnings`; the first, the one with
/// the finish reason and the one with the usage carry `steering`.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ChatChunk {
    /// The same in every chunk.
    pub(super) id: String,
    /// Always `chat.completion.chunk`.
    #[schema(example = "chat.completion.chunk")]
    pub(super) object: &'static str,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// The model that answers.
    pub(super) model: String,
    /// Names the build and the policy's version.
    pub(super) system_fingerprint: String,
    /// One choice; none in the chunk that carries the usage.
    pub(super) choices: Vec<ChunkChoice>,
    /// With `include_usage`: `null`, and the usage in the last chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UsageBody>)]
    pub(super) usage: Option<Option<UsageBody>>,
    /// What it is steered by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) steering: Option<Steering>,
    /// The seed it is drawn with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<u64>,
    /// What of the request had no effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

/// A piece of one answer.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ChunkChoice {
    /// Counted from 0.
    pub(super) index: usize,
    /// What to append.
    pub(super) delta: ChatDelta,
    /// Why the answer ended; `null` before its end.
    #[schema(value_type = Option<String>)]
    pub(super) finish_reason: Option<FinishReason>,
    /// With `logprobs`: the log-probabilities of these tokens.
    pub(super) logprobs: Option<Logprobs>,
    /// With `return_token_ids`: tokens to append.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<u32>>)]
    pub(super) token_ids: Option<Vec<TokenId>>,
    /// In the answer's first chunk: the seed it is drawn with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<u64>,
}

/// What to append to an answer.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(in crate::http) struct ChatDelta {
    /// In the first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    /// Text to append.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<String>,
}
