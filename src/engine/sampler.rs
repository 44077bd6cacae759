//! Draws a token from a row of logits: a pure function of logits, parameters, history, position.
//!
//! Order of things: penalties and bias adjust the row, tokens that may not come are masked, the
//! temperature divides, cuts keep the tokens that may be drawn, and one uniform number decides.
//! That number is a function of seed and position alone, so neither batch nor order of arrival
//! can change a draw.

use std::borrow::Cow;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::types::{SamplingParams, TokenId, TokenSet};

use super::SampledToken;
use super::adjust::adjusted;
use super::cuts::{pick, survivors};
use super::logits::{Mass, Scale, Scored, largest, leading};

/// Why a row of logits cannot be sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// A logit is NaN or plus infinity.
    #[error("the model's logits are not finite numbers")]
    NotFinite,
    /// Every token is masked.
    #[error("no token has a probability above zero")]
    NothingLeft,
}

/// What a draw depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw<'a> {
    /// Raw logits over the vocabulary.
    pub(super) logits: &'a [f32],
    /// The request's parameters.
    pub(super) sampling: &'a SamplingParams,
    /// The prompt, and the completion so far.
    pub(super) history: &'a [TokenId],
    /// How much of the history is the prompt.
    pub(super) prompt_tokens: usize,
    /// The tokens that a constraint leaves; all of them if absent.
    pub(super) allowed: Option<&'a TokenSet>,
}

impl<'a> Draw<'a> {
    /// The completion so far.
    pub(super) fn generated(&self) -> &'a [TokenId] {
        &self.history[self.prompt_tokens..]
    }
}

/// Draws the next token.
pub(super) fn sample(draw: &Draw<'_>) -> Result<SampledToken, SampleError> {
    let raw_peak = peak(draw.logits)?;
    let raw = Mass::new(draw.logits, Scale::new(raw_peak.1, 1.0));
    let row = adjusted(draw);
    let (peak, mass) = match &row {
        Cow::Borrowed(_) => (raw_peak, Some(&raw)),
        Cow::Owned(row) => (peak(row)?, None),
    };
    let id = if draw.sampling.temperature == 0.0 {
        peak.0
    } else {
        let uniform = uniform(draw.sampling.seed, draw.generated().len() as u64);
        choose(
            &row,
            draw.sampling,
            Scale::new(peak.1, draw.sampling.temperature),
            mass,
            uniform,
        )
        .ok_or(SampleError::NothingLeft)?
    };
    let top = leading(draw.logits, draw.sampling.logprobs.unwrap_or(0));
    Ok(SampledToken {
        id,
        logprob: raw.logprob(draw.logits[id as usize]),
        top: top
            .into_iter()
            .map(|(id, logit)| (id, raw.logprob(logit)))
            .collect(),
    })
}

/// The likeliest token, where the row can be sampled at all.
fn peak(logits: &[f32]) -> Result<Scored, SampleError> {
    match largest(logits) {
        None | Some((_, f32::INFINITY)) => Err(SampleError::NotFinite),
        Some((_, f32::NEG_INFINITY)) => Err(SampleError::NothingLeft),
        Some(peak) => Ok(peak),
    }
}

/// Picks a token at a share of the mass. `raw` is the mass at temperature 1 where it is known.
fn choose(
    logits: &[f32],
    sampling: &SamplingParams,
    scale: Scale,
    raw: Option<&Mass>,
    uniform: f64,
) -> Option<TokenId> {
    let cuts = sampling.top_k > 0
        || sampling.typical_p < 1.0
        || sampling.top_p < 1.0
        || sampling.min_p > 0.0;
    if cuts {
        return pick(&survivors(logits, sampling, scale), uniform);
    }
    match raw {
        Some(raw) if sampling.temperature == 1.0 => raw.pick(logits, uniform),
        _ => Mass::new(logits, scale).pick(logits, uniform),
    }
}

/// The uniform number in [0, 1) of one position: the seed keys a ChaCha stream, the position
/// counts streams.
fn uniform(seed: u64, index: u64) -> f64 {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut stream = ChaCha12Rng::from_seed(key);
    stream.set_stream(index);
    (stream.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
#[path = "tests/sampler.rs"]
mod tests;
