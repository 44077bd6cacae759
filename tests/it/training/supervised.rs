//! Whole supervised jobs on a tiny model.

use std::fs;
use std::path::Path;

use steersman::service::Inspection;
use steersman::steering::SteeringManifest;
use steersman::text::PromptEncoder;
use steersman::training::batches::TextSet;
use steersman::training::config::{Job, SupervisedJob, Tells};
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

/// A job whose two dialogues are told their own scores.
fn told_scores(folder: &Path, conditioning: &str) -> SupervisedJob {
    let mut job = job(folder, "", WARM_UP);
    let warm_up = job.warm_up.get_mut("facts").unwrap();
    warm_up.conditioning = toml::from_str(&format!(
        "open = \"<|pad|>\"\nclose = \"<|end_of_text|>\"\ntemplate = \"s {{brevity}} {{detail}} e\"\n{conditioning}"
    ))
    .unwrap();
    (warm_up.share, warm_up.tells) = (1.0, Tells::Scores);
    job.data.max_tokens = 64;
    let row = |answer: &str, scores: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","content":"{answer}"}}],"scores":{scores}}}"#
        )
    };
    let rows = [
        row("b", r#"{"brevity":1.0,"detail":9.0}"#),
        row("c", r#"{"brevity":3.0,"detail":2.0}"#),
    ];
    fs::write(&job.data.train[0].path, rows.join("\n")).unwrap();
    job
}

const RANGES: &str = "targets = [{ low = -2.0, high = 2.0 }, { low = 0.0, high = 2.0 }]";

#[test]
fn dialogues_are_told_their_own_scores() {
    let encoder = PromptEncoder::load(&fixture("llama")).unwrap();
    for (kind, decimals, expected) in [
        // one standard deviation below and above the mean, within the ranges
        ("reward_tokens", 1, ["s -1.0 1.0 e", "s 1.0 0.0 e"]),
        ("score_tokens", 0, ["s 1 2 e", "s 2 2 e"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let conditioning = format!("kind = \"{kind}\"\ndecimals = {decimals}\n{RANGES}");
        let job = told_scores(folder.path(), &conditioning);
        let texts = TextSet::read(&job, &encoder).unwrap();
        for (place, told) in expected.iter().enumerate() {
            for turn in 0..3 {
                let sequence = texts.sequence(place, turn).unwrap();
                let text = encoder.tokenizer().decode(&sequence.tokens);
                assert!(text.contains(told), "{kind}: {text} does not tell {told}");
            }
        }
    }
}

#[test]
fn what_learnt_from_scores_can_be_served_and_asked_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let conditioning = format!("kind = \"reward_tokens\"\ndecimals = 1\n{RANGES}");
    let job = told_scores(folder.path(), &conditioning);
    run(&job, &mut Recorder::new(None)).unwrap();
    let made = folder.path().join("run/adapter");
    let manifest = SteeringManifest::load(&made).unwrap();
    assert_eq!(
        (manifest.normalizers[0].mean, manifest.normalizers[0].std),
        (2.0, 1.0)
    );
    assert_eq!(
        (manifest.normalizers[1].mean, manifest.normalizers[1].clip),
        (5.5, 2.0)
    );
    let weights = manifest.objectives.from_ordered(&[1.0, 0.0]).unwrap();
    assert_eq!(manifest.conditioning.told(&weights), [2.0, 0.0]);
    // over its base it is a policy that serves
    let model = crate::http::folder::base();
    let files = [
        "adapter_config.json",
        "adapter_model.safetensors",
        "steering.json",
    ];
    crate::http::folder::copy_files(&made, &model.path().join("policies/told"), &files);
    let seen = Inspection::of(model.path());
    assert!(seen.is_servable(), "{seen}");
    assert!(
        seen.to_string()
            .contains("told reward_tokens by the rule l2"),
        "{seen}"
    );
}

#[test]
fn scores_that_cannot_be_told_are_refused_by_name() {
    let encoder = PromptEncoder::load(&fixture("llama")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let conditioning = format!("kind = \"score_tokens\"\ndecimals = 0\n{RANGES}");
    let job = told_scores(folder.path(), &conditioning);
    let row = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"scores":{"brevity":1.0}}"#;
    for (rows, said) in [
        (row.to_owned(), "no score of `detail`"),
        (
            format!("{0}\n{0}", row.replace(":1.0", ":1.0,\"detail\":2")),
            "scores of `brevity`",
        ),
    ] {
        fs::write(&job.data.train[0].path, rows).unwrap();
        let error = TextSet::read(&job, &encoder).err().unwrap().to_string();
        assert!(error.contains(said), "{error} does not say {said}");
    }
    let text = "[job]\nkind = \"supervised\"\nmodel = \"m\"\noutput = \"o\"\nseed = 1\nsteps = 1\n\
        [data]\ntrain = [{ path = \"t.jsonl\", warm_up = \"facts\" }]\n";
    let text = format!("{text}{WARM_UP}tells = \"scores\"\n");
    let error = Job::parse(&text, Path::new("job.toml")).unwrap_err();
    let text = format!("{error:?}");
    assert!(
        text.contains("warm_up.tells") && text.contains("weights_text"),
        "{text}"
    );
}

#[test]
fn a_source_whose_warm_up_is_unknown_is_refused_by_name() {
    let text = "[job]\nkind = \"supervised\"\nmodel = \"m\"\noutput = \"o\"\nseed = 1\nsteps = 1\n\
        [data]\ntrain = [{ path = \"t.jsonl\", warm_up = \"facts\" }]\n";
    let error = Job::parse(text, Path::new("job.toml")).unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("facts") && text.contains("warm_up"), "{text}");
}
