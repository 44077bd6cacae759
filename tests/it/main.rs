//! The integration tests: one binary, one module per part.

mod architecture;
mod engine;
mod fixtures;
mod parity;
mod rewards;
mod text;
mod training;
