//! What only supervised training has.

use super::{MEASURE_EVERY, MICRO_BATCH, row, whole};
use crate::service::finetune::hyperparameters::Hyperparameter;

pub(super) const SUPERVISED: [Hyperparameter; 4] = [
    row(
        "batch_tokens",
        "batch_tokens",
        whole(1, 16_777_216),
        "Tokens of a step.",
    ),
    MICRO_BATCH,
    row(
        "max_tokens",
        "data.max_tokens",
        whole(8, 131_072),
        "Longest sequence.",
    ),
    MEASURE_EVERY,
];
