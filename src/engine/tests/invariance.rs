//! A request is told the same alone and in company, whatever the company does.

use std::sync::LazyLock;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::mock::{ERRS, FUSE, PANICS, YIELDS_NAN};
use super::*;
use crate::engine::complete_all;

/// The adapters 7 and 8, shared by all requests.
static ADAPTERS: LazyLock<[Arc<u64>; 2]> = LazyLock::new(|| [Arc::new(7), Arc::new(8)]);

/// Prompts share their first tokens with others', so that blocks are shared.
fn random_prompt(rng: &mut ChaCha8Rng) -> Vec<TokenId> {
    let common = rng.random_range(0..3);
    let shared = (0..[0, 20, 50][common]).map(|place| (place * 7 + common as TokenId) % 32);
    let own: Vec<_> = (0..rng.random_range(1..20))
        .map(|_| rng.random_range(0..32))
        .collect();
    shared.chain(own).collect()
}

fn random_sampling(rng: &mut ChaCha8Rng) -> SamplingParams {
    let mut one_of = |values: [f32; 3]| values[rng.random_range(0..3usize)];
    let params = SamplingParams {
        temperature: one_of([0.0, 0.7, 1.0]),
        top_p: one_of([1.0, 1.0, 0.9]),
        min_p: one_of([0.0, 0.0, 0.1]),
        typical_p: one_of([1.0, 1.0, 0.8]),
        presence_penalty: one_of([0.0, 0.0, 0.7]),
        frequency_penalty: one_of([0.0, 0.0, -0.4]),
        repetition_penalty: one_of([1.0, 1.0, 1.2]),
        ..SamplingParams::default()
    };
    SamplingParams {
        top_k: [0, 5][rng.random_range(0..2)],
        logit_bias: vec![(rng.random_range(0..32), rng.random_range(-2.0..2.0))],
        seed: rng.random(),
        max_tokens: rng.random_range(0..50),
        min_tokens: rng.random_range(0..10),
        stop_token_ids: vec![rng.random_range(0..32), rng.random_range(0..32)],
        ignore_eos: rng.random_bool(0.2),
        ..params
    }
}

fn random_request(rng: &mut ChaCha8Rng) -> GenerationRequest<u64> {
    let request = GenerationRequest::new(random_prompt(rng), random_sampling(rng));
    let scale = rng.random_range(-1.0..4.0);
    let constraint: Box<dyn TokenConstraint> = Box::new(TwoOfThree(rng.random()));
    GenerationRequest {
        adapter: ADAPTERS.get(rng.random_range(0..3usize)).cloned(),
        caller: rng.random_range(0..5),
        cache_salt: rng.random_range(0..2),
        guidance: rng.random_bool(0.3).then(|| Guidance {
            prompt: random_prompt(rng),
            scale,
        }),
        constraint: rng.random_bool(0.3).then_some(constraint),
        ..request
    }
}

/// Bounds that serve every random request, some of them barely: blocks run out.
fn random_config(rng: &mut ChaCha8Rng) -> EngineConfig {
    let max_sequences = rng.random_range(1..40);
    EngineConfig {
        max_sequences,
        max_batch_tokens: Some(max_sequences + rng.random_range(1..90)),
        queue_capacity: 100,
        kv_tokens: Some(rng.random_range(256..1200)),
        ..EngineConfig::default()
    }
}

/// Submits in random order from two threads, among requests that are cancelled at random.
fn in_company(
    engine: &EngineHandle<u64>,
    requests: &[GenerationRequest<u64>],
    rng: &mut ChaCha8Rng,
) -> Vec<Told> {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.shuffle(rng);
    let decoys: Vec<_> = (0..requests.len())
        .map(|_| (random_request(rng), rng.random_range(0..20usize)))
        .collect();
    let mut told: Vec<Option<Told>> = vec![None; requests.len()];
    let streams = std::thread::scope(|scope| {
        scope.spawn(|| {
            for (decoy, patience) in decoys {
                let mut stream = engine.submit_patiently(decoy, &|| false).unwrap();
                for _ in 0..patience {
                    stream.blocking_next();
                }
            }
        });
        let submit = |&index: &usize| {
            (
                index,
                engine.submit_patiently(requests[index].clone(), &|| false),
            )
        };
        order.iter().map(submit).collect::<Vec<_>>()
    });
    for (index, stream) in streams {
        told[index] = Some(listen(stream.unwrap()));
    }
    told.into_iter().map(Option::unwrap).collect()
}

fn assert_same(left: &Told, right: &Told) {
    assert_eq!(left.tokens, right.tokens);
    match (&left.end, &right.end) {
        (Ok(left), Ok(right)) => assert_eq!(left, right),
        (Err(left), Err(right)) => assert_eq!(left.to_string(), right.to_string()),
        (left, right) => panic!("{left:?} is not {right:?}"),
    }
}

#[test]
fn alone_equals_among_sixty_four() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let requests: Vec<_> = (0..64).map(|_| random_request(&mut rng)).collect();
    let expected: Vec<_> = requests.iter().map(alone).collect();
    for _ in 0..10 {
        let config = random_config(&mut rng);
        let mock = Arc::new(Mock::default());
        let engine = start(&mock, config.clone());
        let told = in_company(&engine, &requests, &mut rng);
        for (told, expected) in told.iter().zip(&expected) {
            assert_same(told, expected);
        }
        check_shapes(&mock, &config);
        assert_blocks_are_back(&engine);
    }
    // Hits and preemptions depend on who comes when; `cache` forces and counts both.
}

/// No step is over budget, and rows of one adapter are neighbours.
fn check_shapes(mock: &Mock, config: &EngineConfig) {
    for shape in mock.shapes.lock().unwrap().iter() {
        assert!(
            shape.spans.iter().sum::<usize>() <= config.max_batch_tokens.unwrap(),
            "{shape:?}"
        );
        // One guided sequence always may run, with its two rows.
        assert!(
            shape.spans.len() <= config.max_sequences.max(2),
            "{shape:?}"
        );
        let mut runs = shape.adapters.clone();
        runs.dedup();
        let count = runs.len();
        runs.sort_unstable();
        runs.dedup();
        assert_eq!(runs.len(), count, "{shape:?}");
    }
}

#[test]
fn a_poisoned_request_fails_alone() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut requests: Vec<_> = (0..20).map(|_| random_request(&mut rng)).collect();
    for (index, poison) in [(3, PANICS), (9, ERRS), (14, YIELDS_NAN)] {
        // Shorter than the fuse: it fails among others who decode.
        requests[index] = request(&[1, 2, poison, 4], 60);
    }
    let expected: Vec<_> = requests.iter().map(alone).collect();
    assert!(
        matches!(&expected[3].end, Err(EngineError::Panicked(what)) if what == "the mock panics")
    );
    assert!(matches!(expected[9].end, Err(EngineError::Step(_))));
    assert!(matches!(expected[14].end, Err(EngineError::Sample(_))));
    assert_eq!(expected[3].tokens.len(), 8, "it generated until the fuse");
    let engine = start(&Arc::new(Mock::default()), EngineConfig::default());
    for _ in 0..5 {
        let told = in_company(&engine, &requests, &mut rng);
        for (told, expected) in told.iter().zip(&expected) {
            assert_same(told, expected);
        }
    }
    assert!(engine.is_alive());
}

#[test]
fn completions_come_in_the_order_of_their_requests() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let requests: Vec<_> = (0..50).map(|_| random_request(&mut rng)).collect();
    // Far fewer places than requests: the queue is fed as it drains.
    let config = EngineConfig {
        max_sequences: 3,
        max_batch_tokens: Some(16),
        queue_capacity: 2,
        ..EngineConfig::default()
    };
    let engine = start(&Arc::new(Mock::default()), config);
    let completions = complete_all(&engine, requests.clone()).unwrap();
    for (completion, request) in completions.iter().zip(&requests) {
        let expected = alone(request);
        assert_eq!(completion.tokens, expected.ids());
        assert_eq!(completion.reason, expected.reason());
        assert_eq!(completion.logprobs.len(), completion.tokens.len());
    }
    let failed = complete_all(
        &engine,
        vec![request(&[1], 50), request(&[PANICS; FUSE], 5)],
    );
    assert!(matches!(failed, Err(EngineError::Panicked(_))));
}

#[test]
fn a_prompt_in_chunks_equals_a_whole_one() {
    let prompt: Vec<TokenId> = (0..100).map(|place| (place * 7 + 3) % 32).collect();
    let request = request(&prompt, 20);
    let expected = alone(&request);
    for max_batch_tokens in [1, 2, 7, 33, 99, 100, 101] {
        let config = EngineConfig {
            max_sequences: 1,
            max_batch_tokens: Some(max_batch_tokens),
            queue_capacity: 0,
            ..EngineConfig::default()
        };
        let engine = start(&Arc::new(Mock::default()), config);
        assert_same(&listen(engine.submit(request.clone()).unwrap()), &expected);
    }
}

#[test]
fn adapters_change_what_is_generated() {
    let base = alone(&request(&[1, 2, 3], 20));
    let adapted = alone(&GenerationRequest {
        adapter: Some(Arc::new(7)),
        ..request(&[1, 2, 3], 20)
    });
    assert_ne!(base.tokens, adapted.tokens);
}
