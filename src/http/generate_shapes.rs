//! The shapes of native replies: whole, and in chunks.

use serde::Serialize;
use utoipa::ToSchema;

use super::reply::{Logprobs, UsageBody};
use super::weights::Steering;
use crate::types::{FinishReason, TokenId};

/// Answers to one prompt.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Generation {
    /// Unique to this reply.
    pub(super) id: String,
    /// Always `generation`.
    #[schema(example = "generation")]
    pub(super) object: &'static str,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// The model that answered.
    pub(super) model: String,
    /// The first answer.
    #[serde(flatten)]
    pub(super) answer: AnswerBody,
    /// With `n` above 1: every answer, the first too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) choices: Vec<GenerationChoice>,
    /// What they cost; the prompt counts once.
    pub(super) usage: UsageBody,
    /// What they were steered by; `null` for a model without objectives.
    pub(super) steering: Option<Steering>,
    /// The seed that the first was drawn with.
    pub(super) seed: u64,
    /// What of the request had no effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

/// One of several answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GenerationChoice {
    /// Counted from 0.
    pub(super) index: usize,
    /// The seed it was drawn with: asked alone with it, the same comes.
    pub(super) seed: u64,
    /// The answer.
    #[serde(flatten)]
    pub(super) answer: AnswerBody,
}

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Answer)]
pub(super) struct AnswerBody {
    /// The answer.
    pub(super) text: String,
    /// `stop`: an end-of-sequence token or a stop string; `length`: `max_tokens`.
    #[schema(value_type = String, example = "stop")]
    pub(super) finish_reason: FinishReason,
    /// With `return_token_ids`: the answer's tokens, a final stop token included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<u32>>)]
    pub(super) token_ids: Option<Vec<TokenId>>,
    /// With `logprobs`: each token's log-probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logprobs: Option<Logprobs>,
}

/// A piece of a streamed answer. The first carries `seed` and `warnings`, the first and each
/// answer's last `steering`, each answer's last `finish_reason`, the last of all `usage`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GenerationChunk {
    /// The same in every chunk.
    pub(super) id: String,
    /// Always `generation.chunk`.
    #[schema(example = "generation.chunk")]
    pub(super) object: &'static str,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// The model that answers.
    pub(super) model: String,
    /// Which answer this is a piece of, counted from 0.
    pub(super) index: usize,
    /// Text to append.
    pub(super) text: String,
    /// Why the answer ended; `null` before its last chunk.
    #[schema(value_type = Option<String>)]
    pub(super) finish_reason: Option<FinishReason>,
    /// With `return_token_ids`: tokens to append.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<u32>>)]
    pub(super) token_ids: Option<Vec<TokenId>>,
    /// With `logprobs`: the log-probabilities of these tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logprobs: Option<Logprobs>,
    /// What all answers cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<UsageBody>,
    /// What it is steered by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) steering: Option<Steering>,
    /// The seed that the first answer is drawn with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<u64>,
    /// What of the request had no effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}
