//! Whole MO-ODPO jobs on a tiny model: they run, they resume to the bit, they refuse bad input.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use steersman::text::PromptEncoder;
use steersman::training::TrainingError;
use steersman::training::config::{Job, MoOdpoJob};
use steersman::training::loss::{LossSettings, PreferenceLoss};
use steersman::training::mo_odpo::run;
use steersman::training::observe::Ending;
use steersman::types::Message;

use super::recorder::Recorder;
use crate::fixtures::fixture;
use crate::rewards::service::stand_in::{Says, StandIn};

/// Four prompts, two opposed objectives over the answer's length, steps that take no time.
pub(super) fn job(folder: &Path, more: &str) -> MoOdpoJob {
    let prompts = folder.join("prompts.jsonl");
    let rows: String = [
        "What is bread?",
        "Why wait a week?",
        "Who is a friend?",
        "Use cold water?",
    ]
    .iter()
    .map(|text| format!("{{\"prompt\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}\n"))
    .collect();
    fs::write(&prompts, rows).unwrap();
    let text = format!(
        r#"
objectives = [
  {{ name = "brevity", description = "Short.", reward = {{ kind = "rule", rule = {{ name = "length", unit = "characters", goal = "shorter", scale = 8.0 }} }} }},
  {{ name = "detail", description = "Long.", reward = {{ kind = "rule", rule = {{ name = "length", unit = "characters", goal = "longer", scale = 8.0 }} }} }},
]

[job]
kind = "mo_odpo"
model = "{model}"
output = "{output}"
seed = 11
steps = 4
save_every = 2

[data]
prompts = ["{prompts}"]
max_prompt_tokens = 100

[conditioning]
kind = "weights_text"
open = "<|pad|>"
close = "<|end_of_text|>"
template = "{{brevity}} {{detail}}"
decimals = 1

[optimizer]
learning_rate = 0.01

[policy.lora]
rank = 4
alpha = 8.0

[rollout]
prompts_per_step = 4
max_tokens = 12
micro_batch_tokens = 64

[normalization]
samples = 32

{more}
"#,
        model = fixture("llama").display(),
        output = folder.join("run").display(),
        prompts = prompts.display(),
    );
    match Job::parse(&text, Path::new("job.toml")).unwrap() {
        Job::MoOdpo(job) => *job,
        other => panic!("expected an MO-ODPO job, got {other:?}"),
    }
}

fn bytes(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join("run").join(name)).unwrap()
}

#[test]
fn a_job_runs_to_its_end_and_writes_a_policy() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::new(None);
    let ending = run(&job(folder.path(), ""), &mut recorder).unwrap();
    assert_eq!(ending, Ending::Finished);
    assert_eq!(recorder.reports.len(), 4);
    let first = &recorder.reports[0];
    for name in [
        "loss",
        "grad_norm",
        "margin",
        "accuracy",
        "kl/sequence",
        "kl/token",
        "entropy",
        "completion_tokens",
        "eos_rate",
        "tie_rate",
        "trained_tokens",
        "reward/brevity/mean",
        "reward/detail/std",
    ] {
        assert!(first.metric(name).unwrap().is_finite(), "{name}");
    }
    assert!(first.metric("trained_tokens").unwrap() > 0.0);
    // The adapter starts as the identity: loss ln 2, no distance to the reference.
    assert!((first.metric("loss").unwrap() - 2f64.ln()).abs() < 1e-4);
    assert!(first.metric("kl/sequence").unwrap().abs() < 1e-3);
    assert!(recorder.reports[3].metric("kl/sequence").unwrap() != 0.0);
    for name in [
        "adapter_config.json",
        "adapter_model.safetensors",
        "steering.json",
    ] {
        assert!(
            folder.path().join("run/policy").join(name).exists(),
            "{name}"
        );
    }
}

fn check_resume(more: &str) {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(&job(whole.path(), more), &mut Recorder::new(None)).unwrap();
    let ending = run(&job(parts.path(), more), &mut Recorder::new(Some(1))).unwrap();
    assert_eq!(ending, Ending::Interrupted);
    let ending = run(&job(parts.path(), more), &mut Recorder::new(Some(3))).unwrap();
    assert_eq!(ending, Ending::Interrupted);
    let ending = run(&job(parts.path(), more), &mut Recorder::new(None)).unwrap();
    assert_eq!(ending, Ending::Finished);
    let result = if more.contains("full") {
        "policy/model.safetensors"
    } else {
        "policy/adapter_model.safetensors"
    };
    for name in [
        result,
        "state/step-00000004/tensors.safetensors",
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
    check_resume("");
}

#[test]
fn an_interrupted_job_over_a_whole_model_goes_on_to_the_bit() {
    check_resume("[policy]\ntrain = \"full\"");
}

#[test]
fn the_weight_contrast_term_trains_too() {
    let folder = tempfile::tempdir().unwrap();
    let more = "[terms]\nmi_term = true\nanchor_weight = 0.1\n[pairs]\nlabel = \"per_objective\"";
    let mut recorder = Recorder::new(None);
    run(&job(folder.path(), more), &mut recorder).unwrap();
    let loss = recorder.reports[3].metric("loss").unwrap();
    assert!(loss.is_finite() && loss > 0.0, "{loss}");
}

#[test]
fn a_state_of_another_job_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    run(&job(folder.path(), ""), &mut Recorder::new(Some(1))).unwrap();
    let other = job(folder.path(), "[loss]\nbeta = 0.5");
    let error = run(&other, &mut Recorder::new(None)).unwrap_err();
    assert!(
        error.to_string().contains("saved by another job file"),
        "{error}"
    );
}

#[test]
fn a_state_over_other_rows_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let job = job(folder.path(), "");
    run(&job, &mut Recorder::new(Some(1))).unwrap();
    let rows = fs::read_to_string(&job.data.prompts[0]).unwrap();
    let fewer = rows.split_once('\n').unwrap().1;
    fs::write(&job.data.prompts[0], fewer).unwrap();
    let error = run(&job, &mut Recorder::new(None)).unwrap_err();
    assert!(error.to_string().contains("over other rows"), "{error}");
}

#[test]
fn the_kl_cap_ends_a_run_that_went_too_far() {
    let folder = tempfile::tempdir().unwrap();
    let mut wild = job(folder.path(), "[guards]\nkl_cap = 0.0001");
    if let Some(optimizer) = &mut wild.optimizer {
        optimizer.learning_rate = 0.1;
    }
    let mut recorder = Recorder::new(None);
    let error = run(&wild, &mut recorder).unwrap_err();
    let TrainingError::KlCap { step, .. } = error else {
        panic!("{error}");
    };
    // the step that went too far is told with its numbers
    let last = recorder.reports.last().unwrap();
    assert_eq!(last.step, step);
    assert!(last.metric("kl/sequence").is_some());
    let written = std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
    assert_eq!(written.lines().count() as u64, step);
}

#[test]
fn losses_that_are_not_finite_end_the_job_after_three_steps_in_a_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut wild = job(folder.path(), "");
    // The margin aimed at is 5e29, whose square is beyond f32; its slope is not.
    wild.loss = LossSettings {
        kind: PreferenceLoss::Ipo,
        beta: 1e-30,
        label_smoothing: 0.0,
    };
    let mut recorder = Recorder::new(None);
    let error = run(&wild, &mut recorder).unwrap_err();
    assert!(
        matches!(
            error,
            TrainingError::NotFinite {
                step: 3,
                failures: 3,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(recorder.reports.len(), 2);
}

/// A job whose first reward is a server's: it counts characters, and fails once, at one request.
fn with_server(folder: &Path, fails_at: Option<usize>) -> MoOdpoJob {
    let server = StandIn::start(move |number, body| {
        if Some(number) == fails_at {
            return Says::Status(503, json!({"error": "restarting"}));
        }
        let (whole, prompts) = (body["query"].as_array().unwrap(), &body["prompts"]);
        let length = |text: &Value| text.as_str().unwrap().chars().count() as f64;
        let answers = whole.iter().enumerate();
        let rewards = answers.map(|(i, text)| (length(&prompts[i]) - length(text)) / 8.0);
        Says::Json(json!({"rewards": rewards.collect::<Vec<_>>()}))
    });
    let mut job = job(folder, "");
    job.objectives[0].reward = serde_json::from_value(json!({
        "kind": "http", "shape": "openrlhf", "url": server.url, "retries": 0,
    }))
    .unwrap();
    job
}

#[test]
fn a_reward_service_that_fails_pauses_the_job_and_costs_no_step() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(&with_server(whole.path(), None), &mut Recorder::new(None)).unwrap();
    // the first request is for statistics, the second for step 1
    let job = with_server(parts.path(), Some(2));
    let mut recorder = Recorder::new(None);
    let error = run(&job, &mut recorder).unwrap_err();
    assert!(error.is_service_failure(), "{error}");
    assert_eq!(recorder.reports.len(), 1);
    assert!(parts.path().join("run/state/step-00000001").is_dir());
    assert_eq!(
        run(&job, &mut Recorder::new(None)).unwrap(),
        Ending::Finished
    );
    for name in [
        "policy/adapter_model.safetensors",
        "state/step-00000004/tensors.safetensors",
        "metrics.jsonl",
    ] {
        assert!(
            bytes(whole.path(), name) == bytes(parts.path(), name),
            "{name} differs"
        );
    }
}

#[test]
fn a_prompt_that_fits_under_some_weights_only_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path(), "");
    let row = json!({"prompt": [{"role": "user", "content": "Who is a friend?"}]});
    fs::write(&job.data.prompts[0], row.to_string()).unwrap();
    job.conditioning.template = "{brevity:aaaa aaaa} {detail}".into();
    let encoder = PromptEncoder::load(&fixture("llama")).unwrap();
    let objectives = job.objective_set().unwrap();
    let tokens = |weights: &[f64]| {
        let weights = objectives.from_ordered(weights).unwrap();
        let span = job.conditioning.render(&objectives, &weights);
        let prompt = [Message::user("Who is a friend?")];
        encoder.encode_chat(&prompt, span.as_ref()).unwrap().len()
    };
    let (equal, all) = (tokens(&[1.0, 1.0]), tokens(&[1.0, 0.0]));
    assert!(equal < all, "{equal} and {all}");
    job.data.max_prompt_tokens = all - 1;
    job.rollout.max_tokens = 4;
    let refused = run(&job, &mut Recorder::new(None)).unwrap_err().to_string();
    assert!(refused.contains("no prompt has at most"), "{refused}");
    assert!(all + 4 <= 128, "{all} leave no room in the context");
}

/// The whole idea, small: from a random model that ignores its weights to one whose answers' length
/// follows them. The weight is written three times because the model is tiny.
#[test]
fn a_policy_learns_to_follow_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path(), "[policy]\ntrain = \"full\"");
    job.job.steps = 44;
    job.conditioning.template = "{brevity}{brevity}{brevity} {detail}".into();
    job.conditioning.decimals = 0;
    job.rollout.prompts_per_step = 48;
    job.rollout.max_tokens = 6;
    job.rollout.micro_batch_tokens = 2048;
    job.rollout.condition_dropout = 0.0;
    job.rollout.weights.share_one_hot = 1.0;
    job.rollout.weights.share_equal = 0.0;
    job.pairs.missing_eos_penalty = 0.0;
    job.loss.beta = 0.02;
    if let Some(optimizer) = &mut job.optimizer {
        optimizer.learning_rate = 0.005;
    }
    let mut recorder = Recorder::new(None);
    run(&job, &mut recorder).unwrap();
    // The last steps together: single steps of 48 prompts scatter.
    for name in ["brevity", "detail"] {
        let metric = format!("reward/{name}/weight_correlation");
        let last = &recorder.reports[39..];
        let sum: f64 = last
            .iter()
            .map(|report| report.metric(&metric).unwrap())
            .sum();
        assert!(
            sum / last.len() as f64 > 0.7,
            "{name}: {}",
            sum / last.len() as f64
        );
        let before = recorder.reports[0].metric(&metric).unwrap();
        assert!(before.abs() < 0.3, "{name}: {before} before training");
    }
}
