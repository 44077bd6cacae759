//! `steersman worker`: takes training jobs from the store and runs them, one at a time.

use std::io::Read;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use tokio::signal::unix::{SignalKind, signal};

use super::logging::{self, LogFilterError};
use super::mlflow::MlflowArgs;
use crate::config::LogFormat;
use crate::jobs::{JobRunner, RunnerSettings};
use crate::service::{FineTuning, TrainingWork};
use crate::storage::{Bucket, StorageError};
use crate::store::{Store, StoreError, StoreSettings};
use crate::tracking::TrackingError;

/// Pause before the store is asked again where there was nothing to do.
const POLL: Duration = Duration::from_secs(1);

/// Take training jobs from the store and run them.
///
/// What `serve` starts beside itself; the same command on another host works on the same PostgreSQL
/// database, with the model under the same path, and a bucket (`--registry`) or the data folder
/// shared. SIGTERM saves after the current step and leaves the job to the next worker.
#[derive(Debug, Args)]
pub(super) struct WorkerArgs {
    /// Folder of files and jobs, and of the SQLite database [default: steersman-data]
    #[arg(long, env = "STEERSMAN_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// PostgreSQL instead of SQLite, as for `serve` [default: none]
    #[arg(
        long,
        env = "STEERSMAN_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    database_url: Option<String>,
    /// Bucket for checkpoints and uploaded files, as for `serve` [default: none]
    #[arg(long, env = "STEERSMAN_REGISTRY", value_name = "URL")]
    registry: Option<String>,
    /// Take one job, run it to its end or pause, and end; end at once where there is none
    #[arg(
        long,
        env = "STEERSMAN_WORKER_ONCE",
        value_parser = BoolishValueParser::new()
    )]
    once: bool,
    /// End when standard input ends, or when no job waits or runs: how `serve` keeps its worker
    #[arg(
        long,
        env = "STEERSMAN_WORKER_BESIDE_SERVER",
        hide = true,
        value_parser = BoolishValueParser::new()
    )]
    beside_server: bool,
    /// Threads of the arithmetic. More train faster and leave less of the machine to others
    /// [default: half of the machine's]
    #[arg(long, env = "STEERSMAN_WORKER_THREADS", value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// How far the process steps back behind others, 0 to 19
    #[arg(
        long,
        env = "STEERSMAN_WORKER_NICE",
        value_name = "N",
        default_value_t = 10,
        value_parser = clap::value_parser!(u8).range(0..=19)
    )]
    nice: u8,
    /// Seconds for which a job stays with a worker that is not heard of. Fewer hand a dead
    /// worker's job on sooner; a worker that is held up for longer loses its job
    #[arg(
        long,
        env = "STEERSMAN_LEASE_SECONDS",
        value_name = "N",
        default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(1..=86400)
    )]
    lease_seconds: u32,
    #[command(flatten)]
    mlflow: MlflowArgs,
    /// How log lines are written to standard error
    #[arg(
        long,
        env = "STEERSMAN_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    log_format: LogFormat,
    /// What is logged, as for `serve`
    #[arg(
        long,
        env = "STEERSMAN_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    log: String,
}

/// Why the worker could not start or go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkerError {
    #[error(transparent)]
    Log(#[from] LogFilterError),
    #[error("the registry's bucket cannot be used")]
    Storage(#[from] StorageError),
    #[error("the jobs cannot be read")]
    Store(#[from] StoreError),
    #[error("the worker's threads cannot be started")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    #[error(transparent)]
    Tracking(#[from] TrackingError),
    #[error("the worker failed")]
    Io(#[from] std::io::Error),
}

pub(super) fn run(args: &WorkerArgs) -> Result<(), WorkerError> {
    logging::start(args.log_format, &args.log)?;
    step_back(args.nice);
    let half = std::thread::available_parallelism().map_or(1, |all| all.get().div_ceil(2));
    let threads = args.threads.map_or(half, NonZeroUsize::get);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()?;
    tracing::info!(threads, nice = args.nice, "worker started");
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(work(args))
}

async fn work(args: &WorkerArgs) -> Result<(), WorkerError> {
    let defaults = StoreSettings::default();
    let settings = StoreSettings {
        data_dir: args.data_dir.clone().unwrap_or(defaults.data_dir),
        database_url: args.database_url.clone(),
    };
    let mlflow = args.mlflow.settings()?;
    let store = Store::open(&settings).await?;
    let work = TrainingWork::new(FineTuning {
        bucket: args.registry.as_deref().map(Bucket::open).transpose()?,
        ..FineTuning::at(&settings.data_dir)
    });
    let work = work.with_mlflow(mlflow);
    let runner = RunnerSettings {
        owner: format!("worker {} on {}", std::process::id(), host()),
        lease: Duration::from_secs(u64::from(args.lease_seconds)),
        poll: POLL,
    };
    let runner = JobRunner::new(store.clone(), Arc::new(work), runner);
    tokio::spawn(close_on_signal(runner.closing())?);
    if args.beside_server {
        close_with_server(runner.closing())?;
    }
    if args.once {
        runner.run_one().await?;
    } else {
        runner.run(args.beside_server).await;
    }
    store.close().await;
    Ok(())
}

/// Names this machine in events.
fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "this host".to_owned(), |name| name.trim().to_owned())
}

fn close_on_signal(
    closing: Arc<AtomicBool>,
) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping after the current step");
        closing.store(true, Ordering::Relaxed);
    })
}

/// Standard input is a pipe that the server holds: it ends when the server does, however it does.
fn close_with_server(closing: Arc<AtomicBool>) -> std::io::Result<()> {
    let watch = move || {
        let mut rest = Vec::new();
        let _ = std::io::stdin().lock().read_to_end(&mut rest);
        closing.store(true, Ordering::Relaxed);
    };
    let thread = std::thread::Builder::new().name("server".into());
    thread.spawn(watch).map(drop)
}

/// Lets others go first.
fn step_back(nice: u8) {
    // SAFETY: takes a number and touches no memory; a refusal changes nothing
    unsafe {
        libc::nice(libc::c_int::from(nice));
    }
}
