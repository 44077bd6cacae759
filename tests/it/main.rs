//! The integration tests: one binary, one module per part.

mod fixtures;
mod parity;
mod rewards;
mod text;
mod training;
