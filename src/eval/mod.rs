//! How good, and how steerable, a policy is.
//!
//! A sweep answers held-out prompts under every weight vector of a grid; a report says what came
//! of it, beside the same sweep of the model it started from.

mod error;
pub mod pareto;
pub mod report;
pub mod stats;
pub mod steerability;
pub mod sweep;
pub mod text_measures;

pub use error::EvalError;
