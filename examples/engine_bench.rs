//! Does it cost anything that every request brings its own weights? Throughput of 64 prompts that
//! begin with 64 distinct control spans, against 64 that begin with the same one. Each round runs
//! both, in alternating order, and its own ratio counts: a machine's mood changes between rounds.
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
    let rounds: usize = args.next().map_or(Ok(6), |rounds| rounds.parse())?;
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
                    .ok_or("the policy is told nothing in its prompt")?
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
    let sets = [("distinct", &distinct), ("equal", &equal)];
    let mut ratios = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let mut took = [Duration::ZERO; 2];
        // whoever comes second in a round meets a warmer or a busier machine: they take turns
        for turn in 0..2 {
            let kind = (round + turn) % 2;
            let (name, prompts) = sets[kind];
            // an engine of its own: nothing is cached from the round before
            let engine = EngineHandle::start(Arc::clone(&decoder), EngineConfig::default())?;
            took[kind] = run(&engine, prompts, adapter.as_ref())?;
            let stats = engine.stats();
            println!(
                "round {round} {name:8}: {:.0} tokens/s, {} of {} prompt tokens cached, {} iterations",
                (REQUESTS * MAX_TOKENS) as f64 / took[kind].as_secs_f64(),
                stats.prefix_hits_tokens,
                stats.prefix_queries_tokens,
                stats.iterations,
            );
        }
        ratios.push(took[1].as_secs_f64() / took[0].as_secs_f64());
    }
    println!("throughput of distinct over equal: {}", spread(ratios));
    Ok(())
}

/// How long the engine takes for all prompts, submitted at once.
fn run(
    engine: &EngineHandle<LoraAdapter>,
    prompts: &[Vec<u32>],
    adapter: Option<&Arc<LoraAdapter>>,
) -> Result<Duration, Box<dyn Error>> {
    let requests = prompts.iter().enumerate().map(|(seed, prompt)| {
        let sampling = SamplingParams {
            max_tokens: MAX_TOKENS,
            ignore_eos: true,
            seed: seed as u64,
            ..SamplingParams::default()
        };
        GenerationRequest {
            adapter: adapter.cloned(),
            ..GenerationRequest::new(prompt.clone(), sampling)
        }
    });
    let requests = requests.collect();
    let start = Instant::now();
    complete_all(engine, requests)?;
    Ok(start.elapsed())
}

/// The median of each round's own ratio, with its quartiles and ends.
fn spread(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    let Some(last) = ratios.len().checked_sub(1) else {
        return "no round was run".to_owned();
    };
    // between two neighbours where the share falls between them
    let at = |share: f64| {
        let place = share * last as f64;
        let (low, high) = (
            ratios[place.floor() as usize],
            ratios[place.ceil() as usize],
        );
        low + (high - low) * place.fract()
    };
    format!(
        "median {:.3}, middle half {:.3} to {:.3}, all {:.3} to {:.3}, of {} paired rounds",
        at(0.5),
        at(0.25),
        at(0.75),
        at(0.0),
        at(1.0),
        ratios.len()
    )
}

/// The folder of the model's first policy.
fn policy(dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let mut policies = std::fs::read_dir(dir.join("policies"))?;
    let policy = policies.next().ok_or("the model folder has no policy")??;
    Ok(policy.path())
}
