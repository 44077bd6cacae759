//! How a request wants its tokens chosen: ranges checked, the checkpoint's defaults filled in.

mod defaults;

use super::error::RequestError;
use crate::types::{SamplingParams, TokenId};

pub(super) use defaults::SamplingDefaults;

/// Most stop strings of one request.
pub const MAX_STOP_STRINGS: usize = 16;
/// Longest stop string, in bytes.
pub const MAX_STOP_BYTES: usize = 256;
/// Most stop token ids of one request.
pub(super) const MAX_STOP_IDS: usize = 256;
/// Most alternatives reported with each token.
pub const MAX_TOP_LOGPROBS: u64 = 20;
/// Most biased tokens of one request.
const MAX_BIASES: usize = 1024;
/// Greatest bias, either way.
const MAX_BIAS: f64 = 100.0;

/// Sampling fields as a caller wrote them; absent ones are `None`.
#[derive(Debug, Clone, Default)]
pub struct SamplingInput {
    /// 0 to 2; 0 is greedy.
    pub temperature: Option<f64>,
    /// Above 0, up to 1.
    pub top_p: Option<f64>,
    /// -1 or 0 is off.
    pub top_k: Option<i64>,
    /// 0 to 1; 0 is off.
    pub min_p: Option<f64>,
    /// Above 0, up to 1; 1 is off.
    pub typical_p: Option<f64>,
    /// -2 to 2; 0 is off.
    pub presence_penalty: Option<f64>,
    /// -2 to 2; 0 is off.
    pub frequency_penalty: Option<f64>,
    /// Above 0, up to 2; 1 is off.
    pub repetition_penalty: Option<f64>,
    /// Added to the logits of single tokens, each -100 to 100.
    pub logit_bias: Vec<(TokenId, f64)>,
    /// Absent: drawn at random, and told in the reply.
    pub seed: Option<u64>,
    /// Strings that end the answer; not part of it.
    pub stop: Vec<String>,
    /// Token ids that end the answer.
    pub stop_token_ids: Vec<TokenId>,
    /// At least 1.
    pub max_tokens: Option<u64>,
    /// Up to `max_tokens`.
    pub min_tokens: Option<u64>,
    /// Go on past the end-of-sequence token.
    pub ignore_eos: bool,
    /// `Some(k)`: report each token's log-probability and the k likeliest alternatives.
    pub top_logprobs: Option<u64>,
}

/// How much room a prompt leaves, and which ids exist.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Positions of the model.
    pub context: usize,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Size of the vocabulary.
    pub vocabulary: usize,
}

impl SamplingInput {
    /// Checks everything that does not depend on the prompt.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn check(&self) -> Result<(), RequestError> {
        in_range("temperature", self.temperature, 0.0, 2.0)?;
        in_range("min_p", self.min_p, 0.0, 1.0)?;
        in_range("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        in_range("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        above_zero("top_p", self.top_p, 1.0)?;
        above_zero("typical_p", self.typical_p, 1.0)?;
        above_zero("repetition_penalty", self.repetition_penalty, 2.0)?;
        if let Some(value) = self.top_k
            && value < -1
        {
            let problem = format!("must be at least 1, or -1 or 0 for off, got {value}");
            return Err(RequestError::invalid("top_k", problem));
        }
        if self.max_tokens == Some(0) {
            return Err(RequestError::invalid(
                "max_tokens",
                "must be at least 1, got 0",
            ));
        }
        if let Some(value) = self.top_logprobs
            && value > MAX_TOP_LOGPROBS
        {
            let problem = format!("must be between 0 and {MAX_TOP_LOGPROBS}, got {value}");
            return Err(RequestError::invalid("top_logprobs", problem));
        }
        self.check_biases()?;
        self.check_stops()
    }

    fn check_biases(&self) -> Result<(), RequestError> {
        if self.logit_bias.len() > MAX_BIASES {
            let problem = format!(
                "takes up to {MAX_BIASES} tokens, got {}",
                self.logit_bias.len()
            );
            return Err(RequestError::invalid("logit_bias", problem));
        }
        for (id, bias) in &self.logit_bias {
            let param = format!("logit_bias.{id}");
            in_range(&param, Some(*bias), -MAX_BIAS, MAX_BIAS)?;
        }
        Ok(())
    }

    /// A grammar ends an answer by the end-of-sequence token alone, so nothing may forbid it.
    pub(super) fn check_beside_grammar(&self, field: &str) -> Result<(), RequestError> {
        let against = match self {
            _ if self.ignore_eos => "ignore_eos",
            _ if self.min_tokens.unwrap_or(0) > 0 => "min_tokens",
            _ => return Ok(()),
        };
        let problem = format!(
            "cannot be combined with `{field}`: the answer ends where its grammar is complete"
        );
        Err(RequestError::invalid(against, problem))
    }

    /// The caller's seed, else a new one.
    pub(super) fn seed_or_drawn(&self) -> u64 {
        // 53 bits: what a JavaScript client can read back and send again unchanged
        self.seed.unwrap_or_else(|| rand::random::<u64>() >> 11)
    }

    fn check_stops(&self) -> Result<(), RequestError> {
        if self.stop.len() > MAX_STOP_STRINGS {
            let problem = format!(
                "takes up to {MAX_STOP_STRINGS} strings, got {}",
                self.stop.len()
            );
            return Err(RequestError::invalid("stop", problem));
        }
        for (index, stop) in self.stop.iter().enumerate() {
            if stop.is_empty() || stop.len() > MAX_STOP_BYTES {
                let problem = format!("must have 1 to {MAX_STOP_BYTES} bytes, got {}", stop.len());
                return Err(RequestError::invalid(format!("stop[{index}]"), problem));
            }
        }
        if self.stop_token_ids.len() > MAX_STOP_IDS {
            let problem = format!(
                "takes up to {MAX_STOP_IDS} ids, got {}",
                self.stop_token_ids.len()
            );
            return Err(RequestError::invalid("stop_token_ids", problem));
        }
        Ok(())
    }

    /// Fills in the defaults for a prompt of known length.
    ///
    /// # Errors
    /// The prompt leaves no room, or a field does not fit it.
    pub fn resolve(
        &self,
        defaults: &SamplingDefaults,
        room: Room,
    ) -> Result<SamplingParams, RequestError> {
        let max_tokens = self.max_tokens_within(defaults, room)?;
        let min_tokens = usize::try_from(self.min_tokens.unwrap_or(0)).unwrap_or(usize::MAX);
        if min_tokens > max_tokens {
            let problem = format!("must be at most max_tokens ({max_tokens}), got {min_tokens}");
            return Err(RequestError::invalid("min_tokens", problem));
        }
        for (index, &id) in self.stop_token_ids.iter().enumerate() {
            if id as usize >= room.vocabulary {
                let problem = format!("must be below {}, got {id}", room.vocabulary);
                return Err(RequestError::invalid(
                    format!("stop_token_ids[{index}]"),
                    problem,
                ));
            }
        }
        for (id, _) in &self.logit_bias {
            if *id as usize >= room.vocabulary {
                let problem = format!("names no token: ids are below {}", room.vocabulary);
                return Err(RequestError::invalid(format!("logit_bias.{id}"), problem));
            }
        }
        let mut stop_token_ids = defaults.eos_token_ids.clone();
        stop_token_ids.extend(&self.stop_token_ids);
        let top_k = self.top_k.unwrap_or(defaults.top_k);
        Ok(SamplingParams {
            temperature: self.temperature.unwrap_or(defaults.temperature) as f32,
            top_p: self.top_p.unwrap_or(defaults.top_p) as f32,
            top_k: usize::try_from(top_k).unwrap_or(0),
            min_p: self.min_p.unwrap_or(defaults.min_p) as f32,
            typical_p: self.typical_p.unwrap_or(defaults.typical_p) as f32,
            presence_penalty: self.presence_penalty.unwrap_or(0.0) as f32,
            frequency_penalty: self.frequency_penalty.unwrap_or(0.0) as f32,
            repetition_penalty: self
                .repetition_penalty
                .unwrap_or(defaults.repetition_penalty) as f32,
            logit_bias: self
                .logit_bias
                .iter()
                .map(|(id, bias)| (*id, *bias as f32))
                .collect(),
            seed: self.seed_or_drawn(),
            max_tokens,
            min_tokens,
            stop_token_ids,
            ignore_eos: self.ignore_eos,
            logprobs: self.top_logprobs.map(|k| k as usize),
        })
    }

    fn max_tokens_within(
        &self,
        defaults: &SamplingDefaults,
        room: Room,
    ) -> Result<usize, RequestError> {
        let overflow = |completion: String| RequestError::ContextOverflow {
            context: room.context,
            prompt_tokens: room.prompt_tokens,
            completion,
        };
        let left = room.context.saturating_sub(room.prompt_tokens);
        if left == 0 {
            return Err(overflow(" and at least 1 of completion".to_owned()));
        }
        match self.max_tokens {
            None => Ok(defaults.max_tokens.min(left)),
            Some(asked) => match usize::try_from(asked) {
                Ok(fits) if fits <= left => Ok(fits),
                _ => Err(overflow(format!(" and {asked} of completion"))),
            },
        }
    }
}

/// The seed of a prompt's answer number `choice`; the first has the request's own.
pub(super) fn seed_of(seed: u64, choice: usize) -> u64 {
    if choice == 0 {
        return seed;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&(choice as u64).to_le_bytes());
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    // as above: what a JavaScript client can send again
    u64::from_le_bytes(bytes) >> 11
}

fn above_zero(param: &str, value: Option<f64>, high: f64) -> Result<(), RequestError> {
    match value {
        Some(value) if !(value > 0.0 && value <= high) => {
            let problem = format!("must be above 0 and at most {high}, got {value}");
            Err(RequestError::invalid(param, problem))
        }
        _ => Ok(()),
    }
}

fn in_range(param: &str, value: Option<f64>, low: f64, high: f64) -> Result<(), RequestError> {
    match value {
        Some(value) if !(low..=high).contains(&value) => {
            let problem = format!("must be between {low} and {high}, got {value}");
            Err(RequestError::invalid(param, problem))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
