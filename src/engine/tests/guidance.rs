//! Guided sequences against their definition, computed by hand from the mock's own logits.

use super::mock::row;
use super::*;
use crate::engine::complete_all;

fn guided(prompt: &[TokenId], neutral: &[TokenId], scale: f32) -> GenerationRequest<u64> {
    GenerationRequest {
        guidance: Some(Guidance {
            prompt: neutral.to_vec(),
            scale,
        }),
        ..request(prompt, 25)
    }
}

/// The greedy completion and its log-probabilities, word by word from the definition.
fn by_hand(request: &GenerationRequest<u64>) -> Vec<(TokenId, f64)> {
    let guidance = request.guidance.as_ref().unwrap();
    let (mut own, mut neutral) = (request.prompt.clone(), guidance.prompt.clone());
    let mut told = Vec::new();
    for _ in 0..request.sampling.max_tokens {
        let combined: Vec<f32> = row(&own, 0, false)
            .zip(row(&neutral, 0, false))
            .map(|(l, n)| {
                if l.is_finite() {
                    l + (guidance.scale - 1.0) * (l - n)
                } else {
                    l
                }
            })
            .collect();
        let best = combined.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let token = combined.iter().position(|&logit| logit == best).unwrap() as TokenId;
        let mass: f64 = combined
            .iter()
            .map(|&logit| f64::from(logit - best).exp())
            .sum();
        told.push((token, -mass.ln()));
        own.push(token);
        neutral.push(token);
    }
    told
}

#[test]
fn guidance_equals_its_definition() {
    let long: Vec<TokenId> = (0..70).map(|place| place * 3 % 32).collect();
    let cases = [
        guided(&[1, 2, 3], &[1, 9, 3], 1.5),
        guided(&[1, 2, 3], &[4; 40], 3.0),
        guided(&long, &[5], 0.0),
        guided(&long, &long[..50], -1.0),
    ];
    for max_batch_tokens in [2, 7, 64] {
        let config = EngineConfig {
            max_sequences: 2,
            max_batch_tokens: Some(max_batch_tokens),
            ..EngineConfig::default()
        };
        let engine = start(&Arc::new(Mock::default()), config);
        for case in &cases {
            let mut case = case.clone();
            case.sampling.temperature = 0.0;
            let told = complete_all(&engine, vec![case.clone()]).unwrap().remove(0);
            let expected = by_hand(&case);
            assert_eq!(told.tokens.len(), 25);
            for (place, (token, logprob)) in expected.into_iter().enumerate() {
                assert_eq!(told.tokens[place], token, "at {place}");
                let got = f64::from(told.logprobs[place]);
                assert!((got - logprob).abs() < 1e-5, "{got}, {logprob}");
            }
        }
        assert_blocks_are_back(&engine);
    }
}

#[test]
fn a_scale_of_one_changes_nothing() {
    let request = guided(&[1, 2, 3], &[4, 5], 1.0);
    let plain = GenerationRequest {
        guidance: None,
        ..request.clone()
    };
    assert_eq!(alone(&request).tokens, alone(&plain).tokens);
    let other = guided(&[1, 2, 3], &[4, 5], 2.0);
    assert_ne!(alone(&other).tokens, alone(&plain).tokens);
}

#[test]
fn usage_counts_the_own_prompt_only() {
    let told = alone(&guided(&[1, 2, 3], &[4; 40], 2.0));
    assert_eq!(told.end.unwrap().1.prompt_tokens, 3);
}

#[test]
fn a_guided_request_needs_room_for_both_rows() {
    let config = |max_batch_tokens| EngineConfig {
        max_sequences: 1,
        max_batch_tokens: Some(max_batch_tokens),
        ..EngineConfig::default()
    };
    let engine = start(&Arc::new(Mock::default()), config(1));
    let refused = engine.submit(guided(&[1], &[2], 2.0)).unwrap_err();
    assert!(matches!(refused, EngineError::Config(_)));
    assert!(matches!(
        engine.submit(guided(&[1], &[], 2.0)),
        Err(EngineError::EmptyPrompt)
    ));
    let engine = start(&Arc::new(Mock::default()), config(2));
    let told = listen(engine.submit(guided(&[1], &[2], 2.0)).unwrap());
    assert_eq!(told.tokens.len(), 25);
}
