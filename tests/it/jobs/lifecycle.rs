//! A job's life with a worker in this process: it runs, pauses, goes on to the bit, ends, and says
//! why where it does not go on.

use std::fs;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use steersman::service::{JobStatus, JobTurn, NewJobInput};

use super::bench::{Bench, mo_odpo, prompts};

#[tokio::test]
async fn a_job_runs_to_its_end_and_lists_its_checkpoint() {
    let bench = Bench::start().await;
    let job = bench.mo_odpo(json!({})).await;
    assert_eq!(job.status, JobStatus::Queued);
    assert_eq!(job.hyperparameters["beta"], 0.1, "defaults are shown");
    assert_eq!(job.hyperparameters["missing_eos_penalty"], 1.0);
    assert_eq!(job.hyperparameters["lora_rank"], 4);
    assert!(bench.runner().run_one().await.unwrap());
    let job = bench.app.job(&job.id).await.unwrap();
    assert_eq!(job.status, JobStatus::Succeeded, "{:?}", job.error);
    assert_eq!((job.step, job.total_steps), (4, 4));
    assert_eq!(job.fine_tuned_model.as_deref(), Some("short-or-long"));
    let (checkpoints, more) = bench.app.job_checkpoints(&job.id, None, 9).await.unwrap();
    assert!(!more);
    // one a saved state, the last of them the result
    let steps: Vec<i64> = checkpoints
        .iter()
        .map(|checkpoint| checkpoint.step)
        .collect();
    assert_eq!(steps, [4, 2]);
    assert!(checkpoints[0].metrics["train_loss"].is_number());
    for name in [
        "adapter_model.safetensors",
        "adapter_config.json",
        "steering.json",
    ] {
        let path = bench.data().join(&checkpoints[0].folder).join(name);
        assert!(path.exists(), "{}", path.display());
    }
    let (events, last) = bench.app.next_job_events(&job.id, 0, 1000).await.unwrap();
    assert!(last);
    let metrics: Vec<&Value> = events
        .iter()
        .filter(|event| event.kind == "metrics")
        .map(|event| &event.data)
        .collect();
    assert_eq!(metrics.len(), 4);
    for name in [
        "train_loss",
        "kl/sequence",
        "entropy",
        "reward/brevity/mean",
        "step_seconds",
    ] {
        assert!(metrics[3][name].is_number(), "{name}: {}", metrics[3]);
    }
    assert!(
        !bench.runner().run_one().await.unwrap(),
        "nothing is left to do"
    );
}

/// The last line of an undisturbed run's metrics, and its adapter.
pub(super) async fn undisturbed(more: Value) -> (String, Vec<u8>) {
    let bench = Bench::start().await;
    let job = bench.mo_odpo(more).await;
    bench.runner().run_one().await.unwrap();
    let info = bench.app.job(&job.id).await.unwrap();
    assert_eq!(info.status, JobStatus::Succeeded, "{:?}", info.error);
    outcome(&bench, &job.id)
}

/// What a run made: every step's metrics, and the adapter.
pub(super) fn outcome(bench: &Bench, job: &str) -> (String, Vec<u8>) {
    let folder = bench.newest(job);
    let metrics = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let adapter = fs::read(folder.join("policy/adapter_model.safetensors")).unwrap();
    (metrics, adapter)
}

#[tokio::test]
async fn a_job_pauses_within_a_step_and_goes_on_to_the_bit() {
    let bench = Bench::start().await;
    let long = json!({"steps": 30, "save_every": 25});
    let job = bench.mo_odpo(long.clone()).await;
    let runner = bench.runner();
    let watch = async {
        let seen = bench.until(&job.id, |job| job.step >= 3).await;
        let asked = bench.app.turn_job(&job.id, JobTurn::Pause).await.unwrap();
        assert!(asked.status == JobStatus::Paused || asked.asked.as_deref() == Some("pause"));
        let paused = bench
            .until(&job.id, |job| job.status == JobStatus::Paused)
            .await;
        // the step under way when it was asked, and those done before the asking was read
        assert!(paused.step < 30, "{} then {}", seen.step, paused.step);
        paused
    };
    let (ran, paused) = tokio::join!(runner.run_one(), watch);
    assert!(ran.unwrap());
    let folder = bench
        .newest(&job.id)
        .join(format!("state/step-{:08}", paused.step));
    assert!(
        folder.exists(),
        "it saved after the step in which it was asked"
    );
    assert!(!runner.run_one().await.unwrap(), "a paused job waits");
    bench.app.turn_job(&job.id, JobTurn::Resume).await.unwrap();
    assert!(runner.run_one().await.unwrap());
    let done = bench.app.job(&job.id).await.unwrap();
    assert_eq!((done.status, done.attempt), (JobStatus::Succeeded, 2));
    assert!(outcome(&bench, &job.id) == undisturbed(long).await);
}

#[tokio::test]
async fn the_last_checkpoints_and_the_best_one_are_kept() {
    let bench = Bench::start().await;
    let job = bench.mo_odpo(json!({"steps": 9, "save_every": 1})).await;
    bench.runner().run_one().await.unwrap();
    let (kept, _) = bench.app.job_checkpoints(&job.id, None, 99).await.unwrap();
    let score = |metrics: &Value| metrics["score"].as_f64().unwrap();
    let (events, _) = bench.app.next_job_events(&job.id, 0, 1000).await.unwrap();
    let best = events
        .iter()
        .filter(|event| event.kind == "metrics" && event.data["step"] != 9)
        .max_by(|one, other| score(&one.data).total_cmp(&score(&other.data)))
        .unwrap();
    let steps: Vec<i64> = kept.iter().map(|checkpoint| checkpoint.step).collect();
    // the result came last, and nothing is thinned out after it
    assert_eq!(steps[..4], [9, 8, 7, 6], "{steps:?}");
    assert!(
        steps.contains(&best.data["step"].as_i64().unwrap()),
        "{steps:?}"
    );
    assert!(steps.len() <= 5, "{steps:?}");
    for checkpoint in &kept {
        let manifest = bench.data().join(&checkpoint.folder).join("steering.json");
        assert!(manifest.exists(), "{}", manifest.display());
    }
    let folders = bench.data().join("jobs").join(&job.id).join("checkpoints");
    assert_eq!(fs::read_dir(folders).unwrap().count(), kept.len() - 1);
}

#[tokio::test]
async fn a_cancelled_job_ends_within_a_step_and_is_over() {
    let bench = Bench::start().await;
    let job = bench.mo_odpo(json!({"steps": 5000})).await;
    let watch = async {
        bench.until(&job.id, |job| job.step >= 1).await;
        bench.app.turn_job(&job.id, JobTurn::Cancel).await.unwrap();
    };
    let runner = bench.runner();
    let (ran, ()) = tokio::join!(runner.run_one(), watch);
    assert!(ran.unwrap());
    let job = bench.app.job(&job.id).await.unwrap();
    assert_eq!(job.status, JobStatus::Cancelled);
    assert!(job.finished_at.is_some());
    let refused = bench
        .app
        .turn_job(&job.id, JobTurn::Resume)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("is cancelled"), "{refused}");
    let again = bench.app.turn_job(&job.id, JobTurn::Cancel).await.unwrap();
    assert_eq!(
        again.status,
        JobStatus::Cancelled,
        "what is the case is no error"
    );
}

#[tokio::test]
async fn a_worker_that_closes_leaves_its_job_to_the_next() {
    let bench = Bench::start().await;
    let long = json!({"steps": 24, "save_every": 20});
    let job = bench.mo_odpo(long.clone()).await;
    let runner = bench.runner();
    let close = async {
        bench.until(&job.id, |job| job.step >= 2).await;
        runner.closing().store(true, Ordering::Relaxed);
    };
    tokio::join!(runner.run(false), close);
    assert_eq!(
        bench.app.job(&job.id).await.unwrap().status,
        JobStatus::Queued
    );
    bench.runner().run(true).await;
    assert!(outcome(&bench, &job.id) == undisturbed(long).await);
}

#[tokio::test]
async fn a_full_disk_pauses_the_job_and_what_was_saved_is_good() {
    let bench = Bench::start().await;
    let job = bench.mo_odpo(json!({})).await;
    // every write to this device finds no space
    let folder = bench
        .data()
        .join("jobs")
        .join(&job.id)
        .join("attempt-00000001");
    fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.join("timings.jsonl")).unwrap();
    bench.runner().run_one().await.unwrap();
    let paused = bench.app.job(&job.id).await.unwrap();
    assert_eq!(paused.status, JobStatus::Paused);
    let error = paused.error.unwrap();
    assert_eq!(error.code, "no_space");
    assert!(
        error.message.contains("free some space"),
        "{}",
        error.message
    );
    bench.app.turn_job(&job.id, JobTurn::Resume).await.unwrap();
    bench.runner().run_one().await.unwrap();
    let done = bench.app.job(&job.id).await.unwrap();
    assert_eq!((done.status, done.error), (JobStatus::Succeeded, None));
    assert!(outcome(&bench, &job.id) == undisturbed(json!({})).await);
}

#[tokio::test]
async fn a_reward_that_cannot_be_had_pauses_the_job_until_it_can() {
    let bench = Bench::start().await;
    let words = bench.data().join("words.txt");
    fs::write(&words, "bread\nwater\n").unwrap();
    let mut input = NewJobInput {
        training_file: Some(bench.file(&prompts()).await),
        ..mo_odpo(json!({"steps": 2}))
    };
    let method = input.method.as_mut().unwrap();
    method["mo_odpo"]["objectives"][1]["reward"] = json!({"kind": "rule",
        "rule": {"name": "readability", "common_words": words}});
    let job = bench.app.create_job(input).await.unwrap();
    fs::remove_file(&words).unwrap();
    bench.runner().run_one().await.unwrap();
    let paused = bench.app.job(&job.id).await.unwrap();
    assert_eq!(paused.status, JobStatus::Paused);
    let error = paused.error.unwrap();
    assert_eq!(error.code, "reward_unavailable");
    assert!(error.message.contains("words.txt"), "{}", error.message);
    fs::write(&words, "bread\nwater\n").unwrap();
    bench.app.turn_job(&job.id, JobTurn::Resume).await.unwrap();
    bench.runner().run_one().await.unwrap();
    let done = bench.app.job(&job.id).await.unwrap();
    assert_eq!(done.status, JobStatus::Succeeded, "{:?}", done.error);
}

#[tokio::test]
async fn a_job_that_cannot_go_on_fails_and_says_why() {
    let bench = Bench::start().await;
    let check = async |more: Value, code: &str, words: &str| {
        let job = bench.mo_odpo(more).await;
        bench.runner().run_one().await.unwrap();
        let job = bench.app.job(&job.id).await.unwrap();
        assert_eq!(job.status, JobStatus::Failed, "{code}");
        let error = job.error.unwrap();
        assert_eq!(error.code, code);
        assert!(error.message.contains(words), "{}", error.message);
        let told = bench.messages(&job.id).await;
        assert!(told.last().unwrap().contains(words), "{told:?}");
    };
    let wild = json!({"kl_cap": 0.0001, "learning_rate": 0.1, "steps": 40, "save_every": 1});
    check(wild, "kl_cap", "above the cap").await;
    let nan = json!({"loss": "ipo", "beta": 1e-30, "steps": 10});
    check(nan, "not_finite", "not finite in 3 steps").await;
    check(
        json!({"max_prompt_tokens": 8, "steps": 2}),
        "invalid_data",
        "no prompt",
    )
    .await;
}

#[tokio::test]
async fn a_file_that_was_damaged_since_fails_the_job_by_name() {
    let bench = Bench::start().await;
    let job = bench.mo_odpo(json!({})).await;
    let path = bench
        .data()
        .join("files")
        .join(format!("{}.jsonl", job.training_file));
    // still JSON: only its hash tells
    fs::write(&path, prompts().replace("bread", "water")).unwrap();
    bench.runner().run_one().await.unwrap();
    let error = bench.app.job(&job.id).await.unwrap().error.unwrap();
    assert_eq!(error.code, "invalid_data");
    assert!(
        error.message.contains(&job.training_file),
        "{}",
        error.message
    );
}

#[tokio::test]
async fn a_damaged_state_is_told_and_the_one_before_it_used() {
    let bench = Bench::start().await;
    let more = json!({"steps": 24, "save_every": 3});
    let job = bench.mo_odpo(more.clone()).await;
    let runner = bench.runner();
    let pause = async {
        bench.until(&job.id, |job| job.step >= 5).await;
        bench.app.turn_job(&job.id, JobTurn::Pause).await.unwrap();
    };
    let (ran, ()) = tokio::join!(runner.run_one(), pause);
    ran.unwrap();
    let paused = bench.app.job(&job.id).await.unwrap();
    assert_eq!(paused.status, JobStatus::Paused);
    let newest = bench
        .newest(&job.id)
        .join(format!("state/step-{:08}", paused.step));
    let tensors = newest.join("tensors.safetensors");
    let mut bytes = fs::read(&tensors).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&tensors, bytes).unwrap();
    bench.app.turn_job(&job.id, JobTurn::Resume).await.unwrap();
    runner.run_one().await.unwrap();
    let told = bench.messages(&job.id).await;
    assert!(
        told.iter()
            .any(|line| line.contains("does not have the hash")),
        "{told:?}"
    );
    assert!(outcome(&bench, &job.id) == undisturbed(more).await);
}

#[tokio::test]
async fn supervised_and_reward_model_jobs_run_too() {
    let bench = Bench::start().await;
    let hyperparameters = json!({"steps": 3, "lora_rank": 4, "micro_batch_tokens": 64,
        "max_tokens": 24});
    let job = async |kind: &str, rows: &str, more: Value| {
        let mut hyperparameters = hyperparameters.clone();
        for (name, value) in more.as_object().unwrap() {
            hyperparameters[name] = value.clone();
        }
        let file = bench.file(rows).await;
        let input = NewJobInput {
            // the base: reward models start from a whole model
            model: Some(bench.app.policies()[0].id.clone()),
            training_file: Some(file.clone()),
            validation_file: Some(file),
            method: Some(json!({"type": kind, kind: {"hyperparameters": hyperparameters}})),
            ..NewJobInput::default()
        };
        let job = bench.app.create_job(input).await.unwrap();
        bench.runner().run_one().await.unwrap();
        let job = bench.app.job(&job.id).await.unwrap();
        assert_eq!(job.status, JobStatus::Succeeded, "{:?}", job.error);
        let folder = bench.data().join(job.folder.clone().unwrap());
        assert!(folder.is_dir(), "{}", folder.display());
        job
    };
    let text = "{\"text\":\"The river is cold and the bread is warm.\"}\n";
    let done = job("supervised", text, json!({"batch_tokens": 32})).await;
    assert!(done.trained_tokens > 0);
    let pair = json!({"prompt": [{"role": "user", "content": "What is cold?"}],
        "chosen": "The river.", "rejected": "The bread."});
    let rows = format!("{pair}\n");
    let done = job("reward_model", &rows, json!({"batch_size": 1})).await;
    assert!(done.trained_tokens > 0);
}

/// Refuses the small job with one change, in these words.
async fn check_refused(bench: &Bench, change: impl Fn(&mut NewJobInput), words: &[&str]) {
    let mut input = NewJobInput {
        training_file: Some(bench.file(&prompts()).await),
        ..mo_odpo(json!({}))
    };
    change(&mut input);
    let refused = bench.app.create_job(input).await.unwrap_err().to_string();
    for word in words {
        assert!(refused.contains(word), "`{word}` is not in: {refused}");
    }
}

fn part(input: &mut NewJobInput) -> &mut Value {
    &mut input.method.as_mut().unwrap()["mo_odpo"]
}

#[tokio::test]
async fn a_job_that_cannot_be_is_refused_by_field() {
    let bench = Bench::start().await;
    let texts = bench.file("{\"text\":\"The river is cold.\"}\n").await;
    check_refused(
        &bench,
        |input| input.model = Some("nobody".into()),
        &["nobody", "plain"],
    )
    .await;
    check_refused(
        &bench,
        |input| input.training_file = None,
        &["training_file"],
    )
    .await;
    check_refused(
        &bench,
        |input| input.training_file = Some("file-0".into()),
        &["file-0"],
    )
    .await;
    check_refused(
        &bench,
        |input| input.training_file = Some(texts.clone()),
        &["prompts", "texts"],
    )
    .await;
    check_refused(
        &bench,
        |input| input.method = Some(json!({"type": "ppo"})),
        &["method.type", "mo_odpo"],
    )
    .await;
    check_refused(
        &bench,
        |input| input.suffix = Some("a b".into()),
        &["suffix"],
    )
    .await;
    let base = bench.app.policies()[0].id.clone();
    check_refused(
        &bench,
        |input| input.suffix = Some(base.clone()),
        &["suffix", "base model"],
    )
    .await;
    check_refused(&bench, |input| input.seed = Some(u64::MAX), &["seed"]).await;
    check_refused(
        &bench,
        |input| input.validation_file = input.training_file.clone(),
        &["validation_file"],
    )
    .await;
    let (jobs, _) = bench.app.jobs(None, 9, &[]).await.unwrap();
    assert!(jobs.is_empty(), "nothing was made");
}

#[tokio::test]
async fn a_method_that_cannot_be_is_refused_by_field() {
    let bench = Bench::start().await;
    check_refused(
        &bench,
        |input| part(input)["hyperparameters"]["temperature"] = json!(9),
        &["method.mo_odpo.hyperparameters.temperature", "0.05 to 2"],
    )
    .await;
    check_refused(
        &bench,
        |input| {
            part(input)["hyperparameters"]["loss"] = json!("ipo");
            part(input)["hyperparameters"]["label_smoothing"] = json!(0.1);
        },
        &["hyperparameters.label_smoothing", "no effect"],
    )
    .await;
    check_refused(
        &bench,
        |input| part(input)["mood"] = json!(1),
        &["method.mo_odpo.mood"],
    )
    .await;
    check_refused(
        &bench,
        |input| part(input)["objectives"][0]["reward"]["rule"]["scale"] = json!(-1),
        &["objectives[0].reward", "scale"],
    )
    .await;
    check_refused(
        &bench,
        |input| part(input)["objectives"][0]["name"] = json!("Brevity"),
        &["Brevity"],
    )
    .await;
    check_refused(
        &bench,
        |input| part(input)["conditioning"]["open"] = json!("<"),
        &["conditioning"],
    )
    .await;
    check_refused(
        &bench,
        |input| drop(part(input).as_object_mut().unwrap().remove("conditioning")),
        &["conditioning", "`plain` has none"],
    )
    .await;
}
