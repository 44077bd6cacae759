//! From submission to the last event: refusals, ends, cancellation, pauses, death.

use super::mock::{CONTEXT, VOCAB};
use super::*;
use crate::engine::event::EVENT_CAPACITY;
use crate::engine::{EngineStats, complete_unless};
use crate::model::BLOCK_TOKENS;

fn small(max_sequences: usize, queue_capacity: usize) -> EngineConfig {
    EngineConfig {
        max_sequences,
        max_batch_tokens: Some(64),
        queue_capacity,
        ..EngineConfig::default()
    }
}

#[test]
fn requests_that_cannot_be_served_are_refused_at_once() {
    let engine = start(&Arc::new(Mock::default()), EngineConfig::default());
    let refusal = |request| engine.submit(request).unwrap_err();
    assert!(matches!(refusal(request(&[], 5)), EngineError::EmptyPrompt));
    assert!(matches!(
        refusal(request(&[1, VOCAB as TokenId], 5)),
        EngineError::TokenOutOfVocabulary {
            token: 40,
            vocab_size: VOCAB
        }
    ));
    let overflow = refusal(request(&[1; 100], 101));
    assert_eq!(
        overflow.to_string(),
        "the prompt has 100 tokens and up to 101 more are asked for, but the model's context \
         holds 200"
    );
    assert!(matches!(
        refusal(request(&[1], usize::MAX)),
        EngineError::ContextOverflow { .. }
    ));
    assert_eq!(alone(&request(&[1; CONTEXT - 1], 1)).tokens.len(), 1);
}

#[test]
fn unusable_bounds_are_refused() {
    let refusal = |config| {
        EngineHandle::start(Arc::new(Mock::default()), config)
            .err()
            .unwrap()
            .to_string()
    };
    assert!(refusal(small(0, 1)).contains("max_sequences is 0"));
    assert!(refusal(small(65, 1)).contains("max_batch_tokens is 64"));
    assert!(refusal(small(1, usize::MAX)).contains("queue_capacity"));
    let no_cache = EngineConfig {
        kv_tokens: Some(15),
        ..EngineConfig::default()
    };
    assert!(refusal(no_cache).contains("kv_tokens is 15, expected at least 16"));
}

#[test]
fn completions_end_at_max_tokens() {
    for max_tokens in [0, 1, 2, 40] {
        let told = alone(&request(&[3, 4], max_tokens));
        assert_eq!(told.tokens.len(), max_tokens);
        let usage = Usage {
            prompt_tokens: 2,
            cached_tokens: 0,
            completion_tokens: max_tokens,
        };
        assert_eq!(told.end.unwrap(), (FinishReason::Length, usage));
    }
}

#[test]
fn a_stop_token_is_told_counted_and_last() {
    let mut request = request(&[3, 4], 40);
    let free = alone(&request).ids();
    let stop = free[12];
    let first = free.iter().position(|&id| id == stop).unwrap();
    request.sampling.stop_token_ids = vec![stop];
    let told = alone(&request);
    assert_eq!(told.ids(), free[..=first]);
    let usage = Usage {
        prompt_tokens: 2,
        cached_tokens: 0,
        completion_tokens: first + 1,
    };
    assert_eq!(told.end.clone().unwrap(), (FinishReason::Stop, usage));

    request.sampling.ignore_eos = true;
    assert_eq!(alone(&request).ids(), free, "ignore_eos goes on past it");

    request.sampling.ignore_eos = false;
    request.sampling.min_tokens = 30;
    let told = alone(&request);
    assert!(told.tokens.len() > 30 || told.reason() == FinishReason::Length);
    assert!(!told.ids()[..30].contains(&stop));
}

#[test]
fn a_dropped_stream_is_out_of_the_next_iteration() {
    let mock = Mock::held();
    let engine = start(&mock, small(2, 2));
    let stays = engine.submit(request(&[1, 2], 30)).unwrap();
    mock.valve().await_arrival(1);
    let goes = engine.submit(request(&[3, 4], 30)).unwrap();
    mock.valve().allow(4);
    mock.valve().await_arrival(5);
    let stats = engine.stats();
    assert_eq!((stats.running, stats.blocks_used), (2, 2));
    drop(goes);
    mock.valve().allow(1);
    mock.valve().await_arrival(6);
    assert_eq!(mock.shapes.lock().unwrap()[4].spans, [1, 1]);
    assert_eq!(mock.shapes.lock().unwrap()[5].spans, [1]);
    let stats = engine.stats();
    assert_eq!((stats.running, stats.blocks_used), (1, 1));
    mock.valve().allow(usize::MAX);
    assert_eq!(listen(stays).tokens, alone(&request(&[1, 2], 30)).tokens);
}

#[test]
fn a_full_queue_refuses_until_someone_leaves() {
    let mock = Mock::held();
    let engine = start(&mock, small(2, 1));
    let running = [1, 2].map(|token| engine.submit(request(&[token], 5)).unwrap());
    let waits = engine.submit(request(&[3], 5)).unwrap();
    let refused = engine.submit(request(&[4], 5)).unwrap_err();
    assert!(matches!(refused, EngineError::QueueFull { capacity: 3 }));
    mock.valve().await_arrival(1);
    drop(waits);
    mock.valve().allow(usize::MAX);
    // Waits for the place of the one who gave up; a lost place would hang here.
    let patient = engine
        .submit_patiently(request(&[4], 5), &|| false)
        .unwrap();
    assert_eq!(listen(patient).ids(), alone(&request(&[4], 5)).ids());
    for stream in running {
        assert_eq!(listen(stream).tokens.len(), 5);
    }
}

#[test]
fn completions_that_are_called_off_leave_the_engine_and_its_queue() {
    use std::sync::atomic::{AtomicBool, Ordering};
    // one runs, one waits, and the third finds no place to wait in
    for count in [2, 3] {
        let mock = Mock::held();
        let engine = start(&mock, small(1, 1));
        let (stop, other) = (Arc::new(AtomicBool::new(false)), engine.clone());
        let seen = Arc::clone(&stop);
        let work = std::thread::spawn(move || {
            let requests = vec![request(&[1, 2], 50); count];
            complete_unless(&other, requests, &|| seen.load(Ordering::Relaxed))
        });
        while engine.stats().running + engine.stats().waiting < 2 {
            std::thread::yield_now();
        }
        // no token comes meanwhile: the model is held
        stop.store(true, Ordering::Relaxed);
        let outcome = work.join().unwrap();
        assert!(matches!(outcome, Err(EngineError::CalledOff)), "{count}");
        mock.valve().allow(1);
        while engine.stats().running + engine.stats().waiting > 0 {
            std::thread::yield_now();
        }
    }
}

#[test]
fn requests_are_admitted_in_order_of_arrival() {
    let mock = Mock::held();
    let engine = start(&mock, small(1, 3));
    let streams: Vec<_> = [3, 5, 7]
        .map(|len| engine.submit(request(&vec![1; len], 1)).unwrap())
        .into();
    mock.valve().allow(usize::MAX);
    for stream in streams {
        assert!(listen(stream).end.is_ok());
    }
    let spans: Vec<_> = mock
        .shapes
        .lock()
        .unwrap()
        .iter()
        .map(|shape| shape.spans.clone())
        .collect();
    assert_eq!(spans, [[3], [5], [7]]);
}

#[test]
fn a_slow_reader_pauses_only_itself() {
    let mock = Arc::new(Mock::default());
    let engine = start(&mock, small(2, 0));
    let slow = engine.submit(request(&[1, 2], 100)).unwrap();
    let brisk = engine.submit(request(&[3, 4], 150)).unwrap();
    assert_eq!(listen(brisk).tokens, alone(&request(&[3, 4], 150)).tokens);
    // Everything that the brisk one did not use: the slow one stopped short of its channel's end.
    let slow_tokens = engine.stats().tokens_generated as usize - 150;
    assert_eq!(slow_tokens, EVENT_CAPACITY - 1);
    assert_eq!(engine.stats().running, 1);
    assert_eq!(listen(slow).tokens, alone(&request(&[1, 2], 100)).tokens);
}

#[test]
fn a_paused_sequence_can_be_cancelled() {
    let mock = Mock::held();
    let engine = start(&mock, small(1, 1));
    let slow = engine.submit(request(&[1, 2], 100)).unwrap();
    let next = engine.submit(request(&[3], 4)).unwrap();
    // One step per token: after these the sequence pauses and the thread parks.
    mock.valve().allow(EVENT_CAPACITY - 1);
    mock.valve().await_arrival(EVENT_CAPACITY - 1);
    drop(slow);
    mock.valve().allow(usize::MAX);
    assert_eq!(listen(next).tokens.len(), 4);
}

#[test]
fn figures_tell_what_happened() {
    let engine = start(&Arc::new(Mock::default()), EngineConfig::default());
    let stats = engine.stats();
    let blocks_total = 64 * CONTEXT / BLOCK_TOKENS;
    assert_eq!(
        stats,
        EngineStats {
            blocks_total,
            ..EngineStats::default()
        }
    );
    listen(engine.submit(request(&[1; 10], 6)).unwrap());
    let stats = engine.stats();
    assert_eq!((stats.tokens_generated, stats.waiting), (6, 0));
    assert!(stats.iterations >= 6);
    assert!(stats.last_token.is_some() && stats.last_token >= stats.last_iteration);
}

#[test]
fn the_thread_finishes_its_work_after_the_last_handle_and_ends() {
    let mock = Mock::held();
    let engine = start(&mock, small(1, 4));
    let streams = [1, 2, 3].map(|token| engine.clone().submit(request(&[token], 4)).unwrap());
    mock.valve().await_arrival(1);
    drop(engine);
    mock.valve().allow(usize::MAX);
    for stream in streams {
        assert_eq!(listen(stream).tokens.len(), 4);
    }
    while Arc::strong_count(&mock) > 1 {
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_stream_is_read_from_async_code_too() {
    let engine = start(&Arc::new(Mock::default()), EngineConfig::default());
    let mut stream = engine.submit(request(&[1, 2], 60)).unwrap();
    let mut ids = Vec::new();
    while let Some(event) = stream.next().await {
        match event {
            TokenEvent::Token(token) => ids.push(token.id),
            TokenEvent::Finished { usage, .. } => assert_eq!(usage.completion_tokens, 60),
            TokenEvent::Failed(error) => panic!("{error}"),
        }
    }
    let expected = tokio::task::spawn_blocking(|| alone(&request(&[1, 2], 60)).ids());
    assert_eq!(ids, expected.await.unwrap());
}
