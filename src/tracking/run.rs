//! One run of a tracker, and the thread that speaks of it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use super::api::RunEnd;
use super::api::{self, METRICS_A_BATCH, Metric};
use super::client::{CallError, Client};
use super::{MlflowSettings, TrackingError};

/// Steps that may wait to be taken up by the thread.
const WAITING_STEPS: usize = 1024;
/// Numbers that may wait for the tracker; the oldest are given up beyond it.
const WAITING_METRICS: usize = 100_000;
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(5);
/// How long the end of a run may take.
const LAST_PATIENCE: Duration = Duration::from_secs(10);
/// The file that says which run an interrupted job goes on with.
const FILE: &str = "mlflow.json";

/// What is tracked.
#[derive(Debug, Clone)]
pub struct Tracked {
    /// The run's name.
    pub name: String,
    /// The folder that remembers the run over interruptions.
    pub folder: PathBuf,
    /// What it was asked for; nested settings become names with dots.
    pub settings: Value,
}

enum News {
    Step(Vec<Metric>),
    End(RunEnd),
}

/// A run that is told about. Nothing of it blocks for longer than it says.
pub struct MlflowRun {
    news: SyncSender<News>,
    done: Receiver<()>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl MlflowRun {
    /// Starts the thread; the tracker is first spoken to there.
    ///
    /// # Errors
    /// There can be no further thread.
    pub fn start(settings: MlflowSettings, tracked: Tracked) -> Result<Self, TrackingError> {
        let (news, heard) = sync_channel(WAITING_STEPS);
        let (finished, done) = sync_channel(1);
        let trouble = Arc::new(Mutex::new(None));
        let speaker = Speaker {
            tracked,
            trouble: Arc::clone(&trouble),
            run: None,
            settings_told: false,
            waiting: VecDeque::new(),
            told: false,
            not_before: None,
        };
        std::thread::Builder::new()
            .name("mlflow".into())
            .spawn(move || {
                speaker.speak(settings, &heard);
                // nobody waits where the end took too long
                let _ = finished.send(());
            })?;
        Ok(Self {
            news,
            done,
            trouble,
        })
    }

    /// Tells a step's numbers; those that are not finite are left out. Never waits.
    pub fn step<'a>(&self, step: u64, values: impl Iterator<Item = (&'a str, f64)>) {
        let timestamp_ms = now_ms();
        let metrics = values.filter(|(_, value)| value.is_finite());
        let metrics = metrics.map(|(key, value)| Metric {
            key: key.to_owned(),
            value,
            timestamp_ms,
            step,
        });
        match self.news.try_send(News::Step(metrics.collect())) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                note(&self.trouble, "it does not keep up; steps are left out")
            }
        }
    }

    /// What went wrong since this was last asked, in a sentence.
    pub fn take_trouble(&self) -> Option<String> {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.take().map(|reason| format!("MLflow: {reason}"))
    }

    /// Tells that the run is over; waits up to 10 s for the tracker. Returns what went wrong.
    pub fn end(self, end: RunEnd) -> Option<String> {
        if self.news.send(News::End(end)).is_ok()
            && self.done.recv_timeout(LAST_PATIENCE) == Err(RecvTimeoutError::Timeout)
        {
            note(&self.trouble, "it did not take the run's end in time");
        }
        self.take_trouble()
    }
}

fn note(trouble: &Mutex<Option<String>>, reason: &str) {
    let mut trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner);
    *trouble = Some(reason.to_owned());
}

/// The run that an interrupted job goes on with.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    url: String,
    run_id: String,
}

/// What the thread knows.
struct Speaker {
    tracked: Tracked,
    trouble: Arc<Mutex<Option<String>>>,
    run: Option<String>,
    settings_told: bool,
    waiting: VecDeque<Metric>,
    /// Whether the trouble that lasts was told.
    told: bool,
    not_before: Option<Instant>,
}

impl Speaker {
    fn speak(mut self, settings: MlflowSettings, heard: &Receiver<News>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return note(&self.trouble, &error.to_string()),
        };
        let client = runtime.block_on(async { Client::new(settings) });
        let mut end = None;
        while end.is_none() {
            let Ok(first) = heard.recv() else { break };
            for news in std::iter::once(first).chain(heard.try_iter()) {
                match news {
                    News::Step(metrics) => self.waiting.extend(metrics),
                    News::End(how) => end = Some(how),
                }
            }
            let over = self.waiting.len().saturating_sub(WAITING_METRICS);
            self.waiting.drain(..over);
            let soon = self.not_before.is_some_and(|then| Instant::now() < then);
            if soon && end.is_none() {
                continue;
            }
            match runtime.block_on(self.pass_on(&client, end)) {
                Ok(()) => (self.told, self.not_before) = (false, None),
                Err(error) => self.fail(&error),
            }
        }
    }

    fn fail(&mut self, error: &CallError) {
        if !self.told {
            note(
                &self.trouble,
                &format!("{error}; the run goes on without it"),
            );
        }
        self.told = true;
        self.not_before = Some(Instant::now() + PAUSE);
    }

    async fn pass_on(&mut self, client: &Client, end: Option<RunEnd>) -> Result<(), CallError> {
        let run = match self.run.clone() {
            Some(run) => run,
            None => self.begin(client).await?,
        };
        if !self.settings_told {
            api::log_params(client, &run, &flat(&self.tracked.settings)).await?;
            self.settings_told = true;
        }
        while !self.waiting.is_empty() {
            let count = self.waiting.len().min(METRICS_A_BATCH);
            let batch = &self.waiting.make_contiguous()[..count];
            api::log_metrics(client, &run, batch).await?;
            self.waiting.drain(..count);
        }
        match end {
            Some(end) => api::end_run(client, &run, end, now_ms()).await,
            None => Ok(()),
        }
    }

    /// The run of an earlier attempt, where the tracker still has it; else a new one.
    async fn begin(&mut self, client: &Client) -> Result<String, CallError> {
        let path = self.tracked.folder.join(FILE);
        let base = client.settings().base.clone();
        if let Some(known) = remembered(&path).filter(|known| known.url == base) {
            match api::go_on(client, &known.run_id).await {
                Ok(()) => {
                    self.settings_told = true;
                    self.run = Some(known.run_id.clone());
                    return Ok(known.run_id);
                }
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        let run = api::create_run(client, &self.tracked.name, now_ms()).await?;
        self.run = Some(run.clone());
        let known = Remembered {
            url: base,
            run_id: run.clone(),
        };
        let written = serde_json::to_vec(&known).map_err(std::io::Error::from);
        if let Err(error) = written.and_then(|bytes| std::fs::write(&path, bytes)) {
            note(
                &self.trouble,
                &format!("the run is not remembered: {error}"),
            );
        }
        Ok(run)
    }
}

fn remembered(path: &Path) -> Option<Remembered> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Settings as names with dots and texts.
fn flat(settings: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), settings)];
    while let Some((at, value)) = open.pop() {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let dot = if at.is_empty() { "" } else { "." };
                    open.push((format!("{at}{dot}{name}"), value));
                }
            }
            Value::String(text) => found.push((at, text.clone())),
            Value::Null => {}
            other => found.push((at, other.to_string())),
        }
    }
    found.sort();
    found
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
