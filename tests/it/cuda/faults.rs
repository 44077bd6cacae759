//! What becomes of a device's faults, and of devices that are not there.

use steersman::engine::{EngineError, complete_all};
use steersman::model::{CudaDecoder, Dtype};

use super::device::device;
use super::engine::{greedy, load, start};
use crate::fixtures::{fixture, greedy_cases};

#[test]
fn after_a_fault_of_the_device_the_engine_starts_anew_and_answers_the_same() {
    let device = device();
    let engine = start(&load("llama"), 4);
    let (prompt, _) = greedy_cases("llama").remove(0);
    let request = || vec![greedy(prompt.clone(), 6)];
    let before = complete_all(&engine, request()).unwrap();
    assert_eq!(
        engine.stats().restarts,
        0,
        "the first pool takes over what was loaded"
    );
    // in the prompt, in the middle of a token, in a recorded step
    for launch in [3, 30, 70] {
        let restarts = engine.stats().restarts;
        device.fail_after(launch);
        let outcome = complete_all(&engine, request());
        assert!(
            matches!(outcome, Err(EngineError::Restarted)),
            "launch {launch}: {outcome:?}"
        );
        let after = complete_all(&engine, request()).unwrap();
        assert_eq!(after[0].tokens, before[0].tokens);
        assert_eq!(after[0].logprobs, before[0].logprobs);
        assert_eq!(engine.stats().restarts, restarts + 1);
        assert!(engine.is_alive());
    }
}

#[test]
fn a_device_that_is_not_there_and_numbers_it_does_not_have_are_refused_by_name() {
    let _device = device();
    let refused = |dtype: Dtype, ordinal: usize| {
        let loaded = CudaDecoder::load(&fixture("llama"), dtype, ordinal);
        loaded
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    let error = refused(Dtype::Auto, 99);
    assert!(error.contains("no CUDA device 99"), "{error}");
}

#[test]
fn a_pool_that_does_not_fit_says_what_it_is_and_how_large() {
    let _device = device();
    let decoder = load("llama");
    assert!(decoder.pool_bytes() > 0);
    // 2^40 tokens, on any device
    let error = decoder.new_pool(1 << 36).err().unwrap().to_string();
    assert!(
        error.contains("no room for") && error.contains("keys"),
        "{error}"
    );
    assert!(decoder.new_pool(4).is_ok(), "the next one is opened anew");
}
