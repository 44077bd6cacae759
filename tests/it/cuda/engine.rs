//! The engine over a device.

use std::sync::Arc;

use steersman::engine::{Completion, EngineConfig, EngineHandle, GenerationRequest, complete_all};
use steersman::model::{CudaDecoder, Decoder, Dtype, LoraAdapter};
use steersman::types::SamplingParams;

use super::device::device;
use crate::fixtures::{fixture, greedy_cases};

pub(super) fn load(name: &str) -> Arc<CudaDecoder> {
    Arc::new(CudaDecoder::load(&fixture(name), Dtype::Auto, 0).unwrap())
}

pub(super) fn start(decoder: &Arc<CudaDecoder>, max_sequences: usize) -> EngineHandle {
    let config = EngineConfig {
        max_sequences,
        max_batch_tokens: Some(48),
        kv_tokens: Some(400),
        ..EngineConfig::default()
    };
    EngineHandle::start(Arc::clone(decoder), config).unwrap()
}

/// The likeliest tokens after a prompt.
pub(super) fn greedy(prompt: Vec<u32>, max_tokens: usize) -> GenerationRequest {
    let sampling = SamplingParams {
        max_tokens,
        temperature: 0.0,
        ..SamplingParams::default()
    };
    GenerationRequest::new(prompt, sampling)
}

fn bits(completion: &Completion) -> (Vec<u32>, Vec<u32>) {
    let logprobs = completion.logprobs.iter().map(|logprob| logprob.to_bits());
    (completion.tokens.clone(), logprobs.collect())
}

#[test]
fn sampled_answers_are_the_same_alone_and_in_company() {
    let device = device();
    let name = "llama";
    let cpu = Decoder::load(&fixture(name)).unwrap();
    let decoder = load(name);
    let adapter = Arc::new(LoraAdapter::load(&fixture(name).join("adapter"), &cpu).unwrap());
    let requests = || -> Vec<GenerationRequest> {
        let cases = greedy_cases(name);
        (0..6)
            .map(|index| {
                let sampling = SamplingParams {
                    max_tokens: 5 + index,
                    temperature: 0.8,
                    seed: index as u64,
                    ..SamplingParams::default()
                };
                let prompt = cases[index % cases.len()].0.clone();
                let mut request = GenerationRequest::new(prompt, sampling);
                request.adapter = (index % 2 == 1).then(|| Arc::clone(&adapter));
                request
            })
            .collect()
    };
    let together = complete_all(&start(&decoder, 6), requests()).unwrap();
    let together: Vec<_> = together.iter().map(bits).collect();
    assert!(device.replays() > 0, "nothing was recorded");
    let engine = start(&decoder, 1);
    for (request, together) in requests().into_iter().zip(together) {
        let alone = complete_all(&engine, vec![request]).unwrap();
        assert_eq!(bits(&alone[0]), together);
    }
}

#[test]
fn the_likeliest_tokens_are_those_of_the_processor() {
    let _device = device();
    for name in ["qwen3", "gemma2"] {
        let engine = start(&load(name), 4);
        for (prompt, expected) in greedy_cases(name) {
            let done = complete_all(&engine, vec![greedy(prompt, 4)]).unwrap();
            assert_eq!(done[0].tokens, expected[..4], "{name}");
        }
    }
}
