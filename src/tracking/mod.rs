//! Tells an experiment tracker what a run does, on a thread of its own: MLflow's REST API.
//!
//! Whatever happens to the tracker, the run is not held up and does not fail: numbers wait up to a
//! bound, the oldest are given up beyond it, and what went wrong is told once.

mod api;
mod client;
mod run;

pub use run::{MlflowRun, RunEnd, Tracked};
pub use settings::{MlflowSettings, TrackingError};

mod settings;
