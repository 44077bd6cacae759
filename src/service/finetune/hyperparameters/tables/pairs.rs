//! What the methods have that read preference pairs from a file.

use super::{MEASURE_EVERY, MICRO_BATCH, row, whole};
use crate::service::finetune::hyperparameters::Hyperparameter;

const PAIRS: Hyperparameter = row(
    "batch_size",
    "pairs_per_step",
    whole(1, 4096),
    "Pairs of a step.",
);

pub(super) const REWARD_MODEL: [Hyperparameter; 3] = [
    PAIRS,
    MICRO_BATCH,
    row(
        "max_tokens",
        "data.max_tokens",
        whole(8, 131_072),
        "Longer conversations lose their start.",
    ),
];

pub(super) const DPO: [Hyperparameter; 4] = [
    PAIRS,
    MICRO_BATCH,
    row(
        "max_tokens",
        "data.max_tokens",
        whole(8, 131_072),
        "Pairs of which an answer with its prompt is longer are left out.",
    ),
    MEASURE_EVERY,
];
