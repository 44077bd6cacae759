//! Whole DPO jobs on a tiny model: they learn, they resume to the bit, they refuse bad pairs.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use steersman::steering::SteeringManifest;
use steersman::training::TrainingError;
use steersman::training::config::{DpoJob, Job};
use steersman::training::dpo::run;
use steersman::training::observe::Ending;

use super::recorder::Recorder;
use crate::fixtures::fixture;

const STEERED: &str = r#"
[[objectives]]
name = "brevity"

[[objectives]]
name = "detail"

[conditioning]
open = "<|pad|>"
close = "<|end_of_text|>"
template = "{brevity} {detail}"
decimals = 1
"#;

fn pair(prompt: &str, answers: [&str; 2], more: Value) -> String {
    let mut row = json!({
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": answers[0],
        "rejected": answers[1],
    });
    for (name, value) in more.as_object().unwrap() {
        row[name] = value.clone();
    }
    format!("{row}\n")
}

const PROMPTS: [&str; 4] = [
    "What is bread?",
    "Why wait a week?",
    "Who is a friend?",
    "Use cold water?",
];
const ANSWERS: [&str; 2] = ["Yes.", "Use cold water first."];

/// Under weights on brevity the short answer is the better one, under others the long one.
fn steered_rows() -> String {
    let under = |prompt: &str| {
        let [short, long] = ANSWERS;
        let brief = pair(
            prompt,
            [short, long],
            json!({"weights": {"brevity": 3, "detail": 1}}),
        );
        let wordy = pair(prompt, [long, short], json!({"objective": "detail"}));
        [brief, wordy, pair(prompt, [short, long], json!({}))].concat()
    };
    PROMPTS.map(under).concat()
}

fn plain_rows() -> String {
    PROMPTS
        .map(|prompt| pair(prompt, ANSWERS, json!({"objective": "brevity"})))
        .concat()
}

fn parse(folder: &Path, rows: &str, more: &str) -> Result<DpoJob, TrainingError> {
    let (pairs, test) = (folder.join("pairs.jsonl"), folder.join("test.jsonl"));
    fs::write(&pairs, rows).unwrap();
    fs::write(
        &test,
        pair(
            "Who has the hammer?",
            ANSWERS,
            json!({"objective": "brevity"}),
        ),
    )
    .unwrap();
    let text = format!(
        r#"
pairs_per_step = 3
micro_batch_tokens = 64
measure_every = 3

[job]
kind = "dpo"
model = "{model}"
output = "{output}"
seed = 11
steps = 6
save_every = 2

[data]
train = ["{pairs}"]
test = ["{test}"]

[optimizer]
learning_rate = 0.01

{more}
"#,
        model = fixture("llama").display(),
        output = folder.join("run").display(),
        pairs = pairs.display(),
        test = test.display(),
    );
    Job::parse(&text, Path::new("job.toml")).map(|job| match job {
        Job::Dpo(job) => *job,
        other => panic!("expected a DPO job, got {other:?}"),
    })
}

const SMALL: &str = "[policy.lora]\nrank = 4\nalpha = 8.0\n";

fn job(folder: &Path, rows: &str, more: &str) -> DpoJob {
    parse(folder, rows, more).unwrap()
}

fn bytes(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join("run").join(name)).unwrap()
}

#[test]
fn a_job_prefers_what_its_pairs_prefer() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path(), &plain_rows(), SMALL);
    job.job.steps = 12;
    let mut recorder = Recorder::new(None);
    assert_eq!(run(&job, &mut recorder).unwrap(), Ending::Finished);
    let (first, last) = (&recorder.reports[0], &recorder.reports[11]);
    // The adapter starts as the identity: loss ln 2, no margin.
    assert!((first.metric("loss").unwrap() - 2f64.ln()).abs() < 1e-4);
    assert!(first.metric("margin").unwrap().abs() < 1e-3);
    assert!(last.metric("loss").unwrap() < 0.5, "{last:?}");
    assert_eq!(last.metric("accuracy"), Some(1.0));
    let rewards = ["implicit_reward/chosen", "implicit_reward/rejected"];
    let [chosen, rejected] = rewards.map(|name| last.metric(name).unwrap());
    let margin = last.metric("margin").unwrap();
    assert!((chosen - rejected - margin).abs() < 1e-4 && chosen > rejected);
    // a prompt that it never saw, measured every third step
    assert_eq!(recorder.reports[0].metric("test_loss"), None);
    assert_eq!(last.metric("test_accuracy"), Some(1.0));
    assert!(last.metric("test_loss").unwrap() < recorder.reports[2].metric("test_loss").unwrap());
    let policy = folder.path().join("run/policy");
    assert!(policy.join("adapter_model.safetensors").exists());
    assert!(!policy.join("steering.json").exists(), "it is not steered");
}

#[test]
fn pairs_with_weights_make_a_policy_that_is_steered() {
    let folder = tempfile::tempdir().unwrap();
    let rows = steered_rows();
    let mut job = job(folder.path(), &rows, &format!("{SMALL}{STEERED}"));
    job.data.test = job.data.train.clone();
    job.job.steps = 48;
    job.pairs_per_step = 6;
    job.loss.beta = 0.3;
    let mut recorder = Recorder::new(None);
    run(&job, &mut recorder).unwrap();
    // the same two answers, one way round and the other: only the weights tell them apart
    let last = recorder.reports.last().unwrap();
    assert_eq!(last.metric("test_accuracy"), Some(1.0), "{last:?}");
    let manifest = SteeringManifest::load(&folder.path().join("run/policy")).unwrap();
    assert_eq!(manifest.objectives.names(), "brevity, detail");
    assert_eq!(manifest.training["method"], "dpo");
    assert!(manifest.base.is_some());
}

fn check_resume(rows: &str, more: &str, result: &str) {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(&job(whole.path(), rows, more), &mut Recorder::new(None)).unwrap();
    for stop in [Some(1), Some(3), None] {
        let ending = run(&job(parts.path(), rows, more), &mut Recorder::new(stop)).unwrap();
        assert_eq!(ending == Ending::Finished, stop.is_none());
    }
    for name in [
        result,
        "state/step-00000006/tensors.safetensors",
        "metrics.jsonl",
    ] {
        assert!(
            bytes(whole.path(), name) == bytes(parts.path(), name),
            "{name} differs"
        );
    }
}

#[test]
fn an_interrupted_job_goes_on_to_the_bit() {
    let more = format!("{SMALL}{STEERED}\n[terms]\nanchor_weight = 0.1");
    check_resume(&steered_rows(), &more, "policy/adapter_model.safetensors");
}

#[test]
fn an_interrupted_job_over_a_whole_model_goes_on_to_the_bit() {
    let more = "[policy]\ntrain = \"full\"\n[loss]\nkind = \"ipo\"";
    check_resume(&plain_rows(), more, "policy/model.safetensors");
}

#[test]
fn a_whole_model_is_written_in_the_numbers_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let more = "[policy]\ntrain = \"full\"\nsave_dtype = \"bf16\"";
    let mut job = job(folder.path(), &plain_rows(), more);
    job.job.steps = 1;
    run(&job, &mut Recorder::new(None)).unwrap();
    let written = bytes(folder.path(), "policy/model.safetensors");
    let header = String::from_utf8_lossy(&written[8..2000]).into_owned();
    assert!(
        header.contains("BF16") && !header.contains("F32"),
        "{header}"
    );
}

/// Everything is trained: the embedding, which is the head's too, the norms and every layer.
#[test]
fn a_job_that_recomputes_its_layers_has_the_same_bits_and_may_change_its_mind() {
    let more =
        |recompute: bool| format!("[policy]\ntrain = \"full\"\nrecompute_layers = {recompute}");
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [kept, recomputed, changed] = folders.each_ref().map(|folder| folder.path());
    let run_with = |folder: &Path, recompute: bool, stop: Option<u64>| {
        let job = job(folder, &plain_rows(), &more(recompute));
        run(&job, &mut Recorder::new(stop)).unwrap()
    };
    run_with(kept, false, None);
    run_with(recomputed, true, None);
    run_with(changed, false, Some(3));
    assert_eq!(run_with(changed, true, None), Ending::Finished);
    for name in ["policy/model.safetensors", "metrics.jsonl"] {
        let expected = bytes(kept, name);
        assert!(bytes(recomputed, name) == expected, "{name} differs");
        assert!(
            bytes(changed, name) == expected,
            "{name} differs after a change"
        );
    }
}

fn refused(rows: &str, more: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    match parse(folder.path(), rows, more) {
        Ok(job) => run(&job, &mut Recorder::new(None)).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn bad_pairs_are_named_by_file_and_line() {
    let good = pair("Hi?", ANSWERS, json!({}));
    let weights = |weights: Value| pair("Hi?", ANSWERS, json!({"weights": weights}));
    for (bad, more, words) in [
        ("{".to_owned(), SMALL, "not JSON"),
        (pair("Hi?", ["a", "a"], json!({})), SMALL, "the same text"),
        (weights(json!({"brevity": 1})), SMALL, "no conditioning"),
        (weights(json!({"humour": 1})), STEERED, "`humour`"),
        (
            weights(json!({"brevity": -1})),
            STEERED,
            "expected 0 or more",
        ),
        (
            pair("Hi?", ANSWERS, json!({"objective": "wit"})),
            STEERED,
            "`wit`",
        ),
    ] {
        let told = refused(&format!("{good}{bad}"), more);
        assert!(told.contains("pairs.jsonl, line 2"), "{told}");
        assert!(told.contains(words), "`{words}` is not in: {told}");
    }
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    for (more, words) in [
        (
            "[[objectives]]\nname = \"brevity\"",
            ["`conditioning`", "is missing"],
        ),
        (
            "[loss]\nkind = \"hinge\"\nlabel_smoothing = 0.1",
            ["label_smoothing", "no effect"],
        ),
        (
            "[terms]\nmi_term = true",
            ["job.toml", "not a valid job file"],
        ),
    ] {
        let told = refused(&plain_rows(), more);
        for word in words {
            assert!(told.contains(word), "`{word}` is not in: {told}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut short = job(folder.path(), &plain_rows(), SMALL);
    short.data.max_tokens = 8;
    let told = run(&short, &mut Recorder::new(None))
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("no pair of any objective has at most 8 tokens"),
        "{told}"
    );
}

#[test]
fn only_pairs_of_the_objective_asked_for_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(
        folder.path(),
        &steered_rows().replace("weights", "notes"),
        SMALL,
    );
    job.data.objective = Some("wit".into());
    let told = run(&job, &mut Recorder::new(None)).unwrap_err().to_string();
    assert!(told.contains("no pair of wit"), "{told}");
}
