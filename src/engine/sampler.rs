//! Draws a token from a row of logits: a pure function of logits, parameters and position.
//!
//! Order of things: tokens that may not come are masked, the temperature divides, then `top_k`,
//! `top_p` (of what `top_k` kept) and `min_p` cut, and one uniform number decides. That number is
//! a function of seed and position alone, so neither batch nor order of arrival can change a draw.

use std::borrow::Cow;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::types::{SamplingParams, TokenId};

use super::SampledToken;
use super::logits::{Mass, Scale, Scored, by_rank, largest, leading};

/// How many tokens a nucleus is looked for among, before the whole row is: most are small.
const USUAL_NUCLEI: [usize; 2] = [64, 1024];

/// A token with its unnormalised probability.
type Weighted = (TokenId, f32);

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
    /// Tokens generated before this one.
    pub(super) index: usize,
}

/// Draws the next token.
pub(super) fn sample(draw: &Draw<'_>) -> Result<SampledToken, SampleError> {
    let raw_peak = peak(draw.logits)?;
    let raw = Mass::new(draw.logits, Scale::new(raw_peak.1, 1.0));
    let allowed = mask(draw);
    let (peak, mass) = match &allowed {
        Cow::Borrowed(_) => (raw_peak, Some(&raw)),
        Cow::Owned(masked) => (peak(masked)?, None),
    };
    let id = if draw.sampling.temperature == 0.0 {
        peak.0
    } else {
        let uniform = uniform(draw.sampling.seed, draw.index as u64);
        choose(
            &allowed,
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

/// The row without the stop tokens while the completion is shorter than `min_tokens`.
fn mask<'a>(draw: &Draw<'a>) -> Cow<'a, [f32]> {
    let SamplingParams {
        min_tokens,
        ignore_eos,
        stop_token_ids,
        ..
    } = draw.sampling;
    if draw.index >= *min_tokens || *ignore_eos || stop_token_ids.is_empty() {
        return Cow::Borrowed(draw.logits);
    }
    let mut masked = draw.logits.to_vec();
    for &id in stop_token_ids {
        if let Some(logit) = masked.get_mut(id as usize) {
            *logit = f32::NEG_INFINITY;
        }
    }
    Cow::Owned(masked)
}

/// Picks a token at a share of the mass. `raw` is the mass at temperature 1 where it is known.
fn choose(
    logits: &[f32],
    sampling: &SamplingParams,
    scale: Scale,
    raw: Option<&Mass>,
    uniform: f64,
) -> Option<TokenId> {
    if sampling.top_k > 0 || sampling.top_p < 1.0 || sampling.min_p > 0.0 {
        return pick(&survivors(logits, sampling, scale), uniform);
    }
    match raw {
        Some(raw) if sampling.temperature == 1.0 => raw.pick(logits, uniform),
        _ => Mass::new(logits, scale).pick(logits, uniform),
    }
}

/// The tokens that `top_k`, `top_p` and `min_p` leave; at least the likeliest.
fn survivors(logits: &[f32], sampling: &SamplingParams, scale: Scale) -> Vec<Weighted> {
    let SamplingParams {
        top_k,
        top_p,
        min_p,
        ..
    } = *sampling;
    let mut kept = if top_k > 0 {
        let mut ranked = weigh(leading(logits, top_k), scale);
        if top_p < 1.0 {
            let wanted = f64::from(top_p) * total(&ranked);
            ranked.truncate(nucleus_len(&ranked, wanted).unwrap_or(ranked.len()));
        }
        ranked
    } else if top_p < 1.0 {
        nucleus(logits, f64::from(top_p), scale)
    } else {
        at_least(logits, min_p, scale)
    };
    kept.retain(|&(_, weight)| weight >= min_p);
    kept
}

/// The likeliest tokens that hold `share` of the mass, without sorting the whole row.
fn nucleus(logits: &[f32], share: f64, scale: Scale) -> Vec<Weighted> {
    let wanted = share * Mass::new(logits, scale).total();
    for count in USUAL_NUCLEI {
        let mut ranked = weigh(leading(logits, count), scale);
        if let Some(len) = nucleus_len(&ranked, wanted) {
            ranked.truncate(len);
            return ranked;
        }
    }
    // Halves the range in which the last kept token stands, by rank.
    let mut tokens: Vec<Scored> = (0..).zip(logits.iter().copied()).collect();
    let (mut start, mut end, mut held) = (0, tokens.len(), 0.0);
    while end - start > 1 {
        let middle = start + (end - start) / 2;
        tokens[start..end].select_nth_unstable_by(middle - start, by_rank);
        let half = tokens[start..middle].iter();
        let mass: f64 = half.map(|&(_, logit)| f64::from(scale.weight(logit))).sum();
        if held + mass >= wanted {
            end = middle;
        } else {
            held += mass;
            start = middle;
        }
    }
    let last = tokens[start];
    // In order of ids: the order that the selection leaves is nobody's promise.
    let kept = (0..)
        .zip(logits.iter().copied())
        .filter(|token| by_rank(token, &last).is_le());
    weigh(kept, scale)
}

/// A superset of the tokens with at least the unnormalised probability `floor`, and little more.
fn at_least(logits: &[f32], floor: f32, scale: Scale) -> Vec<Weighted> {
    // Exponents are compared, as they are cheaper than weights; the slack covers their rounding.
    let floor = floor.ln() - 1e-3;
    let tokens = (0..).zip(logits.iter().copied());
    weigh(
        tokens.filter(|&(_, logit)| scale.exponent(logit) >= floor),
        scale,
    )
}

/// How many of the ranked tokens it takes to hold the wanted mass; `None` if all hold less.
fn nucleus_len(ranked: &[Weighted], wanted: f64) -> Option<usize> {
    let mut held = 0.0;
    let last = ranked.iter().position(|&(_, weight)| {
        held += f64::from(weight);
        held >= wanted
    });
    last.map(|last| last + 1)
}

fn weigh(tokens: impl IntoIterator<Item = Scored>, scale: Scale) -> Vec<Weighted> {
    let weigh = |(id, logit)| (id, scale.weight(logit));
    tokens.into_iter().map(weigh).collect()
}

fn total(tokens: &[Weighted]) -> f64 {
    tokens.iter().map(|&(_, weight)| f64::from(weight)).sum()
}

/// The token at the share `uniform` in [0, 1) of the tokens' mass.
fn pick(tokens: &[Weighted], uniform: f64) -> Option<TokenId> {
    let mut left = uniform * total(tokens);
    let mut last = None;
    for &(id, weight) in tokens.iter().filter(|(_, weight)| *weight > 0.0) {
        last = Some(id);
        if left < f64::from(weight) {
            break;
        }
        left -= f64::from(weight);
    }
    last
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
