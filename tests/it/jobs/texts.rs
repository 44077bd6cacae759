//! How many steps a pass over few texts takes, and what a step sees.

use serde_json::{Value, json};
use steersman::service::{JobInfo, NewJobInput};

use super::bench::Bench;

fn chats() -> String {
    let chat = |question: usize| {
        let turns = json!([{"role": "user", "content": format!("What is {question}?")},
            {"role": "assistant", "content": "A number."}]);
        format!("{}\n", json!({"messages": turns}))
    };
    (0..6).map(chat).collect()
}

async fn job(bench: &Bench, hyperparameters: Value) -> JobInfo {
    let input = NewJobInput {
        model: Some(bench.app.policies()[0].id.clone()),
        training_file: Some(bench.file(&chats()).await),
        method: Some(json!({"type": "supervised",
            "supervised": {"hyperparameters": hyperparameters}})),
        ..NewJobInput::default()
    };
    bench.app.create_job(input).await.unwrap()
}

#[tokio::test]
async fn passes_over_a_few_chats_are_as_many_as_were_asked_for() {
    let bench = Bench::start().await;
    let small = json!({"n_epochs": 2, "lora_rank": 4, "max_tokens": 64});
    let made = job(&bench, small).await;
    assert_eq!(made.hyperparameters["steps"], 12);
    assert_eq!(made.hyperparameters["batch_size"], 1);
    assert_eq!(made.hyperparameters["batch_tokens"], Value::Null);
    bench.runner().run_one().await.unwrap();
    let done = bench.app.job(&made.id).await.unwrap();
    let folder = bench.data().join(done.folder.clone().unwrap());
    let lines = std::fs::read_to_string(folder.with_file_name("metrics.jsonl")).unwrap();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!((&last["step"], &last["epoch"]), (&json!(12), &json!(2.0)));
}

#[tokio::test]
async fn a_step_over_texts_is_told_in_sequences_or_in_tokens() {
    let bench = Bench::start().await;
    let steps = async |hyperparameters: Value| {
        let made = job(&bench, hyperparameters).await;
        (
            made.hyperparameters["steps"].clone(),
            made.hyperparameters["batch_size"].clone(),
        )
    };
    let sized = json!({"n_epochs": 3, "batch_size": 4});
    assert_eq!(steps(sized).await, (json!(6), json!(4)));
    let auto = json!({"n_epochs": 3, "batch_size": "auto"});
    assert_eq!(steps(auto).await, (json!(18), json!(1)));
    let whole = json!({"n_epochs": 3, "batch_tokens": 8192});
    assert_eq!(steps(whole).await, (json!(3), Value::Null));
}
