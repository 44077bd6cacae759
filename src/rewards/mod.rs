//! One number per objective for a completion.
//!
//! A reward sees the conversation without any objective weights: what is good does not depend on
//! what was asked for. Rewards never invent a value: what cannot be scored is an error.

mod classifier;
mod config;
mod error;
mod exchange;
mod normalize;
pub mod remote;
pub mod rules;
mod suite;

pub use classifier::{ClassifierInput, ClassifierReward};
pub use config::{RewardConfig, build};
pub use error::RewardError;
pub use exchange::{Exchange, RewardModel};
pub use normalize::Normalizer;
pub use suite::RewardSuite;
