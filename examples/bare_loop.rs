//! The engine without a server: so many streams at once, and what they take together. Beside the same
//! load over HTTP (`steersman bench --concurrency N --requests N`) it shows what the server costs.
//!
//! Usage: `cargo run --release --example bare_loop MODEL TYPE [STREAMS] [PROMPT] [OUTPUT] [ROUNDS]`
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use steersman::engine::{EngineConfig, EngineHandle, GenerationRequest, complete_all};
use steersman::model::{Decoder, Dtype};
use steersman::types::SamplingParams;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: bare_loop MODEL TYPE [STREAMS] [PROMPT] [OUTPUT] [ROUNDS]";
    let model = PathBuf::from(args.next().ok_or(usage)?);
    let dtype: Dtype = args.next().ok_or(usage)?.parse()?;
    let mut number = |default: usize| args.next().map_or(Ok(default), |it| it.parse());
    let (streams, prompt, output) = (number(16)?, number(128)?, number(64)?);
    let rounds = number(5)?;
    let decoder = Arc::new(Decoder::load_with(&model, dtype)?);
    let config = EngineConfig {
        max_sequences: streams,
        kv_tokens: Some(4 * streams * (prompt + output)),
        ..EngineConfig::default()
    };
    let vocabulary = decoder.config().vocab_size as u32;
    let engine = EngineHandle::start(decoder, config)?;
    for round in 0..rounds as u32 {
        let requests = (0..streams as u32).map(|stream| {
            // None like another, so that no prefix is shared.
            let token =
                |at: u32| (1 + at * 7919 + stream * 104_729 + round * 15_485_863) % vocabulary;
            let sampling = SamplingParams {
                max_tokens: output,
                ignore_eos: true,
                temperature: 0.0,
                ..SamplingParams::default()
            };
            GenerationRequest::new((0..prompt as u32).map(token).collect(), sampling)
        });
        let requests = requests.collect();
        let begun = Instant::now();
        complete_all(&engine, requests)?;
        let seconds = begun.elapsed().as_secs_f64();
        let rate = (streams * output) as f64 / seconds;
        println!("round {round}: {seconds:.3} s, {rate:.0} output tokens/s");
    }
    Ok(())
}
