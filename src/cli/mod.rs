//! Speaks shell: one file per subcommand.

mod bench;
pub mod evaluate;
mod generate;
mod health;
mod inspect;
mod keys;
mod logging;
mod mlflow;
mod openapi;
mod serve;
pub mod train;
mod variables;
mod worker;
mod worker_process;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::service::chain;

/// Serves language models that every request can steer by objective weights, and trains them.
///
/// Without a subcommand: `steersman serve`, with its flags if any; by default the demo checkpoint
/// on http://127.0.0.1:8080.
/// Every flag can be given as its environment variable, or in a TOML file; flags win over the
/// environment, which wins over the file.
#[derive(Debug, Parser)]
#[command(name = "steersman", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a model over HTTP
    Serve(Box<serve::ServeArgs>),
    /// Generate one answer and stream it to the terminal
    Generate(generate::GenerateArgs),
    /// Run one training job in the foreground
    Train(train::TrainArgs),
    /// Take training jobs from the store and run them
    Worker(worker::WorkerArgs),
    /// Measure how well a policy follows its weights
    Evaluate(evaluate::EvaluateArgs),
    /// Load a server that speaks the OpenAI API, any server, and measure it
    Bench(bench::BenchArgs),
    /// Say what a model is, whether it can be served, and what is wrong with it
    Inspect(inspect::InspectArgs),
    /// Ask a running server whether it answers requests
    Health(health::HealthArgs),
    /// Make, list and revoke API keys
    Keys(keys::KeysArgs),
    /// Print the OpenAPI document, or rewrite the committed ones
    Openapi(openapi::OpenapiArgs),
}

/// Runs the command line; the whole program is this match.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args: Vec<_> = args.into_iter().collect();
    if means_serve(args.get(1)) {
        args.insert(1.min(args.len()), "serve".into());
    }
    let matches = Cli::command().try_get_matches_from(args);
    let parsed = matches.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return usage(&error),
    };
    let Some(command) = cli.command else {
        return ExitCode::FAILURE;
    };
    let result: Result<bool, Box<dyn std::error::Error>> = match command {
        Command::Serve(args) => {
            let from = matches.subcommand().map(|(_, own)| own);
            serve::run(&args, from).map(|()| true).map_err(Into::into)
        }
        Command::Generate(args) => generate::run(args).map(|()| true).map_err(Into::into),
        Command::Train(args) => train::run(&args).map(|()| true).map_err(Into::into),
        Command::Worker(args) => worker::run(&args).map(|()| true).map_err(Into::into),
        Command::Evaluate(args) => evaluate::run(&args).map(|()| true).map_err(Into::into),
        Command::Bench(args) => bench::run(args).map(|()| true).map_err(Into::into),
        Command::Inspect(args) => inspect::run(&args).map_err(Into::into),
        Command::Health(args) => health::run(&args).map(|()| true).map_err(Into::into),
        Command::Keys(args) => keys::run(args).map(|()| true).map_err(Into::into),
        Command::Openapi(args) => openapi::run(&args).map(|()| true).map_err(Into::into),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Whether the first word belongs to `serve`, which then need not be named: there is none, or a
/// flag, other than those of the program itself.
fn means_serve(first: Option<&OsString>) -> bool {
    const OWN: [&str; 4] = ["-h", "--help", "-V", "--version"];
    let Some(first) = first else { return true };
    let first = first.to_string_lossy();
    first.starts_with('-') && !OWN.contains(&&*first)
}

fn usage(error: &clap::Error) -> ExitCode {
    // help and version come this way too, and go to standard output
    let _ = error.print();
    match error.use_stderr() {
        true => ExitCode::from(2),
        false => ExitCode::SUCCESS,
    }
}

#[expect(clippy::print_stderr, reason = "the program's last words")]
fn complain(message: &str) {
    eprintln!("error: {message}");
}

/// Writes to standard output, where a reader may have gone away.
fn print(text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
