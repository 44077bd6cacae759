//! A policy trained by one command and measured by the other.

use std::fs;
use std::path::{Path, PathBuf};

use steersman::cli::evaluate::{EvaluateArgs, EvaluateError, run};
use steersman::eval::report::EvalReport;
use steersman::model::Dtype;
use steersman::steering::SteeringManifest;
use steersman::training::mo_odpo;

use super::mo_odpo::job;
use super::recorder::Recorder;
use crate::fixtures::fixture;

/// A policy after two steps.
fn policy(folder: &Path) -> PathBuf {
    let mut job = job(folder, "");
    job.job.steps = 2;
    mo_odpo::run(&job, &mut Recorder::new(None)).unwrap();
    folder.join("run/policy")
}

fn args(folder: &Path) -> EvaluateArgs {
    EvaluateArgs {
        model: fixture("llama"),
        dtype: Dtype::Auto,
        policy: Some(folder.join("run/policy").display().to_string()),
        baseline: "off".into(),
        prompts: folder.join("prompts.jsonl"),
        grid: 3,
        out: folder.join("report"),
        rewards: None,
        refusal_prompts: None,
        limit: None,
        max_tokens: 8,
        temperature: 0.7,
        top_p: 0.9,
        seed: 1,
        samples: 1,
        record: true,
    }
}

#[test]
fn a_trained_policy_is_measured_beside_the_model_it_started_from() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy(folder.path());
    let rewards = folder.path().join("rewards.toml");
    fs::write(
        &rewards,
        format!(
            r#"
[objectives.brevity]
kind = "rule"
rule = {{ name = "length", unit = "tokens", goal = "shorter", scale = 8.0 }}
[objectives.detail]
kind = "rule"
rule = {{ name = "length", unit = "tokens", goal = "longer", scale = 8.0 }}
[judges.repetition]
kind = "rule"
rule = {{ name = "repetition" }}
[judges.refusal]
kind = "rule"
rule = {{ name = "refusal" }}
[judges.on_topic]
kind = "rule"
rule = {{ name = "on_topic" }}
[judges.other]
kind = "classifier"
path = "{}"
"#,
            fixture("rm_llama").display()
        ),
    )
    .unwrap();
    let marked = folder.path().join("marked.jsonl");
    let row = |safe: bool| {
        format!("{{\"prompt\":[{{\"role\":\"user\",\"content\":\"Why?\"}}],\"safe\":{safe}}}\n")
    };
    fs::write(&marked, row(true) + &row(false)).unwrap();
    let mut args = args(folder.path());
    args.rewards = Some(rewards);
    args.refusal_prompts = Some(marked);
    run(&args).unwrap();

    let json = fs::read(folder.path().join("report/report.json")).unwrap();
    let report: EvalReport = serde_json::from_slice(&json).unwrap();
    assert_eq!((report.points.len(), report.baseline_points.len()), (3, 3));
    assert_eq!(
        (report.prompts, report.judges.len(), report.refusals.len()),
        (4, 4, 3)
    );
    assert_eq!(report.points[0].weights, [0.0, 1.0]);
    assert!(report.points.iter().all(|point| point.gain.is_some()));
    assert!(report.reached.hypervolume > 0.0);
    assert_eq!(
        report.judges,
        ["on_topic", "other", "refusal", "repetition"]
    );
    // each objective's own reward and every judge, against each weight
    assert_eq!(report.responses.len(), 2 * (1 + 4));
    assert_eq!(report.refusal_responses.len(), 2);
    assert!(folder.path().join("report/report.html").exists());

    let manifest = SteeringManifest::load(&policy).unwrap();
    assert_eq!(manifest.evaluation["points"], 3);
}

#[test]
fn without_a_file_the_rewards_are_those_of_the_training() {
    let folder = tempfile::tempdir().unwrap();
    policy(folder.path());
    run(&args(folder.path())).unwrap();
    assert!(folder.path().join("report/reward_brevity.svg").exists());
}

#[test]
fn a_file_that_misses_an_objective_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    policy(folder.path());
    let rewards = folder.path().join("rewards.toml");
    fs::write(
        &rewards,
        "[objectives.brevity]\nkind = \"rule\"\nrule = { name = \"refusal\" }\n",
    )
    .unwrap();
    let mut args = args(folder.path());
    args.rewards = Some(rewards);
    let error = run(&args).unwrap_err();
    assert!(matches!(error, EvaluateError::RewardsFile { .. }));
    assert!(
        error
            .to_string()
            .contains("no reward for the policy's objective `detail`"),
        "{error}"
    );
}

#[test]
fn without_a_name_the_models_default_policy_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let trained = policy(folder.path());
    let model = folder.path().join("model");
    fs::create_dir_all(model.join("policies")).unwrap();
    for file in fs::read_dir(fixture("llama")).unwrap() {
        let file = file.unwrap();
        if file.path().is_file() {
            fs::copy(file.path(), model.join(file.file_name())).unwrap();
        }
    }
    fs::rename(trained, model.join("policies/short")).unwrap();
    fs::write(model.join("policies.json"), r#"{"default":"short"}"#).unwrap();
    let mut args = args(folder.path());
    (args.model, args.policy) = (model.clone(), None);
    run(&args).unwrap();
    let manifest = SteeringManifest::load(&model.join("policies/short")).unwrap();
    assert_eq!(manifest.evaluation["points"], 3);
}
