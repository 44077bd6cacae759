//! The integration tests: one binary, one module per part.
#![expect(
    clippy::unwrap_used,
    reason = "clippy's allowance for tests does not cover the helpers beside them"
)]

mod architecture;
mod bench;
#[cfg(feature = "cuda")]
mod cuda;
mod elsewhere;
mod engine;
mod fixtures;
mod gguf;
mod hostile;
mod http;
mod hub;
mod jobs;
mod parity;
mod registry;
mod rewards;
mod store;
mod text;
mod tracking;
mod training;
