//! Blocks: shared prompts, what may not be shared, what happens when there are none left.

use super::mock::UNNAMED;
use super::*;

fn prompt(len: usize, variant: TokenId) -> Vec<TokenId> {
    (0..len as TokenId)
        .map(|place| (place * 5 + variant * 11) % 32)
        .collect()
}

fn config(max_sequences: usize, kv_tokens: usize) -> EngineConfig {
    EngineConfig {
        max_sequences,
        max_batch_tokens: Some(64),
        kv_tokens: Some(kv_tokens),
        ..EngineConfig::default()
    }
}

#[test]
fn cached_equals_not_cached_to_the_bit() {
    let mock = Arc::new(Mock::default());
    let engine = start(&mock, EngineConfig::default());
    let hear = |request: GenerationRequest<u64>| listen(engine.submit(request).unwrap());
    let request = request(&prompt(50, 0), 30);
    let first = hear(request.clone());
    assert_eq!(first.cached, 0);
    let before = mock.computed();
    let second = hear(request.clone());
    // 50 tokens fill three blocks; the last two tokens are computed, and 29 of 30 drawn ones.
    assert_eq!((second.cached, mock.computed() - before), (48, 2 + 29));
    assert_eq!(
        (&second.tokens, &second.end.unwrap()),
        (&first.tokens, &first.end.unwrap())
    );
    let stats = engine.stats();
    assert_eq!(
        (stats.prefix_queries_tokens, stats.prefix_hits_tokens),
        (100, 48)
    );

    // A turn later: the prompt holds the whole answer, and more.
    let mut longer = request.clone();
    longer.prompt.extend(first.tokens.iter().map(|&(id, _)| id));
    longer.prompt.extend([1, 2, 3]);
    let told = hear(longer.clone());
    assert_eq!(
        told.cached, 64,
        "four blocks of the first 79 computed tokens"
    );
    assert_eq!(told.tokens, alone(&longer).tokens);
}

#[test]
fn the_last_token_of_a_prompt_is_always_computed() {
    let engine = start(&Arc::new(Mock::default()), EngineConfig::default());
    for (len, cached) in [(15, 0), (16, 0), (17, 16), (32, 16), (33, 32)] {
        let request = request(&prompt(len, len as TokenId), 3);
        let told = [(); 2].map(|()| listen(engine.submit(request.clone()).unwrap()));
        assert_eq!(told.map(|told| told.cached), [0, cached], "{len} tokens");
    }
}

#[test]
fn blocks_are_shared_only_under_equal_parameters_and_salt() {
    let engine = start(&Arc::new(Mock::default()), EngineConfig::default());
    let hear = |adapter: Option<u64>, cache_salt| {
        let request = GenerationRequest {
            adapter: adapter.map(Arc::new),
            cache_salt,
            ..request(&prompt(40, 0), 5)
        };
        let told = listen(engine.submit(request.clone()).unwrap());
        assert_eq!(told.tokens, alone(&request).tokens);
        told.cached
    };
    for (adapter, salt) in [
        (None, 0),
        (Some(7), 0),
        (Some(8), 0),
        (None, 1),
        (Some(7), 1),
    ] {
        assert_eq!(hear(adapter, salt), 0, "{adapter:?}, {salt}");
        assert_eq!(hear(adapter, salt), 32, "{adapter:?}, {salt}");
    }
    for _ in 0..2 {
        let unnamed = hear(Some(UNNAMED), 0);
        assert_eq!(unnamed, 0, "what may change is never kept");
    }
}

#[test]
fn a_group_computes_its_common_prompt_once() {
    let mock = Arc::new(Mock::default());
    let engine = start(&mock, EngineConfig::default());
    let requests: Vec<_> = (0..6)
        .map(|seed| {
            let mut request = request(&prompt(100, 0), 1);
            request.sampling.seed = seed;
            request
        })
        .collect();
    let streams = engine.submit_group(requests.clone()).unwrap();
    let told: Vec<_> = streams.into_iter().map(listen).collect();
    for (told, request) in told.iter().zip(&requests) {
        assert_eq!(told.tokens, alone(request).tokens);
    }
    // Six blocks of 16 once, and everybody's own last four.
    assert_eq!(mock.computed(), 96 + 6 * 4);
    let mut cached: Vec<_> = told.iter().map(|told| told.cached).collect();
    cached.sort_unstable();
    assert_eq!(cached, [0, 96, 96, 96, 96, 96]);
}

#[test]
fn a_prompt_is_shared_while_it_is_computed_in_chunks() {
    let mock = Arc::new(Mock::default());
    let config = EngineConfig {
        max_sequences: 4,
        max_batch_tokens: Some(10),
        ..EngineConfig::default()
    };
    let engine = start(&mock, config);
    let requests = vec![request(&prompt(90, 0), 1); 4];
    let streams = engine.submit_group(requests.clone()).unwrap();
    for stream in streams {
        assert_eq!(listen(stream).tokens, alone(&requests[0]).tokens);
    }
    assert_eq!(mock.computed(), 80 + 4 * 10);
}

#[test]
fn when_blocks_run_out_the_youngest_computes_again_and_says_the_same() {
    let mock = Arc::new(Mock::default());
    // Ten blocks. Four sequences start with two each and grow to five.
    let engine = start(&mock, config(4, 160));
    let requests: Vec<_> = (0..4).map(|it| request(&prompt(20, it), 50)).collect();
    let streams = engine.submit_group(requests.clone()).unwrap();
    let told: Vec<_> = streams.into_iter().map(listen).collect();
    for (told, request) in told.iter().zip(&requests) {
        assert_eq!(told.tokens, alone(request).tokens);
        assert_eq!(told.end.as_ref().unwrap().1.completion_tokens, 50);
    }
    let stats = engine.stats();
    assert!(stats.preemptions > 0);
    assert_eq!(
        stats.prefix_queries_tokens, 80,
        "computing again asks for nothing"
    );
    assert_blocks_are_back(&engine);
}

#[test]
fn a_sequence_whose_reader_is_behind_gives_way_first() {
    let mock = Arc::new(Mock::default());
    let engine = start(&mock, config(3, 160));
    // It pauses with 31 tokens told, in four blocks of ten.
    let slow = request(&prompt(20, 0), 60);
    let stream = engine.submit(slow.clone()).unwrap();
    while engine.stats().tokens_generated < 31 {
        std::thread::yield_now();
    }
    let brisk = request(&prompt(60, 1), 90);
    assert_eq!(
        listen(engine.submit(brisk.clone()).unwrap()).tokens,
        alone(&brisk).tokens
    );
    assert_eq!(engine.stats().preemptions, 1);
    assert_eq!(listen(stream).tokens, alone(&slow).tokens);
    assert_blocks_are_back(&engine);
}

#[test]
fn old_prompts_make_room_for_new_ones() {
    let engine = start(&Arc::new(Mock::default()), config(2, 256));
    for round in 0..3 {
        for variant in 0..10 {
            let request = request(&prompt(60, variant), 10);
            let told = listen(engine.submit(request.clone()).unwrap());
            assert_eq!(told.tokens, alone(&request).tokens, "{round}, {variant}");
        }
    }
    let stats = engine.stats();
    assert_eq!((stats.blocks_used, stats.preemptions), (0, 0));
    assert!(stats.blocks_cached > 10, "{stats:?}");
}

#[test]
fn the_cache_bounds_what_is_taken_in() {
    let engine = start(&Arc::new(Mock::default()), config(2, 64));
    assert_eq!(engine.context_length(), 64);
    let refusal = |request| engine.submit(request).unwrap_err();
    assert!(matches!(
        refusal(request(&prompt(40, 0), 25)),
        EngineError::ContextOverflow { limit: 64, .. }
    ));
    let guided = |max_tokens| GenerationRequest {
        guidance: Some(Guidance {
            prompt: prompt(9, 1),
            scale: 2.0,
        }),
        ..request(&prompt(10, 0), max_tokens)
    };
    assert!(matches!(
        refusal(guided(23)),
        EngineError::ContextOverflow { limit: 32, .. }
    ));
    assert_eq!(listen(engine.submit(guided(22)).unwrap()).tokens.len(), 22);
    assert_blocks_are_back(&engine);
}
