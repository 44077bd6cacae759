//! A row of logits as it is drawn from: penalised, biased, and without what may not come.
//!
//! Order: `repetition_penalty` scales the model's own logits, then `frequency_penalty` and
//! `presence_penalty` take off, `logit_bias` adds, and masks come last, so that no bias brings back
//! what a constraint forbids.

use std::borrow::Cow;

use crate::types::{SamplingParams, TokenId};

use super::sampler::Draw;

/// The row after penalties, bias and masks; borrowed where nothing changes.
pub(super) fn adjusted<'a>(draw: &Draw<'a>) -> Cow<'a, [f32]> {
    let mut row = Cow::Borrowed(draw.logits);
    let SamplingParams {
        presence_penalty,
        frequency_penalty,
        repetition_penalty,
        logit_bias,
        ..
    } = draw.sampling;
    if *repetition_penalty != 1.0 {
        for (token, _) in counts(draw.history) {
            change(&mut row, token, |logit| match logit > 0.0 {
                true => logit / repetition_penalty,
                false => logit * repetition_penalty,
            });
        }
    }
    if *presence_penalty != 0.0 || *frequency_penalty != 0.0 {
        for (token, count) in counts(draw.generated()) {
            let penalty = presence_penalty + frequency_penalty * count as f32;
            change(&mut row, token, |logit| logit - penalty);
        }
    }
    for &(token, bias) in logit_bias {
        change(&mut row, token, |logit| logit + bias);
    }
    mask(draw, &mut row);
    row
}

/// Changes one token's logit; a token that the model does not have is passed over.
fn change(row: &mut Cow<'_, [f32]>, token: TokenId, change: impl Fn(f32) -> f32) {
    if let Some(logit) = row.to_mut().get_mut(token as usize) {
        // Bounded: a strong penalty must not turn a large logit into infinity.
        *logit = change(*logit).min(f32::MAX);
    }
}

/// Each distinct token with how often it comes, in order of ids.
fn counts(tokens: &[TokenId]) -> Vec<(TokenId, usize)> {
    let mut sorted = tokens.to_vec();
    sorted.sort_unstable();
    let runs = sorted.chunk_by(|a, b| a == b);
    runs.map(|run| (run[0], run.len())).collect()
}

/// Takes out what the constraint forbids, and the stop tokens while the completion is shorter than
/// `min_tokens`. Where the constraint leaves nothing but an end, the end may come early.
fn mask(draw: &Draw<'_>, row: &mut Cow<'_, [f32]>) {
    if let Some(allowed) = draw.allowed {
        for (token, logit) in (0..).zip(row.to_mut()) {
            if !allowed.contains(token) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
    let SamplingParams {
        min_tokens,
        ignore_eos,
        stop_token_ids,
        ..
    } = draw.sampling;
    if draw.generated().len() >= *min_tokens || *ignore_eos || stop_token_ids.is_empty() {
        return;
    }
    let goes_on = |row: &[f32]| {
        let mut tokens = (0..).zip(row);
        tokens.any(|(id, logit)| *logit > f32::NEG_INFINITY && !stop_token_ids.contains(&id))
    };
    if draw.allowed.is_some() && !goes_on(row) {
        return;
    }
    for &token in stop_token_ids {
        change(row, token, |_| f32::NEG_INFINITY);
    }
}

#[cfg(test)]
#[path = "tests/adjust.rs"]
mod tests;
