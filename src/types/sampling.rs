//! How the next token is chosen, when a sequence ends, and what it cost.

use serde::{Deserialize, Serialize};

use super::TokenId;

/// How one sequence is sampled. Already validated; ranges are checked where input enters.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// 0 is greedy; otherwise logits are divided by it.
    pub temperature: f32,
    /// Nucleus mass in (0, 1]; 1 is off.
    pub top_p: f32,
    /// Keep the k likeliest tokens; 0 is off.
    pub top_k: usize,
    /// Keep tokens with at least this share of the likeliest token's probability; 0 is off.
    pub min_p: f32,
    /// Locally typical mass in (0, 1] (arXiv 2202.00666); 1 is off.
    pub typical_p: f32,
    /// Taken off the logit of each token that was generated already; 0 is off.
    pub presence_penalty: f32,
    /// Taken off a token's logit for each time that it was generated already; 0 is off.
    pub frequency_penalty: f32,
    /// Divides the positive, multiplies the negative logits of tokens of prompt and completion;
    /// 1 is off.
    pub repetition_penalty: f32,
    /// Added to the logits of single tokens.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Seed of this sequence's own random stream.
    pub seed: u64,
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// Fewest tokens before an end-of-sequence token may be chosen.
    pub min_tokens: usize,
    /// Tokens that end the sequence: the model's end-of-sequence ids and the caller's own.
    /// They are not part of the completion's text.
    pub stop_token_ids: Vec<TokenId>,
    /// Go on past the stop tokens until `max_tokens`.
    pub ignore_eos: bool,
    /// Report log-probabilities: `Some(k)` adds the k likeliest alternatives to each token.
    pub logprobs: Option<usize>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            typical_p: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
            seed: 0,
            max_tokens: 128,
            min_tokens: 0,
            stop_token_ids: Vec::new(),
            ignore_eos: false,
            logprobs: None,
        }
    }
}

/// Why a sequence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// A stop token or a stop string.
    Stop,
    /// `max_tokens` or the context length was reached.
    Length,
}

/// What a request cost, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, conditioning included.
    pub prompt_tokens: usize,
    /// Those of them that were not computed again: their keys and values were cached.
    pub cached_tokens: usize,
    /// Tokens generated, the final stop token included.
    pub completion_tokens: usize,
}
