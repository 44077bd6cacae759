//! How fast a device serves: passes alone, and the engine with all that is around them.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use steersman::engine::{EngineConfig, EngineHandle, GenerationRequest, complete_all};
use steersman::model::{
    BLOCK_TOKENS, CudaDecoder, DecoderConfig, ForwardBatch, ServedStep, TensorSource,
};
use steersman::types::SamplingParams;

use super::random::RandomTensors;

/// Sequences side by side.
const BATCHES: [usize; 4] = [1, 8, 64, 256];
/// Tokens of a prompt and of an answer.
const PROMPT: usize = 128;
const ANSWER: usize = 128;
/// Tokens before the clock starts: recordings are made, caches are warm.
const WARM: usize = 8;
/// Prompt tokens of one iteration.
const BUDGET: usize = 2048;

type Outcome<T> = Result<T, Box<dyn Error>>;

pub(super) fn run(folder: &Path) -> Outcome<()> {
    let mut config = DecoderConfig::load(folder)?;
    // rotations are tabulated for every position
    config.max_positions = config.max_positions.min(4096);
    let began = Instant::now();
    let source = || Ok(Box::new(RandomTensors) as Box<dyn TensorSource>);
    let decoder = Arc::new(CudaDecoder::build(config, 0, source)?);
    let name = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let config = decoder.config();
    let matrices: usize = config
        .linear_modules()
        .iter()
        .map(|(_, out, inputs)| out * inputs)
        .sum();
    let bytes = 2 * (matrices + config.vocab_size * config.hidden_size);
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({ "model": name, "read_for_a_token_gb": bytes as f64 / 1e9, "loaded_seconds": seconds })
    );
    passes(&name, &decoder, bytes)?;
    engine(&name, &decoder)
}

fn tokens(count: usize, vocabulary: usize) -> Vec<u32> {
    (0..count)
        .map(|at| (at * 7919 % vocabulary) as u32)
        .collect()
}

/// Passes without an engine: prompts of one iteration, then single tokens of all sequences.
fn passes(name: &str, decoder: &CudaDecoder, bytes: usize) -> Outcome<()> {
    let each = (PROMPT + ANSWER).div_ceil(BLOCK_TOKENS);
    let most = BATCHES[BATCHES.len() - 1];
    let mut pool = decoder.new_pool(most * each)?;
    let vocabulary = decoder.config().vocab_size;
    let prompt = tokens(PROMPT, vocabulary);
    let mut logits = Vec::new();
    let tables: Vec<Vec<u32>> = (0..most)
        .map(|row| {
            (row * each..(row + 1) * each)
                .map(|block| block as u32)
                .collect()
        })
        .collect();
    for batch in BATCHES {
        let mut step =
            |parts: &[u32], first: usize, rows: std::ops::Range<usize>| -> Outcome<f64> {
                let mut packed = ForwardBatch::default();
                for _ in rows.clone() {
                    packed.push(parts, first, None);
                }
                let own: Vec<&[u32]> = tables[rows].iter().map(Vec::as_slice).collect();
                let last = |row: usize| (row * parts.len() - 1) as u32;
                let draws: Vec<u32> = (1..=own.len()).map(last).collect();
                let began = Instant::now();
                let step = ServedStep {
                    batch: &packed,
                    tables: &own,
                    draws: &draws,
                };
                decoder.step(step, &mut pool, &mut logits)?;
                Ok(began.elapsed().as_secs_f64())
            };
        let (mut prefill, mut prefilled) = (0.0, 0);
        for start in (0..batch).step_by(BUDGET / PROMPT) {
            let rows = start..batch.min(start + BUDGET / PROMPT);
            // once to warm up, once to measure: the same places, the same numbers
            step(&prompt, 0, rows.clone())?;
            prefilled += rows.len() * PROMPT;
            prefill += step(&prompt, 0, rows)?;
        }
        let mut times = Vec::new();
        for turn in 0..ANSWER {
            let seconds = step(
                &prompt[turn % PROMPT..=turn % PROMPT],
                PROMPT + turn,
                0..batch,
            )?;
            if turn >= WARM {
                times.push(seconds);
            }
        }
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        println!(
            "{}",
            json!({
                "model": name, "passes": batch, "context": [PROMPT, PROMPT + ANSWER],
                "prefill_tokens_per_second": prefilled as f64 / prefill,
                "median_step_ms": median * 1e3,
                "tokens_per_second": batch as f64 / median,
                "weights_gb_per_second": bytes as f64 / 1e9 / median,
            })
        );
    }
    Ok(())
}

/// Whole answers through the engine, greedily.
fn engine(name: &str, decoder: &Arc<CudaDecoder>) -> Outcome<()> {
    let most = BATCHES[BATCHES.len() - 1];
    let config = EngineConfig {
        max_sequences: most,
        max_batch_tokens: Some(BUDGET),
        kv_tokens: Some(most * (PROMPT + ANSWER + BLOCK_TOKENS)),
        ..EngineConfig::default()
    };
    let engine = EngineHandle::start(Arc::clone(decoder), config)?;
    let request = |salt: usize| {
        let mut prompt = tokens(PROMPT, decoder.config().vocab_size);
        // no two have a prefix in common
        prompt[0] = salt as u32;
        let sampling = SamplingParams {
            max_tokens: ANSWER,
            temperature: 0.0,
            ignore_eos: true,
            ..SamplingParams::default()
        };
        GenerationRequest::new(prompt, sampling)
    };
    for (index, batch) in BATCHES.into_iter().enumerate() {
        let requests = |turn: usize| -> Vec<GenerationRequest> {
            let first = (2 * index + turn) * most;
            (first..first + batch).map(request).collect()
        };
        complete_all(&engine, requests(0))?;
        let began = Instant::now();
        let done = complete_all(&engine, requests(1))?;
        let seconds = began.elapsed().as_secs_f64();
        let made: usize = done.iter().map(|completion| completion.tokens.len()).sum();
        println!(
            "{}",
            json!({
                "model": name, "engine": batch, "prompt": PROMPT, "answer": ANSWER,
                "tokens_per_second": made as f64 / seconds,
            })
        );
    }
    Ok(())
}
