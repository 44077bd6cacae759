//! `steersman bench`: loads any server that speaks the OpenAI API and prints what its clients see.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::print;
use crate::bench::{
    Api, BenchError, Client, Load, Plan, Report, Target, WeightsMix, Workload, run as run_level,
    survey,
};

/// Load a server that speaks the OpenAI API, and measure it.
///
/// Every request has a prompt of its own, of ordinary words drawn with a seed, and asks for a
/// streamed answer of a fixed length (where the server takes `ignore_eos`). The same command asks
/// any two servers the same.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    steersman bench --url http://127.0.0.1:8080 --concurrency 1,16 --weights mixed")]
pub(super) struct BenchArgs {
    /// The server, as in http://127.0.0.1:8080
    #[arg(long, env = "STEERSMAN_BENCH_URL", value_name = "URL")]
    url: String,
    /// Requests at a time, one level each: the next is sent when one has ended, so a slow server
    /// is asked less
    #[arg(
        long,
        env = "STEERSMAN_BENCH_CONCURRENCY",
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "1,8,32",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    concurrency: Vec<u32>,
    /// Requests a second instead, one level each, sent whether the server keeps up or not: shows
    /// what overload does
    #[arg(
        long,
        env = "STEERSMAN_BENCH_RATE",
        value_name = "R,...",
        value_delimiter = ',',
        value_parser = rate
    )]
    rate: Vec<f64>,
    /// Objective weights of the requests: all the same, or each its own [default: none are sent]
    #[arg(long, env = "STEERSMAN_BENCH_WEIGHTS", value_name = "MIX")]
    weights: Option<Mix>,
    /// The route to ask
    #[arg(
        long,
        env = "STEERSMAN_BENCH_API",
        value_name = "API",
        default_value = "chat"
    )]
    api: Route,
    /// The model to ask [default: the server's default, else its first]
    #[arg(long, env = "STEERSMAN_BENCH_MODEL", value_name = "ID")]
    model: Option<String>,
    /// Key to send. The environment variable hides it from other users of the machine
    #[arg(
        long,
        env = "STEERSMAN_BENCH_API_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    api_key: Option<String>,
    #[command(flatten)]
    size: Size,
    /// Write everything, workload and machine included, to this file as JSON
    #[arg(long, env = "STEERSMAN_BENCH_OUT", value_name = "FILE")]
    out: Option<PathBuf>,
}

/// How much is asked.
#[derive(Debug, Args)]
struct Size {
    /// Tokens of a prompt, about
    #[arg(
        long,
        env = "STEERSMAN_BENCH_PROMPT_TOKENS",
        value_name = "N",
        default_value_t = 64
    )]
    prompt_tokens: usize,
    /// Tokens of an answer
    #[arg(
        long,
        env = "STEERSMAN_BENCH_OUTPUT_TOKENS",
        value_name = "N",
        default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    output_tokens: u32,
    /// Requests of each level; more take longer and make the percentiles surer
    #[arg(
        long,
        env = "STEERSMAN_BENCH_REQUESTS",
        value_name = "N",
        default_value_t = 128,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    requests: u32,
    /// Requests before the first level that are not measured
    #[arg(
        long,
        env = "STEERSMAN_BENCH_WARM_UP",
        value_name = "N",
        default_value_t = 8
    )]
    warm_up: usize,
    /// Sampling temperature
    #[arg(
        long,
        env = "STEERSMAN_BENCH_TEMPERATURE",
        value_name = "T",
        default_value_t = 1.0
    )]
    temperature: f64,
    /// Of words, weights and moments; the same seed asks the same
    #[arg(
        long,
        env = "STEERSMAN_BENCH_SEED",
        value_name = "N",
        default_value_t = 0
    )]
    seed: u64,
    /// Seconds that a request may take before it counts as failed
    #[arg(
        long,
        env = "STEERSMAN_BENCH_PATIENCE_SECONDS",
        value_name = "N",
        default_value_t = 600
    )]
    patience_seconds: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mix {
    /// Equal weights of all objectives
    Same,
    /// Drawn evenly from the simplex
    Mixed,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Route {
    /// /v1/chat/completions
    Chat,
    /// /v1/completions
    Completions,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub(super) enum BenchCommandError {
    #[error("`--requests` is {requests}, expected at least the highest concurrency ({highest})")]
    TooFew { requests: u32, highest: u32 },
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error("no request was answered")]
    Nothing,
    #[error("cannot write {}", path.display())]
    Out {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the report does not serialise")]
    Json(#[from] serde_json::Error),
    #[error("the terminal cannot be written to")]
    Io(#[from] io::Error),
}

pub(super) fn run(args: BenchArgs) -> Result<(), BenchCommandError> {
    let highest = args.concurrency.iter().copied().max().unwrap_or(1);
    let requests = args.size.requests;
    if args.rate.is_empty() && requests < highest {
        return Err(BenchCommandError::TooFew { requests, highest });
    }
    // one thread: the bench must not take the server's cores where both share a machine
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(measure(args))
}

async fn measure(args: BenchArgs) -> Result<(), BenchCommandError> {
    let client = Client::new(&Target {
        url: args.url.clone(),
        api_key: args.api_key.clone(),
        patience: Duration::from_secs(args.size.patience_seconds),
    })?;
    let workload = args.workload();
    let plan = Plan {
        survey: survey(&client, &workload, args.model.clone()).await?,
        workload,
    };
    let mut report = Report::begin(client.base(), &plan);
    let levels = args.levels();
    let (warm_up, each) = (plan.workload.warm_up, plan.workload.requests);
    let bar = progress(warm_up + levels.len() * each);
    let tick = || bar.inc(1);
    if warm_up > 0 {
        let mut first = plan.clone();
        first.workload.requests = warm_up;
        let load = Load::Closed {
            concurrency: warm_up,
        };
        run_level(&client, &first, load, 0, &tick).await;
    }
    for (level, load) in levels.into_iter().enumerate() {
        let first = warm_up + level * each;
        report.push(run_level(&client, &plan, load, first, &tick).await);
    }
    bar.finish_and_clear();
    print(&report.table())?;
    if let Some(path) = args.out {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(&path, text).map_err(|source| BenchCommandError::Out { path, source })?;
    }
    match report.completed() {
        0 => Err(BenchCommandError::Nothing),
        _ => Ok(()),
    }
}

impl BenchArgs {
    fn workload(&self) -> Workload {
        let size = &self.size;
        Workload {
            api: match self.api {
                Route::Chat => Api::Chat,
                Route::Completions => Api::Completions,
            },
            prompt_tokens: size.prompt_tokens,
            output_tokens: size.output_tokens as usize,
            requests: size.requests as usize,
            warm_up: size.warm_up,
            temperature: size.temperature,
            seed: size.seed,
            weights: self.weights.map(|mix| match mix {
                Mix::Same => WeightsMix::Same,
                Mix::Mixed => WeightsMix::Mixed,
            }),
        }
    }

    fn levels(&self) -> Vec<Load> {
        if !self.rate.is_empty() {
            let rates = self.rate.iter();
            return rates.map(|&rate_per_s| Load::Open { rate_per_s }).collect();
        }
        let closed = |&concurrency: &u32| Load::Closed {
            concurrency: concurrency as usize,
        };
        self.concurrency.iter().map(closed).collect()
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok();
    rate.filter(|rate| rate.is_finite() && *rate > 0.0)
        .ok_or_else(|| "expected requests a second, a number above 0".to_owned())
}

fn progress(requests: usize) -> ProgressBar {
    let bar = ProgressBar::new(requests as u64);
    let template = "{bar:30} {pos}/{len} requests {elapsed_precise} (left {eta_precise})";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
