//! From a job to the next version: what a worker wrote, promoted by its id.

use std::fs;

use axum::http::StatusCode;
use serde_json::{Value, json};
use steersman::service::{App, FineTuning, NewJobInput, ServiceSettings};
use steersman::storage::Bucket;

use crate::http::client::{Reply, Server};
use crate::jobs::bench::{Bench, mo_odpo, prompts};
use crate::rewards::service::stand_in::{Says, StandIn};

pub(super) const JOBS: &str = "/admin/v1/fine_tuning/jobs";

/// Two objectives over lengths, measured anew: nothing was recorded of them.
pub(super) fn terms(expected_version: i64) -> Value {
    let prompts = [
        "What is bread?",
        "Why wait?",
        "Who is a friend?",
        "Use cold water?",
    ];
    json!({
        "expected_version": expected_version,
        "evaluation": {"prompts": prompts, "grid": 3, "max_tokens": 16},
        "gate": {"min_spearman": -1.0, "baseline": "nothing"},
    })
}

/// A server over what a bench has, as it would start on a host with `data` as its data folder.
pub(super) async fn serve(bench: &Bench) -> Server {
    let app = App::load(bench.model(), &ServiceSettings::default()).unwrap();
    let app = app
        .with_store(bench.store.clone())
        .with_fine_tuning(FineTuning {
            bucket: bench.bucket.clone(),
            ..FineTuning::at(bench.data())
        });
    let (store, bucket) = (bench.store.clone(), bench.bucket.clone());
    Server::shared_by(
        app.with_registry_in(bench.data(), store, bucket)
            .await
            .unwrap(),
    )
}

/// A job that ran to its end, and its checkpoints, newest first.
async fn trained(bench: &Bench, server: &Server) -> (String, Vec<Value>) {
    let job = bench.mo_odpo(json!({})).await;
    assert!(bench.runner().run_one().await.unwrap());
    let page = server.get(&format!("{JOBS}/{}/checkpoints", job.id)).await;
    (job.id, page.json()["data"].as_array().unwrap().clone())
}

pub(super) async fn promote(server: &Server, job: &str, checkpoint: &Value, body: &Value) -> Reply {
    let checkpoint = checkpoint["id"].as_str().unwrap();
    let path = format!("{JOBS}/{job}/checkpoints/{checkpoint}/promote");
    server.post(&path, body).await
}

fn refused(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    assert_eq!(reply.json()["error"]["code"], code, "{}", reply.text);
}

/// The version that answers for a policy.
async fn version(server: &Server, policy: &str) -> String {
    let body = json!({"prompt": "x", "model": policy, "max_tokens": 2});
    let reply = server.generate(body).await;
    reply["steering"]["policy_version"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_jobs_checkpoints_become_one_after_another_its_policys_versions() {
    let bench = Bench::start().await;
    let server = serve(&bench).await;
    let (job, checkpoints) = trained(&bench, &server).await;
    let [last, first] = &checkpoints[..] else {
        panic!("{checkpoints:?}");
    };
    let reply = promote(&server, &job, first, &terms(0)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let told = reply.json();
    assert_eq!(told["id"], "short-or-long", "the job's own policy");
    assert_eq!(told["checkpoint"], first["content"]);
    let origin = told["checkpoints"][0]["origin"].as_str().unwrap();
    assert_eq!(origin, format!("{job}, step 2"));
    let before = version(&server, "short-or-long").await;

    refused(
        &promote(&server, &job, last, &terms(0)).await,
        409,
        "generation_mismatch",
    );
    refused(
        &promote(&server, &job, first, &terms(1)).await,
        409,
        "live_already",
    );
    let mut shy = terms(1);
    shy["canary"] = json!(0.5);
    let reply = promote(&server, &job, last, &shy).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(reply.json()["canary"]["checkpoint"], last["content"]);
    let reply = promote(&server, &job, last, &terms(2)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_ne!(version(&server, "short-or-long").await, before);

    let mut odd = terms(0);
    odd["policy"] = json!("a@b");
    let reply = promote(&server, &job, first, &odd).await;
    refused(&reply, 400, "invalid_value");
    assert_eq!(reply.json()["error"]["param"], "policy", "{}", reply.text);

    // under another name it is another policy
    let mut named = terms(0);
    named["policy"] = json!("other");
    let reply = promote(&server, &job, first, &named).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(reply.json()["id"], "other");
}

#[tokio::test]
async fn a_finished_jobs_result_file_holds_the_numbers_of_its_steps() {
    let bench = Bench::start().await;
    let server = serve(&bench).await;
    let (waits, name) = (bench.mo_odpo(json!({})).await.id, "step_metrics.csv");
    let early = server.get(&format!("{JOBS}/{waits}")).await.json();
    assert_eq!(early["result_files"], json!([]));
    let early = format!("/admin/v1/files/file-results-{}", &waits["ftjob-".len()..]);
    refused(&server.get(&early).await, 404, "file_not_found");
    assert!(bench.runner().run_one().await.unwrap());

    let job = server.get(&format!("{JOBS}/{waits}")).await.json();
    let [file] = job["result_files"].as_array().unwrap().as_slice() else {
        panic!("{job}")
    };
    let path = format!("/admin/v1/files/{}", file.as_str().unwrap());
    let info = server.get(&path).await.json();
    let told = (&info["id"], &info["filename"], &info["rows"]);
    assert_eq!(told, (file, &json!(name), &job["total_steps"]), "{info}");
    assert_eq!(info["purpose"], "fine-tune-results");
    let content = server.get(&format!("{path}/content")).await;
    assert_eq!(info["bytes"], content.text.len());
    assert!(content.header("content-type").starts_with("text/csv"));
    let mut lines = content.text.lines();
    let columns: Vec<_> = lines.next().unwrap().split(',').collect();
    assert!(
        columns[0] == "step" && columns.contains(&"train_loss"),
        "{columns:?}"
    );
    for (index, line) in lines.enumerate() {
        assert!(line.starts_with(&format!("{},", index + 1)), "{line}");
        assert_eq!(line.split(',').count(), columns.len(), "{line}");
    }
    let folder = bench.data().join(job["folder"].as_str().unwrap());
    assert!(
        folder.join("steering.json").is_file(),
        "{}",
        folder.display()
    );
    refused(&server.delete(&path).await, 409, "file_of_job");
    // no job can be trained on it
    let body = json!({"training_file": file, "model": "plain"});
    let reply = server.post(JOBS, &body).await;
    refused(&reply, 400, "invalid_value");
    assert_eq!(
        reply.json()["error"]["param"],
        "training_file",
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn what_cannot_be_promoted_of_a_job_is_refused_by_name() {
    let bench = Bench::start().await;
    let server = serve(&bench).await;
    let (job, checkpoints) = trained(&bench, &server).await;
    let post = async |job: &str, checkpoint: &str, body: Value| {
        let path = format!("{JOBS}/{job}/checkpoints/{checkpoint}/promote");
        server.post(&path, &body).await
    };
    let own = checkpoints[0]["id"].as_str().unwrap();
    refused(&post("ftjob-0", "x", terms(0)).await, 404, "job_not_found");
    for other in ["x", "ftckpt-0-4", &format!("{own}0"), "%00"] {
        refused(
            &post(&job, other, terms(0)).await,
            404,
            "checkpoint_not_found",
        );
    }
    refused(
        &post(&job, own, json!({})).await,
        400,
        "missing_required_parameter",
    );
    let mut unknown = terms(0);
    unknown["folder"] = json!("/etc");
    refused(&post(&job, own, unknown).await, 400, "unknown_parameter");
    let unmeasured = json!({"expected_version": 0});
    refused(&post(&job, own, unmeasured).await, 409, "gate_refused");

    // what is no policy
    let hyperparameters = json!({"steps": 1, "lora_rank": 4, "micro_batch_tokens": 64,
        "batch_tokens": 32, "max_tokens": 24});
    let text = bench.file("{\"text\":\"The river is cold.\"}\n").await;
    let input = NewJobInput {
        model: Some(bench.app.policies()[0].id.clone()),
        training_file: Some(text),
        method: Some(json!({"type": "supervised",
            "supervised": {"hyperparameters": hyperparameters}})),
        ..NewJobInput::default()
    };
    let plain = bench.app.create_job(input).await.unwrap();
    assert!(bench.runner().run_one().await.unwrap());
    let page = server
        .get(&format!("{JOBS}/{}/checkpoints", plain.id))
        .await;
    let checkpoint = page.json()["data"][0].clone();
    assert_eq!(checkpoint["content"], Value::Null);
    let reply = promote(&server, &plain.id, &checkpoint, &terms(0)).await;
    refused(&reply, 400, "checkpoint_unusable");
    assert!(
        reply.text.contains("only policies can be promoted"),
        "{}",
        reply.text
    );

    // what is not what the job wrote
    let weights = bench
        .data()
        .join(checkpoints[0]["folder"].as_str().unwrap());
    let weights = weights.join("adapter_model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    refused(&post(&job, own, terms(0)).await, 409, "checkpoint_damaged");
}

#[tokio::test]
async fn with_a_bucket_the_server_needs_nothing_of_the_workers_disk() {
    let bench = Bench::start_with(Some(Bucket::in_memory())).await;
    let server = serve(&bench).await;
    let (job, checkpoints) = trained(&bench, &server).await;
    fs::remove_dir_all(bench.data().join("jobs")).unwrap();
    let reply = promote(&server, &job, &checkpoints[0], &terms(0)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let live = version(&server, "short-or-long").await;

    // a server that starts on another disk fetches it
    fs::remove_dir_all(bench.data().join("checkpoints")).unwrap();
    let restarted = serve(&bench).await;
    assert_eq!(version(&restarted, "short-or-long").await, live);

    // what was damaged here is fetched again
    let id = checkpoints[0]["content"].as_str().unwrap();
    let local = bench.data().join("checkpoints").join(id);
    fs::write(local.join("steering.json"), "{}").unwrap();
    let restarted = serve(&bench).await;
    assert_eq!(version(&restarted, "short-or-long").await, live);

    // what is damaged in the bucket is never used
    let bucket = bench.bucket.as_ref().unwrap();
    for file in [
        "steering.json",
        "adapter_model.safetensors",
        "checkpoint.json",
    ] {
        let key = format!("checkpoints/{id}/{file}");
        let mut sound = Vec::new();
        bucket
            .read(&key, |piece| {
                sound.extend_from_slice(piece);
                Ok(())
            })
            .await
            .unwrap();
        let mut flipped = sound.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for bad in [flipped, sound[1..].to_vec(), [&sound[..], b"x"].concat()] {
            bucket.put(&key, bad).await.unwrap();
            fs::remove_dir_all(&local).unwrap_or_default();
            let restarted = serve(&bench).await;
            let reply = restarted.get("/v1/models/short-or-long").await;
            assert_eq!(
                reply.status,
                StatusCode::NOT_FOUND,
                "{file}: {}",
                reply.text
            );
            assert!(!local.exists());
        }
        bucket.put(&key, sound).await.unwrap();
    }
    assert_eq!(version(&serve(&bench).await, "short-or-long").await, live);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_a_service_rewarded_is_measured_by_it_and_promoted() {
    let bench = Bench::start().await;
    let server = serve(&bench).await;
    let service = StandIn::start(|_, body| {
        let (whole, prompts) = (body["query"].as_array().unwrap(), &body["prompts"]);
        let length = |text: &Value| text.as_str().unwrap().chars().count() as f64;
        let answers = whole.iter().enumerate();
        let rewards = answers.map(|(i, text)| (length(&prompts[i]) - length(text)) / 8.0);
        Says::Json(json!({"rewards": rewards.collect::<Vec<_>>()}))
    });
    let mut input = mo_odpo(json!({}));
    input.training_file = Some(bench.file(&prompts()).await);
    input.method.as_mut().unwrap()["mo_odpo"]["objectives"][0]["reward"] =
        json!({"kind": "http", "shape": "openrlhf", "url": service.url});
    let job = bench.app.create_job(input).await.unwrap();
    assert!(bench.runner().run_one().await.unwrap());
    let page = server.get(&format!("{JOBS}/{}/checkpoints", job.id)).await;
    let checkpoints = page.json()["data"].clone();
    let [last, first] = &checkpoints.as_array().unwrap()[..] else {
        panic!("{checkpoints}");
    };
    let trained = service.asked().len();
    let reply = promote(&server, &job.id, first, &terms(0)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert!(service.asked().len() > trained, "it was asked");

    // unmeasured: only where that is said in so many words
    let bare = json!({"expected_version": 1, "gate": {"baseline": "nothing"}});
    let reply = promote(&server, &job.id, last, &bare).await;
    refused(&reply, 409, "gate_refused");
    let mut open = bare;
    open["gate"]["min_spearman"] = Value::Null;
    let reply = promote(&server, &job.id, last, &open).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);

    // the same files from elsewhere than a job of this server may name no service
    let policy = bench.data().join(first["folder"].as_str().unwrap());
    let path = policy.join("steering.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest["description"] = json!("from somewhere");
    fs::write(&path, manifest.to_string()).unwrap();
    let mut foreign = terms(0);
    foreign["folder"] = json!(policy);
    let reply = server
        .post("/admin/v1/policies/foreign/promote", &foreign)
        .await;
    refused(&reply, 400, "evaluation_failed");
}
