//! The integration tests: one binary, one module per part.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixtures;
mod parity;
mod rewards;
mod text;
mod training;
