//! Runs told to a stand-in for MLflow's REST API, and to none at all.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};
use steersman::service::run_watched;
use steersman::tracking::{MlflowRun, MlflowSettings, RunEnd, Tracked};
use steersman::training::config::Job;
use steersman::training::observe::{Ending, StepReport, TrainObserver};

use crate::elsewhere;
use crate::fixtures::fixture;

type Calls = Arc<Mutex<Vec<(String, Value)>>>;

/// Keeps what it is asked. It knows no experiment until one is made.
struct Tracker {
    url: String,
    calls: Calls,
}

impl Tracker {
    fn start() -> Self {
        let calls = Calls::default();
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&calls));
        let url = elsewhere::serve(router);
        Self { url, calls }
    }

    fn settings(&self) -> MlflowSettings {
        MlflowSettings::new(&self.url, "small models").unwrap()
    }

    fn routes(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        calls.iter().map(|(route, _)| route.clone()).collect()
    }

    fn bodies(&self, route: &str) -> Vec<Value> {
        let calls = self.calls.lock().unwrap();
        let of = calls.iter().filter(|(asked, _)| asked == route);
        of.map(|(_, body)| body.clone()).collect()
    }

    /// (key, step, value) of every number that it was told.
    fn metrics(&self) -> Vec<(String, u64, f64)> {
        let batches = self.bodies("runs/log-batch").into_iter();
        let told =
            batches.flat_map(|batch| batch["metrics"].as_array().cloned().unwrap_or_default());
        told.map(|metric| {
            let key = metric["key"].as_str().unwrap().to_owned();
            assert!(metric["timestamp"].as_i64().unwrap() > 1_600_000_000_000);
            (
                key,
                metric["step"].as_u64().unwrap(),
                metric["value"].as_f64().unwrap(),
            )
        })
        .collect()
    }
}

async fn answer(State(calls): State<Calls>, uri: Uri, body: Bytes) -> Response {
    let route = uri
        .path()
        .strip_prefix("/api/2.0/mlflow/")
        .unwrap()
        .to_owned();
    let body = match body.is_empty() {
        true => json!(uri.query()),
        false => serde_json::from_slice(&body).unwrap(),
    };
    let mut calls = calls.lock().unwrap();
    calls.push((route.clone(), body));
    let known = calls.iter().any(|(route, _)| route == "experiments/create");
    match route.as_str() {
        "experiments/get-by-name" if !known => {
            let missing = json!({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"});
            (StatusCode::NOT_FOUND, Json(missing)).into_response()
        }
        "experiments/get-by-name" => {
            Json(json!({"experiment": {"experiment_id": "3"}})).into_response()
        }
        "experiments/create" => Json(json!({"experiment_id": "3"})).into_response(),
        "runs/create" => Json(json!({"run": {"info": {"run_id": "r1"}}})).into_response(),
        "runs/update" | "runs/log-batch" => Json(json!({})).into_response(),
        other => panic!("asked {other}"),
    }
}

fn tracked(folder: &Path) -> Tracked {
    Tracked {
        name: "terse".to_owned(),
        folder: folder.to_owned(),
        settings: json!({"loss": {"beta": 0.1, "kind": "sigmoid"}, "steps": 3, "no": null}),
    }
}

#[test]
fn a_run_is_made_told_of_and_ended() {
    let (tracker, folder) = (Tracker::start(), tempfile::tempdir().unwrap());
    let run = MlflowRun::start(tracker.settings(), tracked(folder.path())).unwrap();
    run.step(
        1,
        [("loss", 0.5), ("reward/brevity/mean", f64::NAN)].into_iter(),
    );
    run.step(2, [("loss", 0.25)].into_iter());
    assert_eq!(run.end(RunEnd::Finished), None);
    assert_eq!(
        tracker.bodies("experiments/get-by-name"),
        [json!("experiment_name=small%20models")]
    );
    assert_eq!(
        tracker.bodies("experiments/create"),
        [json!({"name": "small models"})]
    );
    let made = &tracker.bodies("runs/create")[0];
    assert_eq!(
        (&made["experiment_id"], &made["run_name"]),
        (&json!("3"), &json!("terse"))
    );
    let params = &tracker.bodies("runs/log-batch")[0]["params"];
    let expected = json!([
        {"key": "loss.beta", "value": "0.1"},
        {"key": "loss.kind", "value": "sigmoid"},
        {"key": "steps", "value": "3"},
    ]);
    assert_eq!(params, &expected);
    // what is not finite is left out
    let loss = "loss".to_owned();
    assert_eq!(tracker.metrics(), [(loss.clone(), 1, 0.5), (loss, 2, 0.25)]);
    let ends = tracker.bodies("runs/update");
    assert_eq!(ends.len(), 1);
    assert_eq!(
        (&ends[0]["run_id"], &ends[0]["status"]),
        (&json!("r1"), &json!("FINISHED"))
    );
    assert!(ends[0]["end_time"].is_i64());
}

#[test]
fn an_interrupted_run_goes_on_under_its_id() {
    let (tracker, folder) = (Tracker::start(), tempfile::tempdir().unwrap());
    for (step, end) in [(1, RunEnd::Interrupted), (2, RunEnd::Failed)] {
        let run = MlflowRun::start(tracker.settings(), tracked(folder.path())).unwrap();
        run.step(step, [("loss", 1.0)].into_iter());
        assert_eq!(run.end(end), None);
    }
    assert_eq!(tracker.bodies("runs/create").len(), 1);
    let updates = tracker.bodies("runs/update");
    let statuses: Vec<_> = updates
        .iter()
        .map(|body| body["status"].as_str().unwrap())
        .collect();
    assert_eq!(statuses, ["SCHEDULED", "RUNNING", "FAILED"]);
    assert!(updates[0]["end_time"].is_null(), "it is not over");
    assert_eq!(tracker.metrics().len(), 2);
}

#[derive(Default)]
struct Listener {
    lines: Vec<String>,
    steps: u64,
}

impl TrainObserver for Listener {
    fn log(&mut self, line: &str) {
        self.lines.push(line.to_owned());
    }

    fn step(&mut self, report: &StepReport) {
        self.steps = report.step;
    }
}

fn job(folder: &Path) -> Job {
    let texts = folder.join("texts.jsonl");
    fs::write(
        &texts,
        "{\"text\":\"The river is cold and the bread is warm.\"}\n",
    )
    .unwrap();
    let text = format!(
        r#"
batch_tokens = 32
[job]
kind = "supervised"
model = "{model}"
output = "{output}"
steps = 3
[data]
train = [{{ path = "{texts}" }}]
max_tokens = 24
[policy.lora]
rank = 4
"#,
        model = fixture("llama").display(),
        output = folder.join("run").display(),
        texts = texts.display(),
    );
    Job::parse(&text, Path::new("job.toml")).unwrap()
}

/// A job's metrics after it was run with this tracker, and what was said.
fn trained(folder: &Path, settings: Option<&MlflowSettings>) -> (String, Vec<String>) {
    let mut listener = Listener::default();
    let tracker = settings.map(|settings| (settings, tracked(folder)));
    let ending = run_watched(&job(folder), &mut listener, tracker).unwrap();
    assert_eq!((ending, listener.steps), (Ending::Finished, 3));
    let metrics = fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
    (metrics, listener.lines)
}

#[test]
fn a_job_is_the_same_with_a_tracker_with_a_dead_one_and_with_none() {
    let tracker = Tracker::start();
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [with, dead, none] = folders.each_ref().map(|folder| folder.path());
    let (metrics, said) = trained(with, Some(&tracker.settings()));
    assert!(!said.iter().any(|line| line.contains("MLflow")), "{said:?}");
    let told = tracker.metrics();
    for line in metrics.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let step = line["step"].as_u64().unwrap();
        let loss = ("loss".to_owned(), step, line["loss"].as_f64().unwrap());
        assert!(told.contains(&loss), "{loss:?} is not in {told:?}");
    }
    assert!(told.iter().any(|(key, ..)| key == "peak_memory_bytes"));
    assert_eq!(tracker.routes().last().unwrap(), "runs/update");
    // nobody listens at this address
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let settings = MlflowSettings::new(&url, "x").unwrap();
    let (unharmed, said) = trained(dead, Some(&settings));
    assert_eq!(unharmed, metrics);
    let complaints: Vec<_> = said.iter().filter(|line| line.contains("MLflow")).collect();
    assert_eq!(complaints.len(), 1, "{said:?}");
    assert!(complaints[0].contains("cannot be reached") && complaints[0].contains("goes on"));
    assert_eq!(trained(none, None).0, metrics);
}
