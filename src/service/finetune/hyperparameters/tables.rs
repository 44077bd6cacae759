//! The tables: what every method has, and which tables make up a method's.

mod mo_odpo;
mod pairs;
mod texts;

use super::{EPOCHS, Hyperparameter, MULTIPLIER, Method, RATE, Range, STEPS};

pub(super) const fn row(
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

pub(super) const fn whole(least: u64, most: u64) -> Range {
    Range::Whole { least, most }
}

pub(super) const fn number(least: f64, most: f64) -> Range {
    Range::Number { least, most }
}

pub(super) const fn above(most: f64) -> Range {
    Range::Above { most }
}

/// What every method has.
const SHARED: [Hyperparameter; 18] = [
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
        "recompute_layers",
        "policy.recompute_layers",
        Range::Flag,
        "Keep each layer's input only and compute the layer again for its gradient: less memory, more time, the same bits.",
    ),
    row(
        "max_failures",
        "guards.max_failures",
        whole(1, 1000),
        "Steps in a row with a loss or gradient that is not finite, after which the job fails.",
    ),
];

/// What the methods have that learn from preferences by DPO.
pub(super) const PREFERENCE: [Hyperparameter; 4] = [
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
        "anchor_weight",
        "terms.anchor_weight",
        number(0.0, 100.0),
        "Weight of the anchor term; 0 is off.",
    ),
];

/// Of the methods that read their data from a file.
pub(super) const MICRO_BATCH: Hyperparameter = row(
    "micro_batch_tokens",
    "micro_batch_tokens",
    whole(1, 1_048_576),
    "Tokens of one training pass; more is faster and takes more memory.",
);

/// Of those that may measure on another file.
pub(super) const MEASURE_EVERY: Hyperparameter = row(
    "measure_every",
    "measure_every",
    whole(1, 1_000_000),
    "Steps between two measurements on the validation file.",
);

/// The hyperparameters of a method.
pub fn hyperparameters(method: Method) -> Vec<&'static Hyperparameter> {
    let own: [&[Hyperparameter]; 2] = match method {
        Method::MoOdpo => [&mo_odpo::ROWS, &PREFERENCE],
        Method::Dpo => [&pairs::DPO, &PREFERENCE],
        Method::Supervised => [&texts::SUPERVISED, &[]],
        Method::RewardModel => [&pairs::REWARD_MODEL, &[]],
    };
    // the number of failures is a setting of one method only
    let shared = SHARED
        .iter()
        .filter(|row| method == Method::MoOdpo || row.name != "max_failures");
    shared.chain(own.into_iter().flatten()).collect()
}
