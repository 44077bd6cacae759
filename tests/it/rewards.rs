//! Rewards over real question rows, and reward-model checkpoints against their golden logits.

mod checkpoints;
mod facts;
mod golden;
pub(crate) mod service;
