//! The integration tests: one binary, one module per part.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod architecture;
mod engine;
mod fixtures;
mod parity;
mod rewards;
mod text;
mod training;
