//! The `steersman` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use steersman::cli::{evaluate, train};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(train::TrainArgs),
    Evaluate(evaluate::EvaluateArgs),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Train(args) => {
            train::run(&args).map_err(|e| Box::new(e) as Box<dyn std::error::Error>)
        }
        Command::Evaluate(args) => {
            evaluate::run(&args).map_err(|e| Box::new(e) as Box<dyn std::error::Error>)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(inner) = source {
                text = format!("{text}: {inner}");
                source = inner.source();
            }
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}
