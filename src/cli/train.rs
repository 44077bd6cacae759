//! `steersman train`: one training job in the foreground, with a progress bar; resumable.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use clap::builder::BoolishValueParser;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use super::fetching::{self, Lines};
use super::mlflow::MlflowArgs;
use crate::hub::HubError;
use crate::service::run_watched;
use crate::tracking::{Tracked, TrackingError};
use crate::training::TrainingError;
use crate::training::config::Job;
use crate::training::observe::{Ending, StepReport, TrainObserver};

/// Stack of the training thread: candle walks its graph recursively, and a stack that is too
/// small ends the process without a message.
const STACK_BYTES: usize = 256 << 20;

/// Run one training job in the foreground.
///
/// Interrupt it with Ctrl-C: it ends the current step, or the drawing of its answers, and saves; the
/// same command goes on from there. A second Ctrl-C ends it at once. A killed job goes on from its
/// last saved step.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example, a job file that explains itself:\n  \
    steersman train --config recipes/dpo/helpful-harmless.toml")]
pub struct TrainArgs {
    /// The job file (TOML): what to train, on what, from which model, into which folder.
    #[arg(long, env = "STEERSMAN_TRAIN_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// No progress bar: one line per step instead, as when standard error is no terminal.
    #[arg(
        long,
        env = "STEERSMAN_TRAIN_PLAIN",
        value_parser = BoolishValueParser::new()
    )]
    pub plain: bool,
    /// Where steps are told of.
    #[command(flatten)]
    pub mlflow: MlflowArgs,
}

/// Why a job could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The model could not be fetched.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The job's own reason.
    #[error(transparent)]
    Training(#[from] TrainingError),
    /// The tracker named cannot be one.
    #[error(transparent)]
    Tracking(#[from] TrackingError),
}

/// Runs the job to its end or until it is interrupted.
pub fn run(args: &TrainArgs) -> Result<(), TrainError> {
    let mut job = Job::load(&args.config)?;
    let model = fetching::located_now(&job.section().model, Lines::Printed)?;
    job.section_mut().model = model;
    let mlflow = args.mlflow.settings()?;
    let tracker = mlflow.as_ref().map(|mlflow| (mlflow, tracked(&job)));
    let plain = args.plain || !std::io::stderr().is_terminal();
    let screen = Screen::new(plain);
    let stop = stop_on_interrupt(screen.clone())?;
    let mut observer = Terminal {
        screen,
        stop,
        saved: false,
    };
    let ending = std::thread::scope(|scope| {
        let work = std::thread::Builder::new()
            .name("training".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || run_watched(&job, &mut observer, tracker))
            .map_err(|source| TrainingError::file("a training thread", source))?;
        // A panic goes on here, so that it ends the command as it would without the thread.
        work.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    observer.finish(ending);
    Ok(())
}

/// What a tracker is told of a job.
fn tracked(job: &Job) -> Tracked {
    let folder = job.section().output.clone();
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    Tracked {
        name: name.into_owned(),
        settings: job.settings(),
        folder,
    }
}

/// A flag that Ctrl-C and a request to terminate raise. The second of them ends the process.
fn stop_on_interrupt(screen: Screen) -> Result<Arc<AtomicBool>, TrainingError> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&stop);
    let fail = |source| TrainingError::file("the interrupt signal", source);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(fail)?;
    std::thread::Builder::new()
        .name("interrupt".into())
        .spawn(move || {
            runtime.block_on(interrupted());
            raised.store(true, Ordering::Relaxed);
            screen.say("stopping: what can be saved is saved; press Ctrl-C again to end at once");
            runtime.block_on(interrupted());
            end_at_once();
        })
        .map_err(fail)?;
    Ok(stop)
}

/// Waits for the first of the two signals; for ever where neither can be heard.
async fn interrupted() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        result = tokio::signal::ctrl_c() => if result.is_err() { std::future::pending().await },
        _ = terminate.recv() => (),
    }
}

/// As the signal itself would have: no state is half written under its name.
#[expect(
    clippy::disallowed_methods,
    reason = "a second signal asks for just this"
)]
fn end_at_once() -> ! {
    std::process::exit(130)
}

/// Where lines and the progress bar are shown.
#[derive(Clone)]
struct Screen {
    bar: ProgressBar,
    plain: bool,
}

impl Screen {
    fn new(plain: bool) -> Self {
        let bar = if plain {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(0)
        };
        let template = "{bar:30} {pos}/{len} {elapsed_precise} (left {eta_precise}) {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, plain }
    }

    fn say(&self, line: &str) {
        if self.plain {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }
}

/// Shows a job's progress on the terminal.
struct Terminal {
    screen: Screen,
    stop: Arc<AtomicBool>,
    /// Whether this run has saved anything.
    saved: bool,
}

impl Terminal {
    fn finish(&self, ending: Ending) {
        self.screen.bar.finish_and_clear();
        let said = match (ending, self.saved) {
            (Ending::Finished, _) => "finished",
            (Ending::Interrupted, true) => "stopped and saved; run the same command to go on",
            (Ending::Interrupted, false) => {
                "stopped, with nothing new to save; run the same command to go on"
            }
        };
        eprintln!("{said}");
    }
}

/// Metrics worth a place on the line, in order; a job has some of them.
const SHOWN: [&str; 8] = [
    "loss",
    "accuracy",
    "margin",
    "score",
    "kl/sequence",
    "completion_tokens",
    "tie_rate",
    "grad_norm",
];

fn shown(report: &StepReport) -> String {
    let parts = SHOWN.iter().filter_map(|name| {
        report
            .metric(name)
            .map(|value| format!("{name} {value:.3}"))
    });
    parts.collect::<Vec<_>>().join("  ")
}

impl TrainObserver for Terminal {
    fn log(&mut self, line: &str) {
        self.screen.say(line);
    }

    fn step(&mut self, report: &StepReport) {
        let Screen { bar, plain } = &self.screen;
        if *plain {
            eprintln!(
                "step {}/{}  {}",
                report.step,
                report.total_steps,
                shown(report)
            );
            return;
        }
        if bar.length() != Some(report.total_steps) {
            bar.set_length(report.total_steps);
            // Steps of an earlier run took no time of this one.
            bar.set_position(report.step.saturating_sub(1));
            bar.reset_eta();
        }
        bar.set_position(report.step);
        bar.set_message(shown(report));
    }

    fn saved(&mut self, step: u64, folder: &Path) {
        self.saved = true;
        if self.screen.plain {
            eprintln!("saved step {step} in {}", folder.display());
        }
    }

    fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
