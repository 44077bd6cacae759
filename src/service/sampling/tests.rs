//! Defaults, ranges and room.

use serde_json::json;

use super::*;

fn defaults(stated: serde_json::Value) -> SamplingDefaults {
    SamplingDefaults::from_stated(serde_json::from_value(stated).expect("sound"), &[9, 2], 256)
}

const ROOM: Room = Room {
    context: 100,
    prompt_tokens: 60,
    vocabulary: 50,
};

#[test]
fn what_the_checkpoint_states_fills_what_the_request_leaves_out() {
    let stated = defaults(json!({"temperature": 0.5, "top_k": 7, "eos_token_id": 3}));
    assert_eq!(stated.eos_token_ids, [2, 3, 9]);
    let asked = SamplingInput {
        top_k: Some(-1),
        ..SamplingInput::default()
    };
    let params = asked.resolve(&stated, ROOM).expect("fits");
    assert_eq!(
        (params.temperature, params.top_k, params.top_p),
        (0.5, 0, 1.0)
    );
    assert_eq!(params.max_tokens, 40);
    assert_eq!(params.stop_token_ids, [2, 3, 9]);
}

#[test]
fn only_an_explicit_do_sample_false_is_greedy() {
    assert_eq!(
        defaults(json!({"do_sample": false, "temperature": 0.7})).temperature,
        0.0
    );
    assert_eq!(defaults(json!({"do_sample": true})).temperature, 1.0);
    assert_eq!(defaults(json!({})).temperature, 1.0);
}

#[test]
fn absent_seeds_differ_and_survive_a_double() {
    let draw = || {
        SamplingInput::default()
            .resolve(&defaults(json!({})), ROOM)
            .expect("fits")
            .seed
    };
    let (one, other) = (draw(), draw());
    assert_ne!(one, other);
    assert!(one < 1 << 53 && other < 1 << 53);
}

#[test]
fn each_answer_has_a_seed_of_its_own_that_can_be_sent_again() {
    let seeds: std::collections::BTreeSet<u64> = (0..16).map(|i| seed_of(7, i)).collect();
    assert!(seeds.len() == 16 && seeds.contains(&7));
    assert!(seeds.iter().all(|seed| *seed < 1 << 53));
    assert_ne!(seed_of(7, 1), seed_of(8, 1));
}

#[test]
fn a_prompt_that_leaves_no_room_overflows() {
    for (prompt_tokens, max_tokens, fits) in [
        (99, None, true),
        (100, None, false),
        (60, Some(40), true),
        (60, Some(41), false),
    ] {
        let asked = SamplingInput {
            max_tokens,
            ..SamplingInput::default()
        };
        let room = Room {
            prompt_tokens,
            ..ROOM
        };
        let resolved = asked.resolve(&defaults(json!({})), room);
        assert_eq!(resolved.is_ok(), fits, "{prompt_tokens} {max_tokens:?}");
    }
    let huge = SamplingInput {
        max_tokens: Some(u64::MAX),
        ..SamplingInput::default()
    };
    assert!(huge.resolve(&defaults(json!({})), ROOM).is_err());
}
