//! How a request wants its tokens chosen: ranges checked, the checkpoint's defaults filled in.

use std::path::Path;

use serde::Deserialize;

use super::error::{LoadError, RequestError};
use crate::types::{SamplingParams, TokenId};

/// Most stop strings of one request.
pub const MAX_STOP_STRINGS: usize = 16;
/// Longest stop string, in bytes.
pub const MAX_STOP_BYTES: usize = 256;
/// Most stop token ids of one request.
pub(super) const MAX_STOP_IDS: usize = 256;
/// Most alternatives reported with each token.
pub const MAX_TOP_LOGPROBS: u64 = 20;

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

/// What the checkpoint's `generation_config.json` states, else what the server does.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingDefaults {
    /// Temperature.
    pub temperature: f64,
    /// Nucleus mass.
    pub top_p: f64,
    /// Likeliest tokens kept; 0 is off.
    pub top_k: i64,
    /// Least share of the likeliest token's probability; 0 is off.
    pub min_p: f64,
    /// Tokens generated where a request states none.
    pub max_tokens: usize,
    /// The model's own end-of-sequence ids.
    pub eos_token_ids: Vec<TokenId>,
}

/// The part of `generation_config.json` that matters here; the file has many other keys.
#[derive(Debug, Default, Deserialize)]
struct GenerationConfig {
    do_sample: Option<bool>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<i64>,
    min_p: Option<f64>,
    max_new_tokens: Option<usize>,
    eos_token_id: Option<OneOrMany>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(TokenId),
    Many(Vec<TokenId>),
}

impl SamplingDefaults {
    /// Reads `generation_config.json` where the folder has one.
    ///
    /// `eos` are the ids known from the configuration and the tokenizer, `max_tokens` the
    /// server's own default length.
    ///
    /// # Errors
    /// The file cannot be read or is not what it should be.
    pub fn load(dir: &Path, eos: &[TokenId], max_tokens: usize) -> Result<Self, LoadError> {
        let path = dir.join("generation_config.json");
        let stated = match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| LoadError::Json { path, source })?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                GenerationConfig::default()
            }
            Err(source) => return Err(LoadError::Io { path, source }),
        };
        Ok(Self::from_stated(stated, eos, max_tokens))
    }

    fn from_stated(stated: GenerationConfig, eos: &[TokenId], max_tokens: usize) -> Self {
        // An explicit `do_sample: false` states greedy decoding; many files just leave it out.
        let temperature = match stated.do_sample {
            Some(false) => 0.0,
            _ => stated.temperature.unwrap_or(1.0),
        };
        let mut eos_token_ids = eos.to_vec();
        eos_token_ids.extend(match stated.eos_token_id {
            Some(OneOrMany::One(id)) => vec![id],
            Some(OneOrMany::Many(ids)) => ids,
            None => Vec::new(),
        });
        eos_token_ids.sort_unstable();
        eos_token_ids.dedup();
        Self {
            temperature,
            top_p: stated.top_p.unwrap_or(1.0),
            top_k: stated.top_k.unwrap_or(0),
            min_p: stated.min_p.unwrap_or(0.0),
            max_tokens: stated.max_new_tokens.unwrap_or(max_tokens).max(1),
            eos_token_ids,
        }
    }
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
        if let Some(value) = self.top_p
            && !(value > 0.0 && value <= 1.0)
        {
            let problem = format!("must be above 0 and at most 1, got {value}");
            return Err(RequestError::invalid("top_p", problem));
        }
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
        self.check_stops()
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
        let mut stop_token_ids = defaults.eos_token_ids.clone();
        stop_token_ids.extend(&self.stop_token_ids);
        let top_k = self.top_k.unwrap_or(defaults.top_k);
        Ok(SamplingParams {
            temperature: self.temperature.unwrap_or(defaults.temperature) as f32,
            top_p: self.top_p.unwrap_or(defaults.top_p) as f32,
            top_k: usize::try_from(top_k).unwrap_or(0),
            min_p: self.min_p.unwrap_or(defaults.min_p) as f32,
            // 53 bits: what a JavaScript client can read back and send again unchanged
            seed: self.seed.unwrap_or_else(|| rand::random::<u64>() >> 11),
            max_tokens,
            min_tokens,
            stop_token_ids,
            ignore_eos: self.ignore_eos,
            logprobs: self.top_logprobs.map(|k| k as usize),
            ..SamplingParams::default()
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
mod tests {
    use serde_json::json;

    use super::*;

    fn defaults(stated: serde_json::Value) -> SamplingDefaults {
        SamplingDefaults::from_stated(serde_json::from_value(stated).expect("sound"), &[9, 2], 256)
    }

    const ROOM: Room = Room {
        context: 100,
        prompt_tokens: 60,
        vocabulary: 50,
    };

    #[test]
    fn what_the_checkpoint_states_fills_what_the_request_leaves_out() {
        let stated = defaults(json!({"temperature": 0.5, "top_k": 7, "eos_token_id": 3}));
        assert_eq!(stated.eos_token_ids, [2, 3, 9]);
        let asked = SamplingInput {
            top_k: Some(-1),
            ..SamplingInput::default()
        };
        let params = asked.resolve(&stated, ROOM).expect("fits");
        assert_eq!(
            (params.temperature, params.top_k, params.top_p),
            (0.5, 0, 1.0)
        );
        assert_eq!(params.max_tokens, 40);
        assert_eq!(params.stop_token_ids, [2, 3, 9]);
    }

    #[test]
    fn only_an_explicit_do_sample_false_is_greedy() {
        assert_eq!(
            defaults(json!({"do_sample": false, "temperature": 0.7})).temperature,
            0.0
        );
        assert_eq!(defaults(json!({"do_sample": true})).temperature, 1.0);
        assert_eq!(defaults(json!({})).temperature, 1.0);
    }

    #[test]
    fn absent_seeds_differ_and_survive_a_double() {
        let draw = || {
            SamplingInput::default()
                .resolve(&defaults(json!({})), ROOM)
                .expect("fits")
                .seed
        };
        let (one, other) = (draw(), draw());
        assert_ne!(one, other);
        assert!(one < 1 << 53 && other < 1 << 53);
    }

    #[test]
    fn a_prompt_that_leaves_no_room_overflows() {
        for (prompt_tokens, max_tokens, fits) in [
            (99, None, true),
            (100, None, false),
            (60, Some(40), true),
            (60, Some(41), false),
        ] {
            let asked = SamplingInput {
                max_tokens,
                ..SamplingInput::default()
            };
            let room = Room {
                prompt_tokens,
                ..ROOM
            };
            let resolved = asked.resolve(&defaults(json!({})), room);
            assert_eq!(resolved.is_ok(), fits, "{prompt_tokens} {max_tokens:?}");
        }
        let huge = SamplingInput {
            max_tokens: Some(u64::MAX),
            ..SamplingInput::default()
        };
        assert!(huge.resolve(&defaults(json!({})), ROOM).is_err());
    }
}
