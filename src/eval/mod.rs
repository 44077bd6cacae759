//! How good, and how steerable, a policy is.

pub mod pareto;
pub mod stats;
pub mod text_measures;
