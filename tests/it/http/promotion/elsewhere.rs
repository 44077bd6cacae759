//! Workers on other hosts: they share the database and a bucket with the server, and no disk.

use std::path::Path;

use axum::http::StatusCode;
use serde_json::{Value, json};
use steersman::service::{JobStatus, NewJobInput};
use steersman::storage::Bucket;

use super::job::{JOBS, promote, serve, terms};
use crate::http::client::Server;
use crate::jobs::bench::{Bench, mo_odpo, prompts};

/// Runs the job that waits on a host of its own, and hands that host's disk to `look`.
async fn run_elsewhere(bench: &Bench, look: impl FnOnce(&Path)) {
    let host = tempfile::tempdir().unwrap();
    assert!(bench.runner_at(host.path()).run_one().await.unwrap());
    look(host.path());
}

/// Makes a job over HTTP, from a model that only this server knows; its id.
async fn create(server: &Server, input: NewJobInput, model: &str) -> String {
    let body = json!({
        "model": model,
        "training_file": input.training_file,
        "method": input.method,
        "suffix": "next",
        "seed": input.seed,
    });
    let reply = server.post(JOBS, &body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    reply.json()["id"].as_str().unwrap().to_owned()
}

/// The newest checkpoint of a job that succeeded.
async fn made(server: &Server, job: &str) -> Value {
    let told = server.get(&format!("{JOBS}/{job}")).await.json();
    assert_eq!(told["status"], "succeeded", "{told}");
    let page = server.get(&format!("{JOBS}/{job}/checkpoints")).await;
    page.json()["data"][0].clone()
}

#[tokio::test]
async fn a_worker_needs_nothing_of_the_servers_disk() {
    let bench = Bench::start_with(Some(Bucket::in_memory())).await;
    let server = serve(&bench).await;
    let job = bench.mo_odpo(json!({})).await;
    run_elsewhere(&bench, |disk| {
        let name = format!("{}.jsonl", job.training_file);
        assert!(disk.join("files").join(name).is_file());
    })
    .await;
    assert!(!bench.data().join("jobs").exists());
    let checkpoint = made(&server, &job.id).await;
    let live = promote(&server, &job.id, &checkpoint, &terms(0)).await;
    assert_eq!(live.status, StatusCode::OK, "{}", live.text);

    // a job that goes on from what was promoted finds its adapter
    let again = async || {
        let input = NewJobInput {
            training_file: Some(bench.file(&prompts()).await),
            ..mo_odpo(json!({"steps": 2}))
        };
        create(&server, input, "short-or-long").await
    };
    let job = again().await;
    run_elsewhere(&bench, |disk| {
        let content = checkpoint["content"].as_str().unwrap();
        assert!(disk.join("checkpoints").join(content).is_dir());
    })
    .await;
    let elsewhere = made(&server, &job).await;
    let job = again().await;
    assert!(bench.runner().run_one().await.unwrap());
    let here = made(&server, &job).await;
    let loss = |checkpoint: &Value| checkpoint["metrics"]["train_loss"].clone();
    assert!(loss(&here).is_number(), "{here}");
    assert_eq!(loss(&elsewhere), loss(&here), "both started from the same");
}

#[tokio::test]
async fn what_is_damaged_in_the_bucket_is_never_trained_on() {
    let bench = Bench::start_with(Some(Bucket::in_memory())).await;
    let bucket = bench.bucket.as_ref().unwrap();
    for bad in [prompts().replace("bread", "water"), String::new()] {
        let job = bench.mo_odpo(json!({})).await;
        let key = format!("files/{}", job.training_file);
        bucket.put(&key, bad.into_bytes()).await.unwrap();
        run_elsewhere(&bench, |disk| {
            let left = std::fs::read_dir(disk.join("files")).unwrap().count();
            assert_eq!(left, 0);
        })
        .await;
        let job = bench.app.job(&job.id).await.unwrap();
        assert_eq!(job.status, JobStatus::Failed);
        let error = job.error.unwrap();
        assert_eq!(error.code, "invalid_data");
        let names = error.message.contains(&job.training_file);
        assert!(names, "{}", error.message);
    }
}

#[tokio::test]
async fn a_job_that_changes_hosts_says_that_it_begins_anew() {
    let bench = Bench::start_with(Some(Bucket::in_memory())).await;
    let job = bench.mo_odpo(json!({"steps": 30, "save_every": 1})).await;
    let host = tempfile::tempdir().unwrap();
    let runner = bench.runner_at(host.path());
    let close = async {
        bench.until(&job.id, |job| job.step >= 2).await;
        let closing = runner.closing();
        closing.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    tokio::join!(runner.run(false), close);
    run_elsewhere(&bench, |_| {}).await;
    let done = bench.app.job(&job.id).await.unwrap();
    assert_eq!((done.status, done.attempt), (JobStatus::Succeeded, 2));
    let told = bench.messages(&job.id).await;
    assert!(
        told.iter().any(|line| line.contains("begins anew")),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_file_outlives_the_disk_that_took_it_in_until_it_is_deleted() {
    let bench = Bench::start_with(Some(Bucket::in_memory())).await;
    let server = serve(&bench).await;
    let file = bench.file(&prompts()).await;
    std::fs::remove_dir_all(bench.data().join("files")).unwrap();
    let path = format!("/admin/v1/files/{file}");
    let reply = server.get(&format!("{path}/content")).await;
    assert_eq!((reply.status, reply.text), (StatusCode::OK, prompts()));
    let reply = server.delete(&path).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let bucket = bench.bucket.as_ref().unwrap();
    let there = bucket.read(&format!("files/{file}"), |_| Ok(())).await;
    assert!(!there.unwrap());
    assert!(
        !bench
            .data()
            .join("files")
            .join(format!("{file}.jsonl"))
            .exists()
    );
}
