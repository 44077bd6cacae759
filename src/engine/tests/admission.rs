//! Who is let in: bounds by requests and by tokens, groups, turns between callers.

use super::*;

fn config(max_sequences: usize, queue_capacity: usize, max_queued_tokens: usize) -> EngineConfig {
    EngineConfig {
        max_sequences,
        queue_capacity,
        max_queued_tokens,
        ..EngineConfig::default()
    }
}

#[test]
fn prompt_tokens_that_wait_are_bounded() {
    let mock = Mock::held();
    let engine = start(&mock, config(1, 10, 100));
    let running = engine.submit(request(&[1; 150], 2)).unwrap();
    mock.valve().await_arrival(1);
    assert_eq!(
        engine.stats().waiting_tokens,
        0,
        "it does not wait any longer"
    );
    let long = engine.submit(request(&[2; 120], 1)).unwrap();
    let refused = engine.submit(request(&[3], 1)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "120 prompt tokens are waiting, with this request's 1 they would be more than 100, try \
         again later"
    );
    assert!(engine.has_room().is_err());
    drop(long);
    mock.valve().allow(usize::MAX);
    // A lost token would hang here.
    while engine.stats().waiting_tokens > 0 {
        std::thread::yield_now();
    }
    assert!(engine.has_room().is_ok());
    assert_eq!(
        listen(engine.submit(request(&[3], 1)).unwrap())
            .tokens
            .len(),
        1
    );
    assert_eq!(listen(running).tokens.len(), 2);
}

#[test]
fn a_group_is_let_in_whole_or_not_at_all() {
    let mock = Mock::held();
    let engine = start(&mock, config(2, 2, 1000));
    let group = |size| vec![request(&[1, 2, 3], 4); size];
    let refused = engine.submit_group(group(5)).unwrap_err();
    assert!(matches!(refused, EngineError::QueueFull { capacity: 4 }));
    let mut mixed = group(2);
    mixed.push(request(&[], 4));
    assert!(matches!(
        engine.submit_group(mixed),
        Err(EngineError::EmptyPrompt)
    ));
    assert_eq!((engine.stats().running, engine.stats().waiting), (0, 0));
    let streams = engine.submit_group(group(4)).unwrap();
    assert!(matches!(
        engine.submit(request(&[1], 1)),
        Err(EngineError::QueueFull { .. })
    ));
    mock.valve().allow(usize::MAX);
    for stream in streams {
        assert_eq!(listen(stream).tokens.len(), 4);
    }
}

#[test]
fn equal_prompts_of_a_group_wait_as_one() {
    let mock = Mock::held();
    let engine = start(&mock, config(1, 20, 100));
    let running = engine.submit(request(&[1], 2)).unwrap();
    mock.valve().await_arrival(1);
    let first = engine.submit(request(&[1], 2)).unwrap();
    let group = engine.submit_group(vec![request(&[2; 60], 1); 8]).unwrap();
    assert_eq!(engine.stats().waiting_tokens, 1 + 60);
    let others = (0..8).map(|token| request(&[token; 60], 1)).collect();
    assert!(matches!(
        engine.submit_group(others),
        Err(EngineError::QueuedTokensFull { asked: 480, .. })
    ));
    drop((first, group, running));
    mock.valve().allow(usize::MAX);
    assert_blocks_are_back(&engine);
    assert_eq!(engine.stats().waiting_tokens, 0);
}

#[test]
fn a_caller_with_a_hundred_requests_does_not_starve_another() {
    let mock = Mock::held();
    let engine = start(&mock, config(2, 200, 10_000));
    let of = |caller, len: usize| GenerationRequest {
        caller,
        ..request(&vec![1; len], 1)
    };
    // Recognised by their lengths. Prompts of one token decode at once: one step each.
    let greedy: Vec<_> = (0..100).map(|_| engine.submit(of(1, 2)).unwrap()).collect();
    mock.valve().await_arrival(1);
    let modest: Vec<_> = (0..3).map(|_| engine.submit(of(2, 3)).unwrap()).collect();
    mock.valve().allow(usize::MAX);
    for stream in greedy.into_iter().chain(modest) {
        assert!(listen(stream).end.is_ok());
    }
    let shapes = mock.shapes.lock().unwrap();
    let order: Vec<usize> = shapes
        .iter()
        .flat_map(|shape| shape.spans.clone())
        .collect();
    let last_modest = order.iter().rposition(|&len| len == 3).unwrap();
    assert_eq!(order.len(), 103);
    // The two that ran already, and then every other place is the modest caller's.
    assert!(last_modest <= 2 + 6, "{order:?}");
}
