//! What only supervised training has.

use super::{row, whole};
use crate::service::finetune::hyperparameters::Hyperparameter;

pub(super) const SUPERVISED: [Hyperparameter; 4] = [
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
