//! What the methods have that read preference pairs from a file.

use super::{row, whole};
use crate::service::finetune::hyperparameters::Hyperparameter;

pub(super) const REWARD_MODEL: [Hyperparameter; 3] = [
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

pub(super) const DPO: [Hyperparameter; 4] = [
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
        "Pairs of which an answer with its prompt is longer are left out.",
    ),
    row(
        "measure_every",
        "measure_every",
        whole(1, 1_000_000),
        "Steps between two measurements on the validation file.",
    ),
];
