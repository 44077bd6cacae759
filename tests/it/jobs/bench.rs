//! A server with jobs switched on, over a fresh data folder, and workers for it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use steersman::jobs::{JobRunner, RunnerSettings};
use steersman::service::{
    App, FineTuning, JobInfo, JobStatus, NewJobInput, ServiceSettings, TrainingWork,
};
use steersman::storage::Bucket;
use steersman::store::{Store, StoreSettings};
use tempfile::TempDir;

use crate::http::folder;

/// A server's service with a data folder of its own.
pub(crate) struct Bench {
    pub(crate) app: App,
    pub(crate) store: Store,
    pub(crate) bucket: Option<Bucket>,
    data: TempDir,
    model: TempDir,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// The same with a bucket for checkpoints.
    pub(crate) async fn start_with(bucket: Option<Bucket>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let settings = StoreSettings {
            data_dir: data.path().to_owned(),
            database_url: None,
        };
        let store = Store::open(&settings).await.unwrap();
        // jobs read the base again when they run
        let model = folder::with_policies();
        let app = App::load(model.path(), &ServiceSettings::default()).unwrap();
        let app = app.with_store(store.clone()).with_fine_tuning(FineTuning {
            bucket: bucket.clone(),
            ..FineTuning::at(data.path())
        });
        Self {
            app,
            store,
            bucket,
            data,
            model,
        }
    }

    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// The folder of the model that jobs start from.
    pub(crate) fn model(&self) -> &Path {
        self.model.path()
    }

    /// A worker in this process.
    pub(crate) fn runner(&self) -> JobRunner {
        self.runner_at(self.data())
    }

    /// The same with a data folder of its own, as on another host.
    pub(crate) fn runner_at(&self, data: &Path) -> JobRunner {
        let work = TrainingWork::new(FineTuning {
            bucket: self.bucket.clone(),
            ..FineTuning::at(data)
        });
        let settings = RunnerSettings {
            owner: "the test".to_owned(),
            lease: Duration::from_secs(30),
            poll: Duration::from_millis(5),
        };
        JobRunner::new(self.store.clone(), Arc::new(work), settings)
    }

    /// A worker process that runs jobs until it is killed.
    pub(crate) fn worker(&self, lease_seconds: u32) -> Child {
        Command::new(env!("CARGO_BIN_EXE_steersman"))
            .args(["worker", "--threads", "1", "--nice", "0", "--data-dir"])
            .arg(self.data())
            .args(["--lease-seconds", &lease_seconds.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Keeps a file of these rows.
    pub(crate) async fn file(&self, rows: &str) -> String {
        let mut intake = self.app.begin_file().unwrap();
        intake.push(rows.as_bytes()).unwrap();
        let kept = self.app.keep_file(intake, "rows.jsonl", "fine-tune").await;
        kept.unwrap().id
    }

    /// A small MO-ODPO job, with these hyperparameters beside its own.
    pub(crate) async fn mo_odpo(&self, more: Value) -> JobInfo {
        let input = NewJobInput {
            training_file: Some(self.file(&prompts()).await),
            ..mo_odpo(more)
        };
        self.app.create_job(input).await.unwrap()
    }

    /// The folder of a job's newest attempt.
    pub(crate) fn newest(&self, job: &str) -> PathBuf {
        let root = self.data().join("jobs").join(job);
        let found = std::fs::read_dir(root).unwrap();
        let paths = found.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| {
                path.file_name()
                    .unwrap()
                    .to_string_lossy()
                    .starts_with("attempt-")
            })
            .max()
            .unwrap()
    }

    /// Waits until a job is as wanted; fails where it never is.
    pub(crate) async fn until(&self, job: &str, wanted: impl Fn(&JobInfo) -> bool) -> JobInfo {
        let waiting = async {
            loop {
                let info = self.app.job(job).await.unwrap();
                if wanted(&info) {
                    return info;
                }
                assert!(
                    info.status != JobStatus::Failed,
                    "it failed instead: {:?}",
                    info.error
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(600), waiting)
            .await
            .unwrap_or_else(|_| panic!("{job} was never as wanted"))
    }

    /// All messages of a job in their order.
    pub(crate) async fn messages(&self, job: &str) -> Vec<String> {
        let (events, _) = self.app.next_job_events(job, 0, 10_000).await.unwrap();
        events.into_iter().map(|event| event.message).collect()
    }
}

/// Prompts in the tiny fixture's words.
pub(crate) fn prompts() -> String {
    let texts = [
        "What is bread?",
        "Why wait a week?",
        "Who is a friend?",
        "Use cold water?",
    ];
    texts
        .map(|text| {
            format!(
                "{}\n",
                json!({"prompt": [{"role": "user", "content": text}]})
            )
        })
        .concat()
}

/// A job of two opposed objectives over the answer's length whose steps take no time.
pub(crate) fn mo_odpo(more: Value) -> NewJobInput {
    let length = |goal: &str| {
        json!({"kind": "rule",
            "rule": {"name": "length", "unit": "characters", "goal": goal, "scale": 8.0}})
    };
    let mut hyperparameters = json!({
        "steps": 4,
        "save_every": 2,
        "batch_size": 4,
        "max_tokens": 12,
        "max_prompt_tokens": 100,
        "micro_batch_tokens": 64,
        "learning_rate": 0.01,
        "lora_rank": 4,
        "lora_alpha": 8.0,
        "normalization_samples": 32,
    });
    for (name, value) in more.as_object().unwrap() {
        hyperparameters[name] = value.clone();
    }
    let method = json!({
        "type": "mo_odpo",
        "mo_odpo": {
            "hyperparameters": hyperparameters,
            "objectives": [
                {"name": "brevity", "reward": length("shorter")},
                {"name": "detail", "reward": length("longer")},
            ],
            "conditioning": {
                "open": "<|pad|>",
                "close": "<|end_of_text|>",
                "template": "{brevity} {detail}",
                "decimals": 1,
            },
        },
    });
    NewJobInput {
        model: Some("plain".to_owned()),
        method: Some(method),
        seed: Some(11),
        suffix: Some("short-or-long".to_owned()),
        ..NewJobInput::default()
    }
}
