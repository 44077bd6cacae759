//! Which tokens may be drawn: `top_k`, then `typical_p`, `top_p` and `min_p`, each of what the ones
//! before it left.

use crate::types::{SamplingParams, TokenId};

use super::logits::{Mass, Scale, Scored, by_rank, leading};

/// How many tokens a nucleus is looked for among, before the whole row is: most are small.
const USUAL_NUCLEI: [usize; 2] = [64, 1024];

/// A token with its unnormalised probability.
pub(super) type Weighted = (TokenId, f32);

/// The tokens that the cuts leave; at least one where any has a weight.
pub(super) fn survivors(logits: &[f32], sampling: &SamplingParams, scale: Scale) -> Vec<Weighted> {
    let SamplingParams {
        top_k,
        typical_p,
        top_p,
        min_p,
        ..
    } = *sampling;
    let mut kept = if top_k > 0 || typical_p < 1.0 {
        let count = if top_k > 0 { top_k } else { logits.len() };
        let mut ranked = weigh(leading(logits, count), scale);
        if typical_p < 1.0 {
            ranked = typical(ranked, f64::from(typical_p));
        }
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
    // `typical_p` can take the likeliest token away: the share is of the likeliest that is left.
    let largest = kept.iter().fold(0.0, |most: f32, kept| most.max(kept.1));
    kept.retain(|&(_, weight)| weight >= min_p * largest);
    kept
}

/// The tokens whose surprise is nearest to the expected one (arXiv 2202.00666, eq. 10), as many as
/// it takes to hold `share` of the mass. Takes and returns them in order of rank.
fn typical(mut ranked: Vec<Weighted>, share: f64) -> Vec<Weighted> {
    ranked.retain(|&(_, weight)| weight > 0.0);
    let whole = total(&ranked);
    let surprise = |weight: f32| -(f64::from(weight) / whole).ln();
    let expected: f64 = ranked
        .iter()
        .map(|&(_, weight)| f64::from(weight) / whole * surprise(weight))
        .sum();
    let mut nearest: Vec<(f64, Weighted)> = ranked
        .into_iter()
        .map(|token| ((surprise(token.1) - expected).abs(), token))
        .collect();
    // Stable: among equals the likelier comes first.
    nearest.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut kept: Vec<Weighted> = nearest.into_iter().map(|(_, token)| token).collect();
    kept.truncate(nucleus_len(&kept, share * whole).unwrap_or(kept.len()));
    kept.sort_unstable_by(by_rank);
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

/// How many of the tokens, in this order, it takes to hold the wanted mass; `None` if all hold less.
fn nucleus_len(tokens: &[Weighted], wanted: f64) -> Option<usize> {
    let mut held = 0.0;
    let last = tokens.iter().position(|&(_, weight)| {
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
pub(super) fn pick(tokens: &[Weighted], uniform: f64) -> Option<TokenId> {
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
