//! Troubles that pass: a job outlives them, or says at once what is wrong with its settings.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use steersman::jobs::{JobRunner, RunnerSettings};
use steersman::service::{FineTuning, JobStatus, JobTurn, NewJobInput, TrainingWork};
use steersman::store::{EventDraft, JobDraft};

use super::bench::{Bench, mo_odpo, prompts};
use crate::rewards::service::stand_in::{Says, StandIn};

/// The bench's small job with another first reward.
fn rewarded(reward: Value) -> NewJobInput {
    let mut input = mo_odpo(json!({}));
    let method = input.method.as_mut().unwrap();
    method["mo_odpo"]["objectives"][0]["reward"] = reward;
    input
}

#[tokio::test]
async fn metrics_that_were_lost_cost_no_job_its_states() {
    let bench = Bench::start().await;
    let job = bench.mo_odpo(json!({"steps": 24, "save_every": 3})).await;
    let runner = bench.runner();
    let pausing = async {
        bench.until(&job.id, |job| job.step >= 3).await;
        bench.app.turn_job(&job.id, JobTurn::Pause).await.unwrap();
    };
    let (ran, ()) = tokio::join!(runner.run_one(), pausing);
    assert!(ran.unwrap());
    let paused = bench.app.job(&job.id).await.unwrap();
    assert_eq!(paused.status, JobStatus::Paused, "{:?}", paused.error);
    // as a crash leaves a file that was never synced
    fs::write(bench.newest(&job.id).join("metrics.jsonl"), "").unwrap();
    bench.app.turn_job(&job.id, JobTurn::Resume).await.unwrap();
    assert!(runner.run_one().await.unwrap());
    let done = bench.app.job(&job.id).await.unwrap();
    assert_eq!(done.status, JobStatus::Succeeded, "{:?}", done.error);
    let told = bench.messages(&job.id).await;
    assert!(
        told.iter().any(|said| said.contains("metrics.jsonl lacks")),
        "{told:?}"
    );
    let going_on = format!("going on after step {}", paused.step);
    assert!(told.contains(&going_on), "{told:?}");
}

#[tokio::test]
async fn a_file_that_was_moved_away_pauses_the_job_until_it_is_back() {
    let bench = Bench::start().await;
    let job = bench.mo_odpo(json!({})).await;
    let name = format!("{}.jsonl", job.training_file);
    let (path, away) = (
        bench.data().join("files").join(name),
        bench.data().join("x"),
    );
    fs::rename(&path, &away).unwrap();
    assert!(bench.runner().run_one().await.unwrap());
    let paused = bench.app.job(&job.id).await.unwrap();
    assert_eq!(paused.status, JobStatus::Paused);
    assert_eq!(paused.error.unwrap().code, "file_unavailable");
    fs::rename(&away, &path).unwrap();
    bench.app.turn_job(&job.id, JobTurn::Resume).await.unwrap();
    assert!(bench.runner().run_one().await.unwrap());
    let done = bench.app.job(&job.id).await.unwrap();
    assert_eq!(done.status, JobStatus::Succeeded, "{:?}", done.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_waits_for_no_reward_service() {
    let bench = Bench::start().await;
    let server = StandIn::start(|_, _| Says::Nothing);
    let input = NewJobInput {
        training_file: Some(bench.file(&prompts()).await),
        ..rewarded(
            json!({"kind": "http", "shape": "openrlhf", "url": server.url,
            "timeout_seconds": 3600}),
        )
    };
    let job = bench.app.create_job(input).await.unwrap();
    let settings = RunnerSettings {
        owner: "the test".to_owned(),
        // a heartbeat, which hears what is asked, each 0.3 s
        lease: Duration::from_millis(900),
        poll: Duration::from_millis(5),
    };
    let work = Arc::new(TrainingWork::new(FineTuning::at(bench.data())));
    let runner = JobRunner::new(bench.store.clone(), work, settings);
    let pausing = async {
        while server.asked().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bench.app.turn_job(&job.id, JobTurn::Pause).await.unwrap();
    };
    let both = Box::pin(async { tokio::join!(runner.run_one(), pausing) });
    let (ran, ()) = tokio::time::timeout(Duration::from_secs(300), both)
        .await
        .expect("the service never answers, and yet the job stops");
    assert!(ran.unwrap());
    let job = bench.app.job(&job.id).await.unwrap();
    assert_eq!((job.status, job.error), (JobStatus::Paused, None));
}

#[tokio::test]
async fn a_service_that_could_never_be_asked_is_refused_at_once() {
    let bench = Bench::start().await;
    let http = |url: &str, more: (&str, Value)| {
        let mut reward = json!({"kind": "http", "shape": "openrlhf", "url": url});
        reward[more.0] = more.1;
        reward
    };
    let judge = |url: &str| json!({"kind": "judge", "url": url, "model": "m", "rubric": "r"});
    let sound = "http://127.0.0.1:9/x";
    let key = "STEERSMAN_REWARD_KEY_OF_ANOTHER_HOST";
    for (reward, word) in [
        (http("ftp://h/x", ("retries", json!(1))), Some("url")),
        (
            http(sound, ("timeout_seconds", json!(0))),
            Some("timeout_seconds"),
        ),
        (http(sound, ("shape", json!("vllm_score"))), Some("model")),
        (
            http(sound, ("api_key_env", json!("PATH"))),
            Some("api_key_env"),
        ),
        (judge("http://h/v1"), Some("/chat/completions")),
        (http(sound, ("api_key_env", json!(key))), None),
        (judge("http://h/v1/chat/completions"), None),
    ] {
        let input = NewJobInput {
            training_file: Some(bench.file(&prompts()).await),
            ..rewarded(reward.clone())
        };
        let made = bench.app.create_job(input).await;
        match (made, word) {
            (Ok(_), None) => {}
            (Err(error), Some(word)) => {
                let said = steersman::service::chain(&error);
                assert!(said.contains("objectives[0].reward"), "{said}");
                assert!(said.contains(word), "{said}");
            }
            (made, _) => panic!("{reward}: {made:?}"),
        }
    }
}

#[tokio::test]
async fn a_job_whose_settings_cannot_be_read_hides_no_other() {
    let bench = Bench::start().await;
    let sound = bench.mo_odpo(json!({})).await;
    let foreign = JobDraft {
        id: format!("ftjob-{}", "0".repeat(24)),
        kind: "mo_odpo".to_owned(),
        spec: r#"{"of":"another version"}"#.to_owned(),
        training_file: sound.training_file.clone(),
        validation_file: None,
        total_steps: 1,
    };
    let event = EventDraft {
        level: "info",
        kind: "message",
        message: "made".to_owned(),
        data: None,
        at: 7,
    };
    bench.store.add_job(&foreign, &event).await.unwrap();
    let (jobs, _) = bench.app.jobs(None, 9, &[]).await.unwrap();
    let told = jobs.iter().map(|job| {
        let code = job.error.as_ref().map(|error| error.code.as_str());
        (job.id.as_str(), code)
    });
    let told: std::collections::BTreeMap<_, _> = told.collect();
    assert_eq!(told.len(), 2);
    assert_eq!(told[sound.id.as_str()], None);
    assert_eq!(told[foreign.id.as_str()], Some("invalid_setting"));
}
