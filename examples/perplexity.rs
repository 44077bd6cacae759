//! Perplexity of a text under a checkpoint, as it is served in each number type.
//!
//! Usage: `cargo run --release --example perplexity MODEL TEXT.jsonl [TYPE ...]`
//!
//! TEXT holds `{"text": …}` lines. Each is cut into windows of at most 256 tokens, and the first
//! token of a window is not counted, as nothing stands before it.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use steersman::model::{BLOCK_TOKENS, Decoder, Dtype, ForwardBatch, ServedStep};
use steersman::text::Tokenizer;
use steersman::types::TokenId;

const WINDOW: usize = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: perplexity MODEL TEXT.jsonl [TYPE ...]";
    let model = PathBuf::from(args.next().ok_or(usage)?);
    let text = std::fs::read_to_string(args.next().ok_or(usage)?)?;
    let mut types: Vec<String> = args.collect();
    if types.is_empty() {
        types = ["f32", "bf16", "q8_0", "q4_0"].map(String::from).to_vec();
    }
    let tokenizer = Tokenizer::load(&model)?;
    let mut windows: Vec<Vec<TokenId>> = Vec::new();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line)?;
        let text = line["text"].as_str().ok_or("a line without `text`")?;
        let tokens = tokenizer.encode_with_bos(text)?;
        windows.extend(tokens.chunks(WINDOW).map(<[TokenId]>::to_vec));
    }
    windows.retain(|window| window.len() > 1);
    println!("| type | perplexity | tokens | tokens/s |\n|---|---|---|---|");
    for name in types {
        let decoder = Decoder::load_with(&model, name.parse::<Dtype>()?)?;
        let begun = Instant::now();
        let (mut surprise, mut count) = (0.0, 0);
        for window in &windows {
            surprise += surprise_of(&decoder, window)?;
            count += window.len() - 1;
        }
        let speed = count as f64 / begun.elapsed().as_secs_f64();
        let perplexity = (surprise / count as f64).exp();
        println!("| {name} | {perplexity:.4} | {count} | {speed:.0} |");
    }
    Ok(())
}

/// What the tokens of a window after its first are surprising by, in nats, all together.
fn surprise_of(decoder: &Decoder, window: &[TokenId]) -> Result<f64, Box<dyn Error>> {
    let blocks = window.len().div_ceil(BLOCK_TOKENS);
    let table: Vec<u32> = (0..blocks as u32).collect();
    let mut batch = ForwardBatch::default();
    batch.push(window, 0, None);
    let draws: Vec<u32> = (0..window.len() as u32 - 1).collect();
    let step = ServedStep {
        batch: &batch,
        tables: &[&table],
        draws: &draws,
    };
    let mut logits = Vec::new();
    decoder.step(step, &mut decoder.new_pool(blocks), &mut logits)?;
    let rows = logits.chunks_exact(decoder.config().vocab_size);
    let surprises = rows.zip(&window[1..]).map(|(row, next)| {
        let peak = row.iter().copied().fold(f32::MIN, f32::max);
        let mass: f64 = row.iter().map(|it| f64::from(it - peak).exp()).sum();
        mass.ln() - f64::from(row[*next as usize] - peak)
    });
    Ok(surprises.sum())
}
