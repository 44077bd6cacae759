//! Tests of penalties, bias and masks against a plain reading of their definitions.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::engine::SampleError;
use crate::engine::sampler::sample;
use crate::types::TokenSet;

const VOCAB: usize = 24;

/// The definitions, word by word, over counts in maps.
fn naive(draw: &Draw<'_>) -> Vec<f32> {
    let sampling = draw.sampling;
    let mut all: HashMap<TokenId, f32> = HashMap::new();
    let mut generated: HashMap<TokenId, f32> = HashMap::new();
    for (place, &token) in draw.history.iter().enumerate() {
        *all.entry(token).or_default() += 1.0;
        if place >= draw.prompt_tokens {
            *generated.entry(token).or_default() += 1.0;
        }
    }
    let early = draw.history.len() - draw.prompt_tokens < sampling.min_tokens;
    let stops = |token: TokenId| sampling.stop_token_ids.contains(&token);
    let permits = |token: TokenId| draw.allowed.is_none_or(|allowed| allowed.contains(token));
    let only_ends = draw.allowed.is_some()
        && (0..VOCAB as TokenId).all(|token| stops(token) || !permits(token));
    let row = (0..).zip(draw.logits).map(|(token, &logit)| {
        let mut logit = logit;
        if all.contains_key(&token) {
            logit = match logit > 0.0 {
                true => logit / sampling.repetition_penalty,
                false => logit * sampling.repetition_penalty,
            };
        }
        if let Some(count) = generated.get(&token) {
            logit -= sampling.presence_penalty + sampling.frequency_penalty * count;
        }
        for &(biased, bias) in &sampling.logit_bias {
            if biased == token {
                logit += bias;
            }
        }
        let held_open = early && !sampling.ignore_eos && stops(token) && !only_ends;
        match permits(token) && !held_open {
            true => logit,
            false => f32::NEG_INFINITY,
        }
    });
    row.collect()
}

fn penalties() -> impl Strategy<Value = SamplingParams> {
    let one_of = |values: &'static [f32]| prop::sample::select(values);
    let tokens = || prop::collection::vec(0..VOCAB as TokenId + 2, 0..4);
    (
        one_of(&[0.0, 0.5, -1.5]),
        one_of(&[0.0, 0.3, -0.7]),
        one_of(&[1.0, 1.3, 0.6]),
        prop::collection::vec((0..VOCAB as TokenId + 2, -100f32..100.0), 0..4),
        (0usize..12, tokens(), any::<bool>()),
    )
        .prop_map(|(presence, frequency, repetition, logit_bias, ends)| {
            let (min_tokens, stop_token_ids, ignore_eos) = ends;
            SamplingParams {
                presence_penalty: presence,
                frequency_penalty: frequency,
                repetition_penalty: repetition,
                logit_bias,
                min_tokens,
                stop_token_ids,
                ignore_eos,
                ..SamplingParams::default()
            }
        })
}

fn set(tokens: &[TokenId]) -> TokenSet {
    let mut set = TokenSet::new(VOCAB);
    for &token in tokens {
        set.insert(token);
    }
    set
}

proptest! {
    #[test]
    fn a_row_is_adjusted_as_its_definition_reads(
        logits in prop::collection::vec(-6f32..6.0, VOCAB),
        history in prop::collection::vec(0..VOCAB as TokenId, 0..30),
        prompt_tokens in 0usize..30,
        sampling in penalties(),
        allowed in prop::option::of(prop::collection::vec(0..VOCAB as TokenId, 1..6)),
    ) {
        let allowed = allowed.as_deref().map(set);
        let draw = Draw {
            logits: &logits,
            sampling: &sampling,
            prompt_tokens: prompt_tokens.min(history.len()),
            history: &history,
            allowed: allowed.as_ref(),
        };
        prop_assert_eq!(adjusted(&draw).into_owned(), naive(&draw));
    }

    #[test]
    fn what_is_drawn_was_permitted(
        logits in prop::collection::vec(-6f32..6.0, VOCAB),
        history in prop::collection::vec(0..VOCAB as TokenId, 0..30),
        mut sampling in penalties(),
        seed: u64,
        temperature in prop::sample::select(&[0.0f32, 0.7, 2.0][..]),
        allowed in prop::collection::vec(0..VOCAB as TokenId, 1..6),
    ) {
        (sampling.seed, sampling.temperature) = (seed, temperature);
        let allowed = set(&allowed);
        let draw = Draw {
            logits: &logits,
            sampling: &sampling,
            prompt_tokens: 0,
            history: &history,
            allowed: Some(&allowed),
        };
        let token = sample(&draw).unwrap();
        prop_assert!(allowed.contains(token.id));
        // Told under the raw row, whatever was taken off or added.
        let mass: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        let logprob = f64::from(logits[token.id as usize]) - mass.ln();
        prop_assert!((f64::from(token.logprob) - logprob).abs() < 1e-5);
    }
}

fn plain<'a>(logits: &'a [f32], sampling: &'a SamplingParams) -> Draw<'a> {
    Draw {
        logits,
        sampling,
        history: &[],
        prompt_tokens: 0,
        allowed: None,
    }
}

#[test]
fn a_row_without_wishes_is_not_copied() {
    let sampling = SamplingParams {
        stop_token_ids: vec![1],
        ..SamplingParams::default()
    };
    let draw = plain(&[1.0, 2.0], &sampling);
    assert!(matches!(adjusted(&draw), Cow::Borrowed(_)));
}

#[test]
fn a_large_logit_stays_finite() {
    let sampling = SamplingParams {
        repetition_penalty: 1e-3,
        ..SamplingParams::default()
    };
    let draw = Draw {
        history: &[0],
        ..plain(&[f32::MAX, 1.0], &sampling)
    };
    assert_eq!(adjusted(&draw)[0], f32::MAX);
}

#[test]
fn an_empty_constraint_leaves_nothing() {
    let (sampling, nothing) = (SamplingParams::default(), set(&[]));
    let draw = Draw {
        allowed: Some(&nothing),
        ..plain(&[1.0; VOCAB], &sampling)
    };
    assert_eq!(sample(&draw).unwrap_err(), SampleError::NothingLeft);
}
