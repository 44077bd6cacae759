//! How tokens are chosen where a request does not say.

use std::path::Path;

use serde::Deserialize;

use super::super::error::LoadError;
use crate::types::TokenId;

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
    /// Locally typical mass; 1 is off.
    pub typical_p: f64,
    /// Divisor of the logits of tokens that were there; 1 is off.
    pub repetition_penalty: f64,
    /// Tokens generated where a request states none.
    pub max_tokens: usize,
    /// The model's own end-of-sequence ids.
    pub eos_token_ids: Vec<TokenId>,
}

/// The part of `generation_config.json` that matters here; the file has many other keys.
#[derive(Debug, Default, Deserialize)]
pub(super) struct GenerationConfig {
    do_sample: Option<bool>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<i64>,
    min_p: Option<f64>,
    typical_p: Option<f64>,
    repetition_penalty: Option<f64>,
    max_new_tokens: Option<usize>,
    eos_token_id: Option<OneOrMany>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
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

    /// What the server does where the checkpoint states nothing.
    pub fn unstated(eos: &[TokenId], max_tokens: usize) -> Self {
        Self::from_stated(GenerationConfig::default(), eos, max_tokens)
    }

    pub(super) fn from_stated(
        stated: GenerationConfig,
        eos: &[TokenId],
        max_tokens: usize,
    ) -> Self {
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
            typical_p: stated.typical_p.unwrap_or(1.0),
            repetition_penalty: stated.repetition_penalty.unwrap_or(1.0),
            max_tokens: stated.max_new_tokens.unwrap_or(max_tokens).max(1),
            eos_token_ids,
        }
    }
}
