//! The shapes of text completions: request, and reply, whole or in chunks.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::asking::SharedFields;
use super::super::reply::{UsageBody, finite};
use super::super::weights::{NamedNumbers, Steering};
use crate::service::{AnswerToken, Speller};
use crate::types::{FinishReason, TokenId};

/// Texts and how to continue them.
#[derive(Debug, Deserialize, ToSchema)]
pub(in crate::http) struct CompletionRequest {
    /// The text to continue, or several, as text or as token ids. At most 64 answers are given to
    /// one request, over all its prompts.
    #[schema(value_type = PromptField)]
    pub(super) prompt: Option<PromptField>,
    /// Begin each answer with its prompt.
    pub(super) echo: Option<bool>,
    /// Tell each token's log-probability, and so many of the likeliest tokens at its place.
    #[schema(minimum = 0, maximum = 5)]
    pub(super) logprobs: Option<u64>,
    #[serde(flatten)]
    pub(super) shared: SharedFields,
}

/// One prompt or several.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Prompt)]
#[serde(
    untagged,
    expecting = "expected a string, an array of strings, an array of token ids, or an array of \
                 such arrays"
)]
pub(in crate::http) enum PromptField {
    /// A text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// Token ids.
    #[schema(value_type = Vec<u32>)]
    Ids(Vec<TokenId>),
    /// Lists of token ids.
    #[schema(value_type = Vec<Vec<u32>>)]
    IdLists(Vec<Vec<TokenId>>),
}

/// Completions in OpenAI's shape, or a piece of them in a stream.
///
/// In a stream the first chunk carries `seed` and `warnings`; the first, each answer's last and
/// the one with the usage carry `steering`.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct TextCompletion {
    /// Unique to this reply; the same in every chunk.
    pub(super) id: String,
    /// Always `text_completion`.
    #[schema(example = "text_completion")]
    pub(super) object: &'static str,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// The model that answers.
    pub(super) model: String,
    /// Names the build and the policy's version.
    pub(super) system_fingerprint: String,
    /// `n` answers to each prompt, prompt by prompt; none in the chunk that carries the usage.
    pub(super) choices: Vec<CompletionChoice>,
    /// What they cost. In a stream only with `include_usage`: `null`, and in the last chunk the
    /// usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UsageBody>)]
    pub(super) usage: Option<Option<UsageBody>>,
    /// What they are steered by; `null` for a model without objectives.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Steering>)]
    pub(super) steering: Option<Option<Steering>>,
    /// The seed of each prompt's first answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<u64>,
    /// What of the request had no effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

/// One answer, or a piece of it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct CompletionChoice {
    /// Counted from 0.
    pub(super) index: usize,
    /// The text, or text to append.
    pub(super) text: String,
    /// `stop`: an end-of-sequence token or a stop string; `length`: `max_tokens`; `null` before
    /// the answer's end.
    #[schema(value_type = Option<String>, example = "stop")]
    pub(super) finish_reason: Option<FinishReason>,
    /// With `logprobs`: the log-probabilities of these tokens.
    pub(super) logprobs: Option<CompletionLogprobs>,
    /// With `return_token_ids`: these tokens, a final stop token included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<u32>>)]
    pub(super) token_ids: Option<Vec<TokenId>>,
    /// The seed it is drawn with: asked alone with it, the same comes. In a stream in the first
    /// chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<u64>,
}

/// Log-probabilities in the older shape: one list a kind.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct CompletionLogprobs {
    /// Each token's text.
    tokens: Vec<String>,
    /// Each token's natural log-probability; -9999 stands for impossible.
    token_logprobs: Vec<f32>,
    /// At each place, the likeliest tokens by their text. Of several with one text (parts of
    /// characters have none of their own) the likeliest is told.
    #[schema(value_type = Vec<std::collections::BTreeMap<String, f32>>)]
    top_logprobs: Vec<NamedNumbers>,
    /// Characters of the answer before each token, or before the character that it is part of.
    text_offset: Vec<usize>,
}

impl CompletionLogprobs {
    pub(super) fn of(speller: &Speller, tokens: &[AnswerToken]) -> Self {
        let text = |id: TokenId| speller.text(id);
        let top = |token: &AnswerToken| {
            let mut likeliest: Vec<(String, f32)> = Vec::with_capacity(token.top.len());
            for (id, logprob) in &token.top {
                let text = text(*id);
                if likeliest.iter().all(|(seen, _)| *seen != text) {
                    likeliest.push((text, finite(*logprob)));
                }
            }
            NamedNumbers(likeliest)
        };
        Self {
            tokens: tokens.iter().map(|token| text(token.id)).collect(),
            token_logprobs: tokens.iter().map(|token| finite(token.logprob)).collect(),
            top_logprobs: tokens.iter().map(top).collect(),
            text_offset: tokens.iter().map(|token| token.offset).collect(),
        }
    }
}
