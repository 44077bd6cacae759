//! The hyperparameters of each method: names, ranges, and where each stands in a job's settings.
//!
//! One table a method. Requests are checked against it, the API's document is written from it,
//! and what a job shows back is read through it, so the three cannot differ.

use serde_json::{Map, Value, json};

use super::FineTuningError;

/// What a job trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A steerable policy.
    MoOdpo,
    /// The next token of texts.
    Supervised,
    /// A reward model.
    RewardModel,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 3] = [Self::MoOdpo, Self::Supervised, Self::RewardModel];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MoOdpo => "mo_odpo",
            Self::Supervised => "supervised",
            Self::RewardModel => "reward_model",
        }
    }

    /// The method of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == word)
    }
}

/// Which values a hyperparameter takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Range {
    /// A whole number.
    Whole {
        /// Least.
        least: u64,
        /// Greatest.
        most: u64,
    },
    /// A number.
    Number {
        /// Least.
        least: f64,
        /// Greatest.
        most: f64,
    },
    /// A number above 0.
    Above {
        /// Greatest.
        most: f64,
    },
    /// True or false.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of words.
    Words,
}

/// One hyperparameter.
#[derive(Debug, Clone, Copy)]
pub struct Hyperparameter {
    /// Its name in the API.
    pub name: &'static str,
    /// Where it stands in the job's settings, parts joined by dots; empty where it is only used
    /// to find others.
    pub(super) path: &'static str,
    /// Which values it takes.
    pub range: Range,
    /// What it does.
    pub about: &'static str,
}

const fn row(
    name: &'static str,
    path: &'static str,
    range: Range,
    about: &'static str,
) -> Hyperparameter {
    Hyperparameter {
        name,
        path,
        range,
        about,
    }
}

const fn whole(least: u64, most: u64) -> Range {
    Range::Whole { least, most }
}

const fn number(least: f64, most: f64) -> Range {
    Range::Number { least, most }
}

const fn above(most: f64) -> Range {
    Range::Above { most }
}

/// Only used to find the number of steps and the learning rate.
pub(super) const EPOCHS: &str = "n_epochs";
pub(super) const STEPS: &str = "steps";
pub(super) const MULTIPLIER: &str = "learning_rate_multiplier";
pub(super) const RATE: &str = "learning_rate";

/// What every method has.
const SHARED: [Hyperparameter; 17] = [
    row(
        EPOCHS,
        "",
        above(1000.0),
        "Passes over the training file, from which the number of steps follows; `steps` states it instead.",
    ),
    row(STEPS, "job.steps", whole(1, 10_000_000), "Optimiser steps."),
    row(
        "save_every",
        "job.save_every",
        whole(1, 1_000_000),
        "Steps between two saved states; what a crash can cost.",
    ),
    row(
        RATE,
        "optimizer.learning_rate",
        above(1.0),
        "Highest learning rate.",
    ),
    row(
        MULTIPLIER,
        "",
        above(1000.0),
        "Multiplies the default learning rate; `learning_rate` states it instead.",
    ),
    row(
        "weight_decay",
        "optimizer.weight_decay",
        number(0.0, 1.0),
        "Decoupled weight decay.",
    ),
    row(
        "adam_beta1",
        "optimizer.beta1",
        number(0.0, 0.9999),
        "Decay of the first moment.",
    ),
    row(
        "adam_beta2",
        "optimizer.beta2",
        number(0.0, 0.99999),
        "Decay of the second moment.",
    ),
    row(
        "adam_epsilon",
        "optimizer.epsilon",
        above(1.0),
        "Added to the root of the second moment.",
    ),
    row(
        "max_grad_norm",
        "optimizer.max_grad_norm",
        above(1e6),
        "Gradients of a greater norm are scaled down to it.",
    ),
    row(
        "schedule",
        "optimizer.schedule",
        Range::Choice(&["cosine", "linear", "constant"]),
        "How the learning rate moves after the warm-up.",
    ),
    row(
        "warmup_ratio",
        "optimizer.warmup",
        number(0.0, 1.0),
        "Share of the steps over which the learning rate rises from 0.",
    ),
    row(
        "train",
        "policy.train",
        Range::Choice(&["lora", "full"]),
        "An adapter, or every tensor of the model.",
    ),
    row(
        "lora_rank",
        "policy.lora.rank",
        whole(1, 1024),
        "Rank of a new adapter.",
    ),
    row(
        "lora_alpha",
        "policy.lora.alpha",
        above(1e5),
        "An adapter's update is scaled by alpha / rank.",
    ),
    row(
        "lora_target_modules",
        "policy.lora.target_modules",
        Range::Words,
        "Last parts of the adapted modules' paths.",
    ),
    row(
        "max_failures",
        "guards.max_failures",
        whole(1, 1000),
        "Steps in a row with a loss or gradient that is not finite, after which the job fails.",
    ),
];

const MO_ODPO: [Hyperparameter; 24] = [
    row(
        "batch_size",
        "rollout.prompts_per_step",
        whole(1, 4096),
        "Prompts of a step; each is answered twice.",
    ),
    row(
        "max_tokens",
        "rollout.max_tokens",
        whole(1, 8192),
        "Most tokens of an answer.",
    ),
    row(
        "max_prompt_tokens",
        "data.max_prompt_tokens",
        whole(8, 131_072),
        "Longer prompts, conditioning included, are left out.",
    ),
    row(
        "temperature",
        "rollout.temperature",
        number(0.05, 2.0),
        "Sampling temperature of the answers.",
    ),
    row(
        "top_p",
        "rollout.top_p",
        number(0.01, 1.0),
        "Nucleus mass; 1 is off.",
    ),
    row(
        "top_k",
        "rollout.top_k",
        whole(0, 1_000_000),
        "Keep the k likeliest tokens; 0 is off.",
    ),
    row(
        "condition_dropout",
        "rollout.condition_dropout",
        number(0.0, 1.0),
        "Share of prompts without conditioning, judged under equal weights.",
    ),
    row(
        "dirichlet_alpha",
        "rollout.weights.alpha",
        number(0.3, 100.0),
        "Concentration of the drawn weights.",
    ),
    row(
        "share_one_hot",
        "rollout.weights.share_one_hot",
        number(0.0, 1.0),
        "Share of draws with all weight on one objective.",
    ),
    row(
        "share_equal",
        "rollout.weights.share_equal",
        number(0.0, 1.0),
        "Share of draws with equal weights.",
    ),
    row(
        "micro_batch_tokens",
        "rollout.micro_batch_tokens",
        whole(1, 1_048_576),
        "Tokens of one training pass; more is faster and takes more memory.",
    ),
    row(
        "beta",
        "loss.beta",
        above(1000.0),
        "How strongly the reference holds the policy back.",
    ),
    row(
        "loss",
        "loss.kind",
        Range::Choice(&[
            "sigmoid",
            "sigmoid_norm",
            "hinge",
            "robust",
            "ipo",
            "ipo_mean",
        ]),
        "The function of the margin that is minimised.",
    ),
    row(
        "label_smoothing",
        "loss.label_smoothing",
        number(0.0, 0.49),
        "Probability that a label is wrong.",
    ),
    row(
        "label",
        "pairs.label",
        Range::Choice(&["scalarized", "per_objective"]),
        "How two rewards become a preference.",
    ),
    row(
        "missing_eos_penalty",
        "pairs.missing_eos_penalty",
        number(0.0, 100.0),
        "Taken off every normalised reward where an answer ran into the length limit.",
    ),
    row(
        "tie_margin",
        "pairs.tie_margin",
        number(0.0, 3.0),
        "Smaller differences, in standard deviations, are ties.",
    ),
    row(
        "relabel",
        "pairs.relabel",
        whole(0, 16),
        "Further weights under which each pair is judged again.",
    ),
    row(
        "anchor_weight",
        "terms.anchor_weight",
        number(0.0, 100.0),
        "Weight of the anchor term; 0 is off.",
    ),
    row(
        "mi_term",
        "terms.mi_term",
        Range::Flag,
        "Adds the MI-EPO term.",
    ),
    row(
        "mi_beta",
        "terms.mi_beta",
        above(1000.0),
        "Beta of the MI-EPO term.",
    ),
    row(
        "mi_weight",
        "terms.mi_weight",
        number(0.0, 100.0),
        "Weight of the MI-EPO term.",
    ),
    row(
        "normalization_samples",
        "normalization.samples",
        whole(16, 1_000_000),
        "Answers of the starting policy from which reward statistics are taken.",
    ),
    row(
        "kl_cap",
        "guards.kl_cap",
        above(1e6),
        "The job fails where a sequence's mean KL to the reference is above this, in nats; none is no cap.",
    ),
];

const SUPERVISED: [Hyperparameter; 4] = [
    row(
        "batch_tokens",
        "batch_tokens",
        whole(1, 16_777_216),
        "Tokens of a step.",
    ),
    row(
        "micro_batch_tokens",
        "micro_batch_tokens",
        whole(1, 1_048_576),
        "Tokens of one training pass; more is faster and takes more memory.",
    ),
    row(
        "max_tokens",
        "data.max_tokens",
        whole(8, 131_072),
        "Longest sequence.",
    ),
    row(
        "measure_every",
        "measure_every",
        whole(1, 1_000_000),
        "Steps between two measurements on the validation file.",
    ),
];

const REWARD_MODEL: [Hyperparameter; 3] = [
    row(
        "batch_size",
        "pairs_per_step",
        whole(1, 4096),
        "Pairs of a step.",
    ),
    row(
        "micro_batch_tokens",
        "micro_batch_tokens",
        whole(1, 1_048_576),
        "Tokens of one training pass; more is faster and takes more memory.",
    ),
    row(
        "max_tokens",
        "data.max_tokens",
        whole(8, 131_072),
        "Longer conversations lose their start.",
    ),
];

/// The hyperparameters of a method.
pub fn hyperparameters(method: Method) -> Vec<&'static Hyperparameter> {
    let own: &[Hyperparameter] = match method {
        Method::MoOdpo => &MO_ODPO,
        Method::Supervised => &SUPERVISED,
        Method::RewardModel => &REWARD_MODEL,
    };
    // the number of failures is a setting of one method only
    let shared = SHARED
        .iter()
        .filter(|row| method == Method::MoOdpo || row.name != "max_failures");
    shared.chain(own).collect()
}

impl Range {
    /// In words, after "must be".
    fn words(&self) -> String {
        match self {
            Self::Whole { least, most } => format!("a whole number from {least} to {most}"),
            Self::Number { least, most } => format!("a number from {least} to {most}"),
            Self::Above { most } => format!("a number above 0, at most {most}"),
            Self::Flag => "true or false".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Words => "a list of words, at least one".to_owned(),
        }
    }

    fn holds(&self, value: &Value) -> bool {
        let number = value.as_f64();
        match self {
            Self::Whole { least, most } => value
                .as_u64()
                .is_some_and(|n| (*least..=*most).contains(&n)),
            Self::Number { least, most } => number.is_some_and(|n| (*least..=*most).contains(&n)),
            Self::Above { most } => number.is_some_and(|n| n > 0.0 && n <= *most),
            Self::Flag => value.is_boolean(),
            Self::Choice(words) => value.as_str().is_some_and(|word| words.contains(&word)),
            Self::Words => value.as_array().is_some_and(|list| {
                !list.is_empty()
                    && list
                        .iter()
                        .all(|word| word.as_str().is_some_and(|w| !w.is_empty()))
            }),
        }
    }
}

/// Holds what a request gives against the method's table; `at` is where it stands. Returns it
/// without what asks for the default, `null` and `"auto"`.
pub(super) fn checked(
    method: Method,
    given: &Map<String, Value>,
    at: &str,
) -> Result<Map<String, Value>, FineTuningError> {
    let table = hyperparameters(method);
    let mut kept = Map::new();
    for (name, value) in given {
        let param = format!("{at}.{name}");
        let Some(row) = table.iter().find(|row| row.name == name) else {
            let known: Vec<_> = table.iter().map(|row| row.name).collect();
            let problem = format!(
                "is no hyperparameter of {}; it has {}",
                method.as_str(),
                known.join(", ")
            );
            return Err(FineTuningError::invalid(param, problem));
        };
        if value.is_null() || value == "auto" {
            continue;
        }
        if !row.range.holds(value) {
            let problem = format!("must be {}, got {value}", row.range.words());
            return Err(FineTuningError::invalid(param, problem));
        }
        kept.insert(name.clone(), value.clone());
    }
    for (one, other) in [(EPOCHS, STEPS), (MULTIPLIER, RATE)] {
        if kept.contains_key(one) && kept.contains_key(other) {
            let problem = format!("and `{other}` say the same thing twice; send one of them");
            return Err(FineTuningError::invalid(format!("{at}.{one}"), problem));
        }
    }
    Ok(kept)
}

/// Writes what was given into a job's settings.
pub(super) fn write(method: Method, given: &Map<String, Value>, settings: &mut Value) {
    for row in hyperparameters(method) {
        if let Some(value) = given.get(row.name)
            && !row.path.is_empty()
        {
            set(settings, row.path, value.clone());
        }
    }
}

/// Reads every hyperparameter from the settings in effect.
pub(super) fn shown(method: Method, settings: &Value) -> Map<String, Value> {
    hyperparameters(method)
        .into_iter()
        .filter(|row| !row.path.is_empty())
        .map(|row| {
            let pointer = format!("/{}", row.path.replace('.', "/"));
            let value = settings.pointer(&pointer).cloned().unwrap_or_default();
            (row.name.to_owned(), plain(value))
        })
        .collect()
}

/// The API's name of what a job's settings call `path`.
pub(super) fn name_of(method: Method, path: &str) -> Option<&'static str> {
    let table = hyperparameters(method);
    let found = table.iter().find(|row| row.path == path);
    found.map(|row| row.name)
}

/// Puts a value into nested objects, making those that are missing.
pub(super) fn set(settings: &mut Value, path: &str, value: Value) {
    let mut place = settings;
    for part in path.split('.') {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[part];
    }
    *place = value;
}

/// A number that was kept in single precision, as a person would write it: 0.7, not
/// 0.699999988079071.
fn plain(value: Value) -> Value {
    let Some(wide) = value.as_f64().filter(|_| value.is_f64()) else {
        return value;
    };
    let narrow = wide as f32;
    match narrow.to_string().parse::<f64>() {
        Ok(short) if f64::from(narrow) == wide => json!(short),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_method_has_a_name_or_a_place_twice() {
        for method in Method::ALL {
            let table = hyperparameters(method);
            for (index, row) in table.iter().enumerate() {
                for other in &table[..index] {
                    assert_ne!(row.name, other.name);
                    assert!(
                        row.path.is_empty() || row.path != other.path,
                        "{}",
                        row.path
                    );
                }
            }
            assert_eq!(Method::parse(method.as_str()), Some(method));
        }
    }

    #[test]
    fn values_out_of_range_are_refused_with_the_range() {
        let check = |given: Value, words: &[&str]| {
            let given = given.as_object().expect("an object").clone();
            let told = checked(Method::MoOdpo, &given, "h")
                .unwrap_err()
                .to_string();
            for word in words {
                assert!(told.contains(word), "`{word}` is not in: {told}");
            }
        };
        check(
            json!({"temperature": 3}),
            &["`h.temperature`", "0.05 to 2", "got 3"],
        );
        check(json!({"temperature": "hot"}), &["0.05 to 2", "got \"hot\""]);
        check(json!({"batch_size": 1.5}), &["whole number from 1 to 4096"]);
        check(json!({"beta": 0}), &["above 0"]);
        check(json!({"loss": "dpo"}), &["sigmoid, sigmoid_norm"]);
        check(json!({"mi_term": 1}), &["true or false"]);
        check(json!({"lora_target_modules": []}), &["at least one"]);
        check(json!({"epochs": 1}), &["`h.epochs`", "n_epochs"]);
        check(json!({"steps": 1, "n_epochs": 1}), &["twice"]);
        let kept = json!({"beta": "auto", "top_k": null, "n_epochs": 2});
        let kept = checked(Method::MoOdpo, kept.as_object().expect("an object"), "h");
        assert_eq!(
            kept.expect("sound"),
            *json!({"n_epochs": 2}).as_object().expect("an object")
        );
    }

    #[test]
    fn numbers_are_shown_as_a_person_writes_them() {
        assert_eq!(plain(json!(0.7_f32)), json!(0.7));
        assert_eq!(plain(json!(4e-5_f64)), json!(4e-5));
        assert_eq!(plain(json!(64)), json!(64));
    }
}
