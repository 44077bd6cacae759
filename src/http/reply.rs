//! Parts that the replies of all generating routes share.

use serde::Serialize;
use utoipa::ToSchema;

use super::weights::Steering;
use crate::service::{AnswerToken, Answers, Speller};
use crate::types::{TokenId, Usage};

/// The log-probability that stands for impossible: JSON has no infinity.
const LOWEST_LOGPROB: f32 = -9999.0;

/// What a request cost, in tokens, and what it was steered by.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Usage)]
pub(super) struct UsageBody {
    /// Tokens of the prompt, the conditioning included.
    prompt_tokens: usize,
    /// Tokens generated, the final stop token included.
    completion_tokens: usize,
    /// Both together.
    total_tokens: usize,
    /// Of the prompt.
    prompt_tokens_details: PromptTokensDetails,
    /// Of the answer.
    completion_tokens_details: CompletionTokensDetails,
    /// As at the top level; some clients keep only `usage`.
    steering: Option<Steering>,
}

impl UsageBody {
    pub(super) fn new(usage: Usage, steering: Option<Steering>) -> Self {
        let Usage {
            prompt_tokens,
            completion_tokens,
            cached_tokens,
        } = usage;
        let total_tokens = prompt_tokens + completion_tokens;
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens,
            prompt_tokens_details: PromptTokensDetails { cached_tokens },
            completion_tokens_details: CompletionTokensDetails {
                reasoning_tokens: 0,
            },
            steering,
        }
    }
}

/// More of a prompt's tokens.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct PromptTokensDetails {
    /// Tokens that were not computed again.
    cached_tokens: usize,
}

/// More of an answer's tokens.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct CompletionTokensDetails {
    /// Always 0: whatever a policy generates is its answer.
    reasoning_tokens: usize,
}

/// Log-probabilities of an answer's tokens.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Logprobs {
    /// One entry a token.
    content: Vec<TokenLogprob>,
}

/// A token, its log-probability, and the likeliest tokens at its place.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct TokenLogprob {
    #[serde(flatten)]
    token: SpelledToken,
    /// The likeliest tokens at this place, likeliest first.
    top_logprobs: Vec<SpelledToken>,
}

/// A token and its log-probability.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct SpelledToken {
    /// The token's text.
    token: String,
    /// Its natural log-probability; -9999 stands for impossible.
    logprob: f32,
    /// Its bytes: a token may be part of a character.
    bytes: Vec<u8>,
}

impl Logprobs {
    pub(super) fn of(speller: &Speller, tokens: &[AnswerToken]) -> Self {
        let spell = |id: TokenId, logprob: f32| {
            let (token, bytes) = (speller.text(id), speller.bytes(id));
            SpelledToken {
                token,
                logprob: finite(logprob),
                bytes,
            }
        };
        let content = tokens.iter().map(|token| TokenLogprob {
            token: spell(token.id, token.logprob),
            top_logprobs: token
                .top
                .iter()
                .map(|&(id, logprob)| spell(id, logprob))
                .collect(),
        });
        Self {
            content: content.collect(),
        }
    }
}

/// A log-probability that JSON can hold.
pub(super) fn finite(logprob: f32) -> f32 {
    match logprob.is_finite() {
        true => logprob,
        false => LOWEST_LOGPROB,
    }
}

/// The ids of an answer's tokens.
pub(super) fn token_ids(tokens: &[AnswerToken]) -> Vec<TokenId> {
    tokens.iter().map(|token| token.id).collect()
}

/// What stays the same in a reply and in every chunk of a stream.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// The model that answers, without suffix.
    pub(super) model: String,
    pub(super) system_fingerprint: String,
    pub(super) seed: u64,
    pub(super) steering: Option<Steering>,
    pub(super) warnings: Vec<String>,
}

impl Identity {
    pub(super) fn of(prefix: &str, answers: &Answers, mut warnings: Vec<String>) -> Self {
        warnings.extend(answers.remarks.iter().cloned());
        let policy = &answers.steered.policy;
        Self {
            id: new_id(prefix),
            created: now(),
            model: policy.id.clone(),
            system_fingerprint: format!("fp_{}_{}", env!("CARGO_PKG_VERSION"), policy.version),
            seed: answers.seed,
            steering: answers.steered.steering.as_ref().map(Steering::from),
            warnings,
        }
    }
}

/// A new reply's id.
pub(super) fn new_id(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::now_v7().simple())
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let age = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    age.map_or(0, |age| age.as_secs())
}
