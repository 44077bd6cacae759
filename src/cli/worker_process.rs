//! The worker process beside the server: there while a job waits or runs, started again when it
//! dies, gone when the server goes. Nothing that happens to it reaches the server.

use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::config::Settings;
use crate::store::Store;
use crate::tracking::MlflowSettings;

/// How often is looked whether there is a job to do, and whether the worker lives.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Pause before a worker that died is started again; doubled each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A worker that lived so long is started again as if none had died before.
const LONG_LIFE: Duration = Duration::from_secs(60);
/// How long a worker gets to save when the server ends. What it does not save is done again.
const GRACE: Duration = Duration::from_secs(10);

/// Keeps the worker process. Dropped, it ends the process and waits for that.
pub(super) struct WorkerProcess {
    stop: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl WorkerProcess {
    /// Starts to look for jobs.
    pub(super) fn keep(store: Store, settings: &Settings) -> io::Result<Self> {
        if let Some(url) = &settings.mlflow_url {
            MlflowSettings::new(url, &settings.mlflow_experiment).map_err(io::Error::other)?;
        }
        let (stop, stopped) = channel();
        let keeper = Keeper {
            store,
            runtime: Handle::current(),
            settings: settings.clone(),
            pause: FIRST_PAUSE,
            not_before: Instant::now(),
        };
        let thread = std::thread::Builder::new().name("worker keeper".into());
        Ok(Self {
            keeper: Some(thread.spawn(move || keeper.run(&stopped))?),
            stop: Some(stop),
        })
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(keeper) = self.keeper.take() {
            // its panic is in the log, and the server ends either way
            let _ = keeper.join();
        }
    }
}

struct Keeper {
    store: Store,
    runtime: Handle,
    settings: Settings,
    /// Before the next start of a worker that died.
    pause: Duration,
    not_before: Instant,
}

impl Keeper {
    fn run(mut self, stopped: &Receiver<()>) {
        let mut running: Option<(Child, Instant)> = None;
        loop {
            if let Some((child, started)) = &mut running
                && let Some(ended) = ended(child)
            {
                self.heed(&ended, started.elapsed());
                running = None;
            }
            if running.is_none() && Instant::now() >= self.not_before && self.has_work() {
                match self.start() {
                    Ok(child) => running = Some((child, Instant::now())),
                    Err(error) => {
                        self.heed(&format!("it cannot be started: {error}"), Duration::ZERO);
                    }
                }
            }
            if stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
        if let Some((child, _)) = running {
            end(child);
        }
    }

    fn has_work(&self) -> bool {
        let open = self.runtime.block_on(self.store.has_open_jobs());
        open.unwrap_or_else(|error| {
            tracing::debug!("cannot look for jobs: {error}");
            false
        })
    }

    fn start(&self) -> io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["worker", "--beside-server", "--data-dir"])
            .arg(&self.settings.data_dir)
            .args(["--log", &self.settings.log])
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        if let Some(threads) = self.settings.worker_threads {
            command.args(["--threads", &threads.max(1).to_string()]);
        }
        if let Some(url) = &self.settings.mlflow_url {
            let experiment = &self.settings.mlflow_experiment;
            command.args(["--mlflow-url", url, "--mlflow-experiment", experiment]);
        }
        match &self.settings.registry {
            Some(url) => command.env("STEERSMAN_REGISTRY", url),
            None => command.env_remove("STEERSMAN_REGISTRY"),
        };
        match &self.settings.database_url {
            // never as an argument, which other users of the machine can read
            Some(url) => command.env("STEERSMAN_DATABASE_URL", url),
            None => command.env_remove("STEERSMAN_DATABASE_URL"),
        };
        command.spawn()
    }

    /// Decides when the next worker may be started; an empty `ended` is a good end.
    fn heed(&mut self, ended: &str, life: Duration) {
        if ended.is_empty() {
            self.pause = FIRST_PAUSE;
            return;
        }
        if life >= LONG_LIFE {
            self.pause = FIRST_PAUSE;
        }
        let seconds = self.pause.as_secs();
        tracing::warn!("the worker process ended ({ended}); the next starts in {seconds} s");
        self.not_before = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// How a process ended, empty where it ended well; none while it runs.
fn ended(child: &mut Child) -> Option<String> {
    match child.try_wait() {
        Ok(None) => None,
        Ok(Some(status)) if status.success() => Some(String::new()),
        Ok(Some(status)) => Some(status.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

fn end(mut child: Child) {
    // the end of its standard input asks it to save and end
    drop(child.stdin.take());
    let patience = Instant::now() + GRACE;
    while ended(&mut child).is_none() {
        if Instant::now() >= patience {
            tracing::warn!("the worker process did not save in time and is killed");
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
