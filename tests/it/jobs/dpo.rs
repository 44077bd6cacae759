//! DPO jobs over the API's shapes: made with OpenAI's part of a request, run by a worker.

use serde_json::{Value, json};
use steersman::service::{FineTuningError, JobInfo, JobStatus, NewJobInput};
use steersman::steering::SteeringManifest;

use super::bench::{Bench, prompts};

/// Pairs in the shape that OpenAI's API takes; every second one says under which weights it holds.
fn pairs(count: usize) -> String {
    let turn = |role: &str, text: &str| json!([{"role": role, "content": text}]);
    let rows = (0..count).map(|i| {
        let mut row = json!({
            "input": {"messages": turn("user", ["What is bread?", "Why wait a week?"][i % 2])},
            "preferred_output": turn("assistant", "Yes."),
            "non_preferred_output": turn("assistant", "Use cold water first."),
        });
        if i % 2 == 1 {
            row["weights"] = json!({"brevity": 0.8, "detail": 0.2});
        }
        format!("{row}\n")
    });
    rows.collect()
}

fn input(file: &str, more: Value) -> NewJobInput {
    let mut part = json!({"hyperparameters": {"batch_size": 2, "n_epochs": 2,
        "learning_rate_multiplier": 50, "lora_rank": 4, "micro_batch_tokens": 64}});
    for (name, value) in more.as_object().unwrap() {
        match name.as_str() {
            "objectives" | "conditioning" | "objective" => part[name] = value.clone(),
            _ => part["hyperparameters"][name] = value.clone(),
        }
    }
    NewJobInput {
        model: Some("plain".to_owned()),
        training_file: Some(file.to_owned()),
        method: Some(json!({"type": "dpo", "dpo": part})),
        seed: Some(5),
        suffix: Some("terse".to_owned()),
        ..NewJobInput::default()
    }
}

fn steered() -> Value {
    json!({
        "objectives": [{"name": "brevity"}, {"name": "detail"}],
        "conditioning": {"open": "<|pad|>", "close": "<|end_of_text|>",
            "template": "{brevity} {detail}", "decimals": 1},
    })
}

async fn run(bench: &Bench, input: NewJobInput) -> JobInfo {
    let job = bench.app.create_job(input).await.unwrap();
    bench.runner().run_one().await.unwrap();
    let job = bench.app.job(&job.id).await.unwrap();
    assert_eq!(job.status, JobStatus::Succeeded, "{:?}", job.error);
    job
}

#[tokio::test]
async fn a_dpo_job_runs_shows_its_defaults_and_makes_a_steered_policy() {
    let bench = Bench::start().await;
    let file = bench.file(&pairs(6)).await;
    let input = NewJobInput {
        validation_file: Some(file.clone()),
        ..input(&file, steered())
    };
    let job = run(&bench, input).await;
    assert_eq!((job.method.as_str(), job.total_steps), ("dpo", 6));
    for (name, value) in [
        ("beta", json!(0.1)),
        ("loss", json!("sigmoid")),
        ("label_smoothing", json!(0.0)),
        ("anchor_weight", json!(0.0)),
        ("batch_size", json!(2)),
        ("n_epochs", json!(2.0)),
        ("learning_rate_multiplier", json!(50.0)),
        ("learning_rate", json!(0.002)),
        ("max_tokens", json!(512)),
        ("measure_every", json!(50)),
    ] {
        assert_eq!(job.hyperparameters[name], value, "{name}");
    }
    assert!(job.trained_tokens > 0);
    let folder = bench.data().join(job.folder.unwrap());
    let manifest = SteeringManifest::load(&folder).unwrap();
    assert_eq!(
        (manifest.name.as_str(), manifest.objectives.len()),
        ("terse", 2)
    );
    let (checkpoints, _) = bench.app.job_checkpoints(&job.id, None, 9).await.unwrap();
    let metrics = &checkpoints[0].metrics;
    for name in [
        "train_loss",
        "valid_loss",
        "test_accuracy",
        "tokens_per_second",
    ] {
        assert!(metrics[name].is_number(), "{name}: {metrics}");
    }
}

#[tokio::test]
async fn a_policy_that_can_be_steered_stays_so() {
    let bench = Bench::start().await;
    let row = json!({"prompt": [{"role": "user", "content": "What is bread?"}],
        "chosen": "Yes.", "rejected": "Use cold water first."});
    let file = bench.file(&format!("{row}\n")).await;
    let input = NewJobInput {
        model: Some("kind".to_owned()),
        ..input(&file, json!({"n_epochs": 1}))
    };
    let job = run(&bench, input).await;
    let manifest = SteeringManifest::load(&bench.data().join(job.folder.unwrap())).unwrap();
    let policies = bench.app.policies();
    let before = policies.iter().find(|policy| policy.id == "kind");
    let before = before.and_then(|policy| policy.manifest.as_ref()).unwrap();
    assert_eq!(manifest.objectives, before.objectives);
    assert_eq!(manifest.conditioning, before.conditioning);
    assert_eq!(manifest.normalizers, before.normalizers);
}

#[tokio::test]
async fn a_dpo_job_that_cannot_be_is_refused_by_field() {
    let bench = Bench::start().await;
    let (good, texts) = (bench.file(&pairs(2)).await, bench.file(&prompts()).await);
    let refused = async |input: NewJobInput, words: &[&str]| {
        let told = bench.app.create_job(input).await.unwrap_err();
        assert!(matches!(told, FineTuningError::Request(_)), "{told:?}");
        for word in words {
            assert!(
                told.to_string().contains(word),
                "`{word}` is not in: {told}"
            );
        }
    };
    let hyper = "method.dpo.hyperparameters";
    refused(
        input(&good, json!({"beta": 0})),
        &[&format!("{hyper}.beta"), "above 0, at most 1000"],
    )
    .await;
    refused(
        input(&good, json!({"batch_size": 5000})),
        &[&format!("{hyper}.batch_size"), "1 to 4096"],
    )
    .await;
    refused(
        input(&good, json!({"loss": "hinge", "label_smoothing": 0.1})),
        &[&format!("{hyper}.label_smoothing"), "no effect"],
    )
    .await;
    refused(
        input(&good, json!({"kl_cap": 1})),
        &["kl_cap", "no hyperparameter of dpo"],
    )
    .await;
    refused(
        input(&texts, json!({})),
        &["training_file", "must hold pairs"],
    )
    .await;
    let mut half = steered();
    half["conditioning"]["template"] = json!("{brevity}");
    refused(input(&good, half), &["method.dpo.conditioning", "{detail}"]).await;
    let mut forged = steered();
    forged["conditioning"]["open"] = json!("<");
    refused(input(&good, forged), &["method.dpo.conditioning", "`<`"]).await;
}

#[tokio::test]
async fn pairs_whose_weights_nobody_could_be_told_fail_the_job_by_line() {
    let bench = Bench::start().await;
    let file = bench.file(&pairs(2)).await;
    let job = bench.app.create_job(input(&file, json!({}))).await.unwrap();
    bench.runner().run_one().await.unwrap();
    let error = bench.app.job(&job.id).await.unwrap().error.unwrap();
    assert_eq!(error.code, "invalid_data");
    assert!(
        error.message.contains("line 2: it has weights"),
        "{}",
        error.message
    );
}
