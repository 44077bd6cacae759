//! Job files that are read, and job files that are refused with a reason.

use std::path::Path;

use super::*;

const MO_ODPO: &str = r#"
objectives = [
  { name = "brevity", description = "Short.", reward = { kind = "rule", rule = { name = "refusal" } } },
  { name = "detail", description = "Long.", reward = { kind = "rule", rule = { name = "repetition" } } },
]
[job]
kind = "mo_odpo"
model = "m"
output = "o"
steps = 10
[data]
prompts = ["p.jsonl"]
[conditioning]
kind = "weights_text"
open = "<|weights|>"
close = "<|/weights|>"
template = "brevity {brevity} detail {detail}"
decimals = 1
"#;

fn mo_odpo(text: &str) -> Result<MoOdpoJob, String> {
    match Job::parse(text, Path::new("job.toml")) {
        Ok(Job::MoOdpo(job)) => Ok(*job),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            Err(format!("{error} {}", source.unwrap_or_default()))
        }
    }
}

/// Refuses the job with this appended, naming all of `expected`.
fn refuses(more: &str, expected: &[&str]) {
    let message = mo_odpo(&format!("{MO_ODPO}{more}")).unwrap_err();
    for part in expected {
        assert!(message.contains(part), "`{message}` does not say `{part}`");
    }
}

#[test]
fn a_short_job_gets_the_defaults_of_the_literature() {
    let job = mo_odpo(MO_ODPO).unwrap();
    assert_eq!(job.rollout.prompts_per_step, 64);
    assert_eq!(
        (job.rollout.max_tokens, job.rollout.condition_dropout),
        (128, 0.1)
    );
    assert_eq!((job.loss.beta, job.pairs.missing_eos_penalty), (0.1, 1.0));
    assert_eq!((job.policy.lora.rank, job.policy.lora.alpha), (64, 128.0));
    assert_eq!(job.optimizer().learning_rate, 4e-5);
    assert_eq!(
        (job.optimizer().warmup, job.optimizer().max_grad_norm),
        (0.1, 1.0)
    );
    assert!(!job.terms.mi_term);
}

#[test]
fn a_whole_model_gets_a_lower_learning_rate() {
    let job = mo_odpo(&format!("{MO_ODPO}\n[policy]\ntrain = \"full\"")).unwrap();
    assert_eq!(job.optimizer().learning_rate, 5e-7);
}

#[test]
fn unknown_fields_are_refused_by_name_and_line() {
    refuses(
        "[rollout]\ntemprature = 1.0",
        &["job.toml", "unknown field `temprature`", "line"],
    );
    refuses("[speed]\nfast = true", &["unknown field `speed`"]);
}

#[test]
fn values_out_of_range_are_refused_with_the_range() {
    refuses(
        "[rollout]\ntemperature = 0.0",
        &["rollout.temperature", "0.05 to 2"],
    );
    refuses("[loss]\nbeta = -1.0", &["loss.beta", "above 0"]);
    refuses(
        "[loss]\nkind = \"ipo\"\nlabel_smoothing = 0.1",
        &["no effect on this loss kind"],
    );
    refuses(
        "[optimizer]\nlearning_rate = nan",
        &["optimizer.learning_rate", "NaN"],
    );
    refuses(
        "[policy]\ntrain = \"full\"\nstart_adapter = \"a\"",
        &["policy.start_adapter", "merge"],
    );
    refuses(
        "[normalization]\nfixed = []",
        &["normalization.fixed", "0 entries for 2 objectives"],
    );
    refuses(
        "[guards]\nmax_failures = 0",
        &["guards.max_failures", "at least 1"],
    );
}

#[test]
fn a_job_without_a_kind_or_with_a_wrong_one_is_refused() {
    let message = mo_odpo("[job]\nkind = \"ppo\"").unwrap_err();
    assert!(
        message.contains("unknown variant `ppo`") && message.contains("mo_odpo"),
        "{message}"
    );
    assert!(mo_odpo("").unwrap_err().contains("missing field `job`"));
}

#[test]
fn an_objective_without_a_description_is_told_by_its_name() {
    let text = MO_ODPO.replace("description = \"Short.\", ", "");
    assert_ne!(text, MO_ODPO);
    let objectives = mo_odpo(&text).unwrap().objective_set().unwrap();
    let told: Vec<&str> = objectives.iter().map(|o| o.description.as_str()).collect();
    assert_eq!(told, ["brevity", "Long."]);
}
