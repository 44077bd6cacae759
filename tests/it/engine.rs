//! The engine over real decoders: golden continuations, and one answer alone or in company.

use std::sync::Arc;

use steersman::engine::{
    Completion, EngineConfig, EngineHandle, GenerationRequest, Guidance, TokenEvent, TokenStream,
    complete_all,
};
use steersman::model::{Decoder, LoraAdapter, LoraSettings};
use steersman::types::{FinishReason, SamplingParams, TokenId};

use crate::fixtures::{DECODERS, fixture, greedy_cases};

fn load(name: &str) -> Arc<Decoder> {
    Arc::new(Decoder::load(&fixture(name)).expect("the fixture loads"))
}

fn start(decoder: &Arc<Decoder>, max_sequences: usize, max_batch_tokens: usize) -> EngineHandle {
    let config = EngineConfig {
        max_sequences,
        max_batch_tokens: Some(max_batch_tokens),
        queue_capacity: 16,
        ..EngineConfig::default()
    };
    EngineHandle::start(Arc::clone(decoder), config).expect("the bounds fit together")
}

fn greedy(prompt: &[TokenId], max_tokens: usize) -> GenerationRequest {
    let sampling = SamplingParams {
        temperature: 0.0,
        max_tokens,
        ..SamplingParams::default()
    };
    GenerationRequest::new(prompt.to_vec(), sampling)
}

#[test]
fn greedy_continuations_equal_the_golden_ones() {
    for name in DECODERS {
        let decoder = load(name);
        for budget in [4, 64] {
            let engine = start(&decoder, 4, budget);
            let cases = greedy_cases(name);
            let requests = cases
                .iter()
                .map(|(prompt, ids)| greedy(prompt, ids.len()))
                .collect();
            let completions = complete_all(&engine, requests).unwrap();
            assert_eq!(completions.len(), 3);
            for (completion, (_, expected)) in completions.iter().zip(&cases) {
                assert_eq!(
                    &completion.tokens, expected,
                    "{name}, {budget} tokens a batch"
                );
                assert_eq!(completion.reason, FinishReason::Length);
            }
        }
    }
}

/// Requests of several lengths, seeds and temperatures; every third on the base model, the others
/// on two adapters.
fn mixed_requests(decoder: &Decoder, name: &str) -> Vec<GenerationRequest> {
    let path = fixture(name).join("adapter");
    let adapters =
        [(); 2].map(|()| Arc::new(LoraAdapter::load(&path, decoder).expect("the adapter loads")));
    let vocab = decoder.config().vocab_size as u32;
    (0..18u32)
        .map(|case| {
            let prompt = (0..3 + case * 2)
                .map(|place| (case * 31 + place * 17 + 5) % vocab)
                .collect();
            let sampling = SamplingParams {
                temperature: [0.0, 1.0, 0.8][case as usize % 3],
                top_p: [1.0, 0.9][case as usize % 2],
                seed: u64::from(case),
                max_tokens: 6 + case as usize,
                ..SamplingParams::default()
            };
            GenerationRequest {
                adapter: adapters.get(case as usize % 3).cloned(),
                ..GenerationRequest::new(prompt, sampling)
            }
        })
        .collect()
}

fn bits(completion: &Completion) -> (Vec<TokenId>, Vec<u32>) {
    let bits = completion
        .logprobs
        .iter()
        .map(|logprob| logprob.to_bits())
        .collect();
    (completion.tokens.clone(), bits)
}

#[test]
fn alone_equals_in_a_batch_of_mixed_adapters_to_the_bit() {
    for name in DECODERS {
        let decoder = load(name);
        let requests = mixed_requests(&decoder, name);
        let single = start(&decoder, 1, 512);
        let expected = complete_all(&single, requests.clone()).unwrap();
        for (max_sequences, max_batch_tokens) in [(18, 512), (18, 20), (5, 7), (1, 3)] {
            let engine = start(&decoder, max_sequences, max_batch_tokens);
            let completions = complete_all(&engine, requests.clone()).unwrap();
            for (index, (got, expected)) in completions.iter().zip(&expected).enumerate() {
                let label = format!("{name}[{index}] at {max_sequences}, {max_batch_tokens}");
                assert_eq!(bits(got), bits(expected), "{label}");
            }
        }
    }
}

#[test]
fn an_adapter_changes_the_continuation() {
    let decoder = load("llama");
    let engine = start(&decoder, 2, 64);
    let path = fixture("llama").join("adapter");
    let adapter = Arc::new(LoraAdapter::load(&path, &decoder).unwrap());
    let base = greedy(&[1, 2, 3], 16);
    let adapted = GenerationRequest {
        adapter: Some(adapter),
        ..base.clone()
    };
    let completions = complete_all(&engine, vec![base, adapted]).unwrap();
    assert_ne!(completions[0].tokens, completions[1].tokens);
}

#[test]
fn log_probabilities_of_the_alternatives_are_ranked_and_hold_the_greedy_token() {
    let engine = start(&load("qwen3"), 1, 64);
    let mut request = greedy(&[1, 2, 3], 8);
    request.sampling.logprobs = Some(4);
    let mut stream = engine.submit(request).unwrap();
    let mut tokens = 0;
    while let Some(event) = stream.blocking_next() {
        let TokenEvent::Token(token) = event else {
            continue;
        };
        tokens += 1;
        assert_eq!(token.top.len(), 4);
        assert_eq!(token.top[0], (token.id, token.logprob));
        assert!(token.top.windows(2).all(|pair| pair[0].1 >= pair[1].1));
    }
    assert_eq!(tokens, 8);
}

/// Sixty-four requests that share some of their prompts and differ in all else.
fn crowd(decoder: &Decoder, name: &str) -> Vec<GenerationRequest> {
    let path = fixture(name).join("adapter");
    let adapters =
        [(); 2].map(|()| Arc::new(LoraAdapter::load(&path, decoder).expect("the adapter loads")));
    let vocab = decoder.config().vocab_size as u32;
    let prompt = |case: u32| -> Vec<TokenId> {
        let shared = (0..[0, 20, 37][case as usize % 3]).map(|place| (place * 13 + 3) % vocab);
        let own = (0..1 + case % 9).map(|place| (case * 31 + place * 17 + 5) % vocab);
        shared.chain(own).collect()
    };
    let pick = |case: u32, values: [f32; 4]| values[case as usize % 4];
    (0..64u32)
        .map(|case| {
            let sampling = SamplingParams {
                temperature: pick(case, [0.0, 1.0, 0.8, 1.5]),
                top_p: pick(case / 2, [1.0, 0.9, 1.0, 1.0]),
                typical_p: pick(case / 3, [1.0, 1.0, 0.9, 1.0]),
                presence_penalty: pick(case / 4, [0.0, 0.0, 0.6, 0.0]),
                frequency_penalty: pick(case / 5, [0.0, 0.3, 0.0, 0.0]),
                repetition_penalty: pick(case / 6, [1.0, 1.0, 1.0, 1.2]),
                logit_bias: vec![(case, 2.0)],
                seed: u64::from(case),
                max_tokens: 1 + case as usize % 40,
                ..SamplingParams::default()
            };
            GenerationRequest {
                adapter: adapters.get(case as usize % 3).cloned(),
                caller: u64::from(case % 5),
                cache_salt: u64::from(case / 20),
                guidance: case.is_multiple_of(4).then(|| Guidance {
                    prompt: prompt(case + 1),
                    scale: 1.8,
                }),
                ..GenerationRequest::new(prompt(case), sampling)
            }
        })
        .collect()
}

/// Reads a stream to its end.
fn read(mut stream: TokenStream) -> (Vec<TokenId>, Vec<u32>) {
    let (mut tokens, mut logprobs) = (Vec::new(), Vec::new());
    while let Some(event) = stream.blocking_next() {
        match event {
            TokenEvent::Token(token) => {
                tokens.push(token.id);
                logprobs.push(token.logprob.to_bits());
            }
            TokenEvent::Finished { .. } => {}
            TokenEvent::Failed(error) => panic!("{error}"),
        }
    }
    (tokens, logprobs)
}

#[test]
fn alone_equals_among_sixty_four_that_come_and_go_with_few_blocks() {
    for name in ["llama", "gemma2", "phi3"] {
        let decoder = load(name);
        let requests = crowd(&decoder, name);
        let expected: Vec<_> = requests
            .iter()
            .map(|request| {
                // Alone, with a place for each of the two rows that a guided request has.
                let engine = start(&decoder, 2, 512);
                read(engine.submit(request.clone()).unwrap())
            })
            .collect();
        let config = EngineConfig {
            max_sequences: 24,
            max_batch_tokens: Some(60),
            queue_capacity: 200,
            kv_tokens: Some(272),
            ..EngineConfig::default()
        };
        let engine = EngineHandle::start(Arc::clone(&decoder), config).unwrap();
        let leaving = std::thread::scope(|scope| {
            let mut readers = Vec::new();
            let mut leaving = Vec::new();
            for (index, request) in requests.iter().enumerate() {
                let stream = engine.submit(request.clone()).unwrap();
                readers.push(scope.spawn(move || read(stream)));
                // Beside each a decoy, whose reader leaves sooner or later.
                let mut decoy = engine
                    .submit(requests[(index * 29 + 7) % 64].clone())
                    .unwrap();
                leaving.push(scope.spawn(move || {
                    for _ in 0..index * 7 % 23 {
                        decoy.blocking_next();
                    }
                }));
            }
            for (index, (reader, expected)) in readers.into_iter().zip(&expected).enumerate() {
                assert_eq!(&reader.join().unwrap(), expected, "{name}[{index}]");
            }
            leaving.len()
        });
        assert_eq!(leaving, 64);
        while engine.stats().running + engine.stats().waiting > 0 {
            std::thread::yield_now();
        }
        let stats = engine.stats();
        assert_eq!((stats.blocks_used, stats.restarts), (0, 0));
        assert!(stats.prefix_hits_tokens > 0, "{stats:?}");
        // Whether someone is preempted depends on who reads how fast; `engine::tests` forces it.
    }
}

#[test]
fn what_an_adapter_left_in_the_cache_dies_with_it() {
    let decoder = load("llama");
    let engine = start(&decoder, 4, 64);
    let path = fixture("llama").join("adapter");
    let settings = LoraSettings {
        rank: 4,
        alpha: 8.0,
        target_modules: vec!["q_proj".into(), "v_proj".into()],
    };
    let prompt: Vec<TokenId> = (0..40).map(|place| place * 7 + 1).collect();
    let run = |adapter: LoraAdapter| {
        let request = GenerationRequest {
            adapter: Some(Arc::new(adapter)),
            ..greedy(&prompt, 8)
        };
        let stream = engine.submit(request).unwrap();
        read(stream)
    };
    let base = read(engine.submit(greedy(&prompt, 8)).unwrap());
    let adapted = run(LoraAdapter::load(&path, &decoder).unwrap());
    assert_ne!(base, adapted);
    for seed in 0..8 {
        // Each adapter is gone before the next one is made: they may well get its address.
        assert_eq!(run(LoraAdapter::load(&path, &decoder).unwrap()), adapted);
        // One that changes nothing must not be given what the other one computed.
        let fresh = LoraAdapter::init(&decoder, &settings, seed).unwrap();
        let unchanged = run(fresh.snapshot().unwrap());
        assert_eq!(unchanged.0, base.0);
        assert_eq!(
            run(fresh).0,
            base.0,
            "one in training is never cached at all"
        );
    }
    assert_eq!(engine.stats().prefix_hits_tokens, 0);
}
