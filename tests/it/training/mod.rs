//! Training held against PyTorch, and whole jobs on the small fixtures.

mod dpo;
mod dpo_step;
mod evaluate;
mod layers;
mod mo_odpo;
mod recorder;
mod reward_model;
mod stopping;
mod supervised;
