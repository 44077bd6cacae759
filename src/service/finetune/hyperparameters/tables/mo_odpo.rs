//! What only MO-ODPO has.

use super::{above, number, row, whole};
use crate::service::finetune::hyperparameters::{Hyperparameter, Range};

pub(super) const ROWS: [Hyperparameter; 20] = [
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
