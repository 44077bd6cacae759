//! Loads a server that speaks the OpenAI API, ours or any other, and measures what its clients see.
//!
//! [`survey`] asks the server what it is and what it takes, [`Plan`] states the requests, [`run`]
//! sends them in a closed or an open loop, and [`Report`] says what came of it. Knows nothing of
//! our own server but that it may list objectives, so one run compares any two servers.

mod arrivals;
mod client;
mod connections;
mod error;
mod events;
mod machine;
mod outcome;
mod plan;
mod report;
mod run;
mod stream;
mod summary;
mod survey;
mod words;
mod workload;

pub use client::{Client, Target};
pub use error::BenchError;
pub use outcome::{Completion, Outcome, Refusal};
pub use plan::Plan;
pub use report::Report;
pub use run::{Load, run};
pub use summary::{LevelReport, Spread};
pub use survey::{Survey, survey};
pub use workload::{Api, WeightsMix, Workload};
