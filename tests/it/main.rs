//! The integration tests: one binary, one module per part.

#[expect(dead_code, reason = "each part of the tests uses its share")]
mod fixtures;

mod rewards;
