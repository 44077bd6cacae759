//! What a prefix costs that another request has left warm (the conditioning prompt of a weight vector, say): the
//! time to a first token of a prompt's own tokens alone, behind a prefix that nobody has computed, and behind it again.
//!
//! Usage: `cargo run --release --example warm_prefix MODEL TYPE [PREFIX] [OWN] [ROUNDS]`
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use steersman::engine::{EngineConfig, EngineHandle, GenerationRequest, complete_all};
use steersman::model::{Decoder, Dtype};
use steersman::types::SamplingParams;

/// Milliseconds until the first token behind this prompt.
fn first_token(engine: &EngineHandle, prompt: Vec<u32>) -> Result<f64, Box<dyn Error>> {
    let sampling = SamplingParams {
        max_tokens: 1,
        ignore_eos: true,
        temperature: 0.0,
        ..SamplingParams::default()
    };
    let begun = Instant::now();
    complete_all(engine, vec![GenerationRequest::new(prompt, sampling)])?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: warm_prefix MODEL TYPE [PREFIX] [OWN] [ROUNDS]";
    let model = PathBuf::from(args.next().ok_or(usage)?);
    let dtype: Dtype = args.next().ok_or(usage)?.parse()?;
    let mut number = |default: usize| args.next().map_or(Ok(default), |it| it.parse());
    let (prefix, own, rounds) = (number(256)?, number(64)?, number(15)?);
    let decoder = Arc::new(Decoder::load_with(&model, dtype)?);
    let vocabulary = decoder.config().vocab_size;
    let config = EngineConfig {
        kv_tokens: Some(8 * (prefix + own)),
        ..EngineConfig::default()
    };
    let engine = EngineHandle::start(decoder, config)?;
    let mut fresh = 0;
    // Tokens that no request before has begun with.
    let mut tokens = |count: usize| -> Vec<u32> {
        fresh += 104_729;
        let token = |at: usize| ((fresh + at * 7919) % vocabulary) as u32;
        (0..count).map(token).collect()
    };
    let (mut alone, mut cold, mut warm) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        alone.push(first_token(&engine, tokens(own))?);
        let prefix = tokens(prefix);
        cold.push(first_token(
            &engine,
            [prefix.clone(), tokens(own)].concat(),
        )?);
        warm.push(first_token(&engine, [prefix, tokens(own)].concat())?);
    }
    for (name, times) in [
        ("own tokens alone", &mut alone),
        ("behind a cold prefix", &mut cold),
        ("behind a warm prefix", &mut warm),
    ] {
        times.sort_by(f64::total_cmp);
        let (least, median, most) = (times[0], times[rounds / 2], times[rounds - 1]);
        println!("{name}: {median:.2} ms (median of {rounds}; {least:.2} to {most:.2})");
    }
    let ratio = warm[rounds / 2] / alone[rounds / 2];
    println!("warm to alone: {ratio:.3}");
    Ok(())
}
