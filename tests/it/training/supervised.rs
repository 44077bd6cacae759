//! Whole supervised jobs on a tiny model.

use std::fs;
use std::path::Path;

use steersman::text::PromptEncoder;
use steersman::training::batches::TextSet;
use steersman::training::config::{Job, SupervisedJob};
use steersman::training::observe::Ending;
use steersman::training::supervised::run;

use super::recorder::Recorder;
use crate::fixtures::fixture;

const ROWS: &str = r#"{"text":"The river is cold and the bread is warm. A friend waits by the river."}
{"messages":[{"role":"user","content":"What is cold?"},{"role":"assistant","content":"The river is cold."}]}
{"prompt":[{"role":"user","content":"What is warm?"}],"concise":"Bread.","detailed":"The bread is warm."}
"#;

const WARM_UP: &str = r#"
[warm_up.facts]
objectives = ["brevity", "detail"]
share = 0.5
conditioning = { kind = "weights_text", open = "<|pad|>", close = "<|end_of_text|>", template = "{brevity} {detail}", decimals = 1 }
"#;

fn job(folder: &Path, before: &str, after: &str) -> SupervisedJob {
    let texts = folder.join("texts.jsonl");
    fs::write(&texts, ROWS).unwrap();
    let text = format!(
        r#"
batch_tokens = 96
micro_batch_tokens = 64
measure_every = 5
{before}

[job]
kind = "supervised"
model = "{model}"
output = "{output}"
seed = 3
steps = 10
save_every = 4

[data]
train = [{{ path = "{texts}", repeat = 2{carries} }}]
test = ["{texts}"]
max_tokens = 24

[optimizer]
learning_rate = 0.005

{after}
"#,
        model = fixture("llama").display(),
        output = folder.join("run").display(),
        texts = texts.display(),
        carries = if after == WARM_UP {
            ", warm_up = \"facts\""
        } else {
            ""
        },
    );
    match Job::parse(&text, Path::new("job.toml")).unwrap() {
        Job::Supervised(job) => *job,
        other => panic!("expected a supervised job, got {other:?}"),
    }
}

fn check_learns(before: &str, after: &str, result: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::new(None);
    let ending = run(&job(folder.path(), before, after), &mut recorder).unwrap();
    assert_eq!(ending, Ending::Finished);
    let loss = |step: usize| recorder.reports[step - 1].metric("test_loss").unwrap();
    assert!(loss(10) < loss(5), "{} then {}", loss(5), loss(10));
    assert!(recorder.reports[0].metric("loss").unwrap() > loss(10));
    assert!(folder.path().join("run").join(result).exists());
}

#[test]
fn a_whole_model_learns_a_text() {
    check_learns("", "[policy]\ntrain = \"full\"", "model/model.safetensors");
}

#[test]
fn a_fresh_model_learns_a_text() {
    check_learns(
        "start = \"fresh\"",
        "[policy]\ntrain = \"full\"",
        "model/model.safetensors",
    );
}

#[test]
fn an_adapter_learns_a_text_under_random_weights() {
    check_learns("", WARM_UP, "adapter/adapter_model.safetensors");
}

#[test]
fn an_interrupted_supervised_job_goes_on_to_the_bit() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(&job(whole.path(), "", WARM_UP), &mut Recorder::new(None)).unwrap();
    for stop_after in [Some(3), Some(7), None] {
        run(
            &job(parts.path(), "", WARM_UP),
            &mut Recorder::new(stop_after),
        )
        .unwrap();
    }
    // The data lies elsewhere, so the jobs differ in their paths; the tensors must not.
    for name in ["adapter/adapter_model.safetensors", "metrics.jsonl"] {
        let read = |folder: &Path| fs::read(folder.join("run").join(name)).unwrap();
        assert!(read(whole.path()) == read(parts.path()), "{name} differs");
    }
}

#[test]
fn no_step_meets_a_text_twice() {
    let check = |batch: &str, epochs: &[f64]| {
        let folder = tempfile::tempdir().unwrap();
        let mut job = job(folder.path(), "", "");
        job.job.steps = epochs.len() as u64;
        job.data.train[0].repeat = 1;
        (job.batch_tokens, job.sequences_per_step) = match batch {
            "tokens" => (8192, None),
            _ => (1, Some(3)),
        };
        let mut recorder = Recorder::new(None);
        run(&job, &mut recorder).unwrap();
        let metric = |name: &str| -> Vec<f64> {
            let reports = recorder.reports.iter();
            reports.map(|report| report.metric(name).unwrap()).collect()
        };
        assert_eq!(metric("epoch"), epochs, "by {batch}");
        metric("trained_tokens")
    };
    // the text in two pieces, and three dialogues
    let whole = check("tokens", &[1.0, 2.0]);
    assert_eq!(whole[0], whole[1]);
    let parts = check("sequences", &[0.6, 1.0, 1.6, 2.0]);
    assert_eq!(parts[0] + parts[1], whole[0]);
    assert_eq!(parts[2] + parts[3], whole[0]);
}

#[test]
fn weights_in_hindsight_suit_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let row = |answer: &str, scores: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","content":"{answer}"}}],"scores":{scores}}}"#
        )
    };
    let mut job = job(folder.path(), "", WARM_UP);
    let warm_up = job.warm_up.get_mut("facts").unwrap();
    (warm_up.share, warm_up.lean) = (1.0, 200.0);
    warm_up.conditioning.template = "{detail} {brevity}".into();
    let rows = [
        row("b", r#"{"brevity":1.0}"#),
        row("c", r#"{"detail":1.0}"#),
    ];
    fs::write(&job.data.train[0].path, rows.join("\n")).unwrap();
    let encoder = PromptEncoder::load(&fixture("llama")).unwrap();
    let texts = TextSet::read(&job, &encoder).unwrap();
    for (place, told) in [(0, "0.0 1.0"), (1, "1.0 0.0")] {
        let hits = (0..50).filter(|turn| {
            let sequence = texts.sequence(place, *turn).unwrap();
            let text = encoder.tokenizer().decode(&sequence.tokens);
            text.contains(told)
        });
        // With a fifth of the draws at a corner, some 16 candidates hold none of this one.
        assert!(hits.count() > 30, "place {place}");
    }
}

#[test]
fn a_source_whose_warm_up_is_unknown_is_refused_by_name() {
    let text = "[job]\nkind = \"supervised\"\nmodel = \"m\"\noutput = \"o\"\nseed = 1\nsteps = 1\n\
        [data]\ntrain = [{ path = \"t.jsonl\", warm_up = \"facts\" }]\n";
    let error = Job::parse(text, Path::new("job.toml")).unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("facts") && text.contains("warm_up"), "{text}");
}
