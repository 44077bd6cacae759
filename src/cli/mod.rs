//! Speaks shell: one file per subcommand.

mod bench;
pub mod evaluate;
mod fetching;
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
/// Every flag has an environment variable, which its help names, and what `serve` takes may stand
/// in a TOML file; flags win over the environment, which wins over the file.
#[derive(Debug, Parser)]
#[command(
    name = "steersman",
    version,
    max_term_width = 100,
    after_help = "Begin with:\n  \
        steersman generate \"What is the capital of Kenya?\" --weights brevity=0.7,detail=0.3\n  \
        steersman serve --model models/demo"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

// What each is for stands on its arguments.
#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::ServeArgs>),
    Generate(generate::GenerateArgs),
    Train(train::TrainArgs),
    Worker(worker::WorkerArgs),
    Evaluate(evaluate::EvaluateArgs),
    Bench(bench::BenchArgs),
    Inspect(inspect::InspectArgs),
    Health(health::HealthArgs),
    Keys(keys::KeysArgs),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a command line whose only quotes are double.
    fn words(line: &str) -> Vec<&str> {
        line.split('"')
            .enumerate()
            .flat_map(|(index, part)| match index % 2 {
                0 => part.split_whitespace().collect(),
                _ => vec![part],
            })
            .collect()
    }

    #[test]
    fn every_command_says_what_it_is_for_and_its_examples_can_be_typed() {
        let top = Cli::command();
        let mut examples = 0;
        for command in top.get_subcommands().chain([&top]) {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} says nothing");
            let help = command.get_after_help().map(ToString::to_string);
            for line in help.iter().flat_map(|help| help.lines().skip(1)) {
                let read = Cli::command().try_get_matches_from(words(line));
                assert!(read.is_ok(), "{line}: {}", read.unwrap_err());
                let (typed, _) = read.as_ref().unwrap().subcommand().unwrap();
                assert!(name == "steersman" || name == typed, "{name}: {line}");
                examples += 1;
            }
        }
        assert!(examples >= 6, "{examples} examples");
        top.debug_assert();
    }

    /// Each flag of a command and of those below it, with its variable.
    fn flags(command: &clap::Command) -> Vec<(String, Option<String>)> {
        let own = command.get_arguments().filter(|argument| {
            let id = argument.get_id();
            !argument.is_positional() && id != "help" && id != "version"
        });
        let own = own.map(|argument| {
            let name = format!("{} --{}", command.get_name(), argument.get_id());
            let variable = argument.get_env();
            (name, variable.map(|name| name.to_string_lossy().into()))
        });
        let below = command.get_subcommands().flat_map(flags);
        own.chain(below).collect()
    }

    #[test]
    fn every_flag_has_its_variable() {
        let all = flags(&Cli::command());
        assert!(all.len() >= 90, "{} flags", all.len());
        for (flag, variable) in all {
            let named = variable
                .as_deref()
                .and_then(|v| v.strip_prefix("STEERSMAN_"));
            assert!(named.is_some(), "{flag} has the variable {variable:?}");
        }
    }
}
