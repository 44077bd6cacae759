//! Does it cost anything that every request brings its own weights? Throughput of 64 prompts that
//! begin with 64 distinct control spans, against 64 that begin with the same one.
//!
//! Usage: `cargo run --release --example engine_bench [MODEL_DIR] [ROUNDS]`
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use steersman::engine::{EngineConfig, EngineHandle, GenerationRequest, complete_all};
use steersman::model::{Decoder, LoraAdapter};
use steersman::steering::SteeringManifest;
use steersman::text::PromptEncoder;
use steersman::types::{ControlSpan, Message, SamplingParams};

const REQUESTS: usize = 64;
const MAX_TOKENS: usize = 48;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_else(|| "models/demo".into()));
    let rounds: usize = args.next().map_or(Ok(5), |rounds| rounds.parse())?;
    let decoder = Arc::new(Decoder::load(&dir)?);
    let encoder = PromptEncoder::load(&dir)?;
    let policy = policy(&dir)?;
    let adapter = Some(Arc::new(LoraAdapter::load(&policy, &decoder)?));
    let manifest = SteeringManifest::load(&policy)?;
    let objectives = &manifest.objectives;
    let prompts = |share: &dyn Fn(usize) -> f32| -> Result<Vec<Vec<u32>>, Box<dyn Error>> {
        let prompt = |place: usize| {
            let rest = (1.0 - share(place)) / (objectives.len() - 1) as f32;
            let body = (objectives.iter().enumerate())
                .map(|(index, objective)| {
                    let weight = if index == 0 { share(place) } else { rest };
                    format!("{} {weight:.2}", objective.name)
                })
                .collect::<Vec<_>>();
            // Two decimals, whatever the policy was trained with: one has only 11 values.
            let span = ControlSpan {
                body: body.join(" "),
                ..manifest
                    .conditioning
                    .render(objectives, &objectives.equal())
            };
            let question = format!("Tell me about number {place}, and say how you know it.");
            Ok(encoder.encode_chat(&[Message::user(question)], Some(&span))?)
        };
        (0..REQUESTS).map(prompt).collect()
    };
    let (distinct, equal) = (
        prompts(&|place| place as f32 / REQUESTS as f32)?,
        prompts(&|_| 0.5)?,
    );
    println!(
        "{} prompt tokens each, {MAX_TOKENS} generated",
        equal[0].len()
    );
    let mut best = [Duration::MAX; 2];
    for round in 0..rounds {
        for (kind, prompts) in [&distinct, &equal].into_iter().enumerate() {
            // An engine of its own: nothing is cached from the round before.
            let engine = EngineHandle::start(Arc::clone(&decoder), EngineConfig::default())?;
            let requests = prompts.iter().enumerate().map(|(seed, prompt)| {
                let sampling = SamplingParams {
                    max_tokens: MAX_TOKENS,
                    ignore_eos: true,
                    seed: seed as u64,
                    ..SamplingParams::default()
                };
                GenerationRequest {
                    adapter: adapter.clone(),
                    ..GenerationRequest::new(prompt.clone(), sampling)
                }
            });
            let requests = requests.collect();
            let start = Instant::now();
            complete_all(&engine, requests)?;
            let took = start.elapsed();
            best[kind] = best[kind].min(took);
            let stats = engine.stats();
            println!(
                "round {round} {}: {:.0} tokens/s, {} of {} prompt tokens cached, {} iterations",
                ["distinct", "equal   "][kind],
                (REQUESTS * MAX_TOKENS) as f64 / took.as_secs_f64(),
                stats.prefix_hits_tokens,
                stats.prefix_queries_tokens,
                stats.iterations,
            );
        }
    }
    let rate = |took: Duration| (REQUESTS * MAX_TOKENS) as f64 / took.as_secs_f64();
    println!(
        "best: distinct {:.0}, equal {:.0} tokens/s, ratio {:.3}",
        rate(best[0]),
        rate(best[1]),
        rate(best[0]) / rate(best[1])
    );
    Ok(())
}

/// The folder of the model's first policy.
fn policy(dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let mut policies = std::fs::read_dir(dir.join("policies"))?;
    let policy = policies.next().ok_or("the model folder has no policy")??;
    Ok(policy.path())
}
