//! Whole reward-model jobs on a tiny model.

use std::fs;
use std::path::Path;

use steersman::rewards::{ClassifierInput, Exchange, RewardConfig, build};
use steersman::training::config::{Job, RewardModelJob, SaveDtype};
use steersman::training::data::read_pairs;
use steersman::training::observe::Ending;
use steersman::training::reward_model::{Agreement, RewardCard, run};

use super::recorder::Recorder;
use crate::fixtures::fixture;

/// Pairs in which the answer with "cold water" wins, whatever the prompt.
fn rows(count: usize) -> String {
    let filler = [
        "bread",
        "a week",
        "a friend",
        "the hammer",
        "a letter",
        "the river",
    ];
    (0..count)
        .map(|i| {
            let prompt = format!("What about {} and {}?", filler[i % 6], filler[(i / 6) % 6]);
            format!(
                "{{\"prompt\":[{{\"role\":\"user\",\"content\":\"{prompt}\"}}],\
                 \"chosen\":\"Use cold water first.\",\"rejected\":\"Ask {} again.\",\
                 \"objective\":\"helpful\"}}\n",
                filler[(i + 1) % 6]
            )
        })
        .collect()
}

fn job(folder: &Path, train: &str) -> RewardModelJob {
    let (pairs, test) = (folder.join("train.jsonl"), folder.join("test.jsonl"));
    fs::write(&pairs, rows(24)).unwrap();
    fs::write(&test, rows(12)).unwrap();
    let text = format!(
        r#"
pairs_per_step = 8
micro_batch_tokens = 256

[job]
kind = "reward_model"
model = "{model}"
output = "{output}"
seed = 5
steps = 12
save_every = 6

[data]
train = ["{pairs}"]
test = ["{test}"]
objective = "helpful"

[policy]
train = "{train}"
lora = {{ rank = 4, alpha = 8.0 }}

[optimizer]
learning_rate = 0.01
"#,
        model = fixture("llama").display(),
        output = folder.join("run").display(),
        pairs = pairs.display(),
        test = test.display(),
    );
    match Job::parse(&text, Path::new("job.toml")).unwrap() {
        Job::RewardModel(job) => *job,
        other => panic!("expected a reward-model job, got {other:?}"),
    }
}

fn check_learns(train: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::new(None);
    assert_eq!(
        run(&job(folder.path(), train), &mut recorder).unwrap(),
        Ending::Finished
    );
    let loss = |i: usize| recorder.reports[i].metric("loss").unwrap();
    assert!(loss(11) < 0.5 * loss(0), "{} then {}", loss(0), loss(11));
    let text = fs::read(folder.path().join("run/agreement.json")).unwrap();
    let agreement: Agreement = serde_json::from_slice(&text).unwrap();
    assert_eq!((agreement.pairs, agreement.accuracy.value), (12, 1.0));
    assert!(
        agreement.accuracy.low < 0.9,
        "twelve pairs prove little: {agreement:?}"
    );
    let card = RewardCard::load(&folder.path().join("run/model"));
    let card = card.unwrap().unwrap();
    assert_eq!(card.objective.as_deref(), Some("helpful"));
    assert_eq!((card.base.name.as_str(), card.steps), ("llama", 12));
    assert_eq!(card.agreement, agreement);
    let config = fs::read(folder.path().join("run/model/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["architectures"][0], "LlamaForSequenceClassification");
    assert_eq!(config["num_labels"], 1);
    let tensors = fs::read(folder.path().join("run/model/model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&tensors).unwrap();
    assert_eq!(tensors.tensor("score.weight").unwrap().shape(), [1, 64]);
    assert!(tensors.tensor("lm_head.weight").is_err());
    check_serves(folder.path(), agreement.mean_margin, 1e-3);
}

/// The written checkpoint is a reward whose margins are those that the training measured: an
/// adapter is merged rightly, and both sides encode a conversation alike.
fn check_serves(folder: &Path, expected: f64, tolerance: f64) {
    let path = folder.join("run/model");
    let config = RewardConfig::Classifier {
        path,
        label: 0,
        input: ClassifierInput::Auto,
    };
    let reward = build(&config).unwrap();
    let margins = read_pairs(&folder.join("test.jsonl"))
        .unwrap()
        .into_iter()
        .map(|pair| {
            let exchange = |completion| Exchange {
                prompt: &pair.prompt,
                completion,
                completion_tokens: 4,
                finished: true,
                record: &serde_json::Value::Null,
            };
            let scores = reward
                .score(&[exchange(&pair.chosen), exchange(&pair.rejected)])
                .unwrap();
            f64::from(scores[0] - scores[1])
        });
    let margins: Vec<f64> = margins.collect();
    assert!(margins.iter().all(|margin| *margin > 0.0), "{margins:?}");
    let mean = margins.iter().sum::<f64>() / margins.len() as f64;
    assert!(
        (mean - expected).abs() < tolerance * expected,
        "{mean} is not {expected}"
    );
}

#[test]
fn a_finished_reward_model_is_written_again_in_half_the_size() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path(), "full");
    run(&job, &mut Recorder::new(None)).unwrap();
    let written = |name: &str| fs::read(folder.path().join("run/model").join(name)).unwrap();
    let size = written("model.safetensors").len();
    job.policy.save_dtype = SaveDtype::Bf16;
    run(&job, &mut Recorder::new(None)).unwrap();
    assert!(written("model.safetensors").len() < size * 11 / 20);
    let config: serde_json::Value = serde_json::from_slice(&written("config.json")).unwrap();
    assert_eq!(config["dtype"], "bfloat16");
    let text = fs::read(folder.path().join("run/agreement.json")).unwrap();
    let agreement: Agreement = serde_json::from_slice(&text).unwrap();
    check_serves(folder.path(), agreement.mean_margin, 0.02);
}

#[test]
fn an_adapter_learns_which_answer_wins() {
    check_learns("lora");
}

#[test]
fn a_whole_model_learns_which_answer_wins() {
    check_learns("full");
}

#[test]
fn lengths_are_those_of_the_whole_answers_where_conversations_are_cut() {
    let agreement = |max_tokens: usize| {
        let folder = tempfile::tempdir().unwrap();
        let mut job = job(folder.path(), "lora");
        job.job.steps = 1;
        job.data.max_tokens = max_tokens;
        run(&job, &mut Recorder::new(None)).unwrap();
        let text = fs::read(folder.path().join("run/agreement.json")).unwrap();
        serde_json::from_slice::<Agreement>(&text).unwrap()
    };
    // 8 tokens are fewer than any answer has here, so all conversations are equally long
    let (cut, whole) = (agreement(8), agreement(512));
    assert!(whole.same_length < whole.pairs, "{whole:?}");
    assert_eq!(cut.same_length, whole.same_length);
    assert_eq!(cut.longer_wins, whole.longer_wins);
}

#[test]
fn an_interrupted_reward_model_goes_on_to_the_bit() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(&job(whole.path(), "lora"), &mut Recorder::new(None)).unwrap();
    for stop_after in [Some(5), None] {
        run(&job(parts.path(), "lora"), &mut Recorder::new(stop_after)).unwrap();
    }
    for name in ["model/model.safetensors", "metrics.jsonl", "agreement.json"] {
        let read = |folder: &Path| fs::read(folder.join("run").join(name)).unwrap();
        assert!(read(whole.path()) == read(parts.path()), "{name} differs");
    }
}
