//! What only supervised training has.

use super::{MEASURE_EVERY, MICRO_BATCH, row, whole};
use crate::service::finetune::hyperparameters::{BATCH_SIZE, BATCH_TOKENS, Hyperparameter};

pub(super) const SUPERVISED: [Hyperparameter; 5] = [
    row(
        BATCH_SIZE,
        "sequences_per_step",
        whole(1, 65_536),
        "Sequences of a step; the default makes about 8 steps of a pass over few texts, and is none over many.",
    ),
    row(
        BATCH_TOKENS,
        "batch_tokens",
        whole(1, 16_777_216),
        "Tokens of a step, in whole sequences; `batch_size` states these instead.",
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
