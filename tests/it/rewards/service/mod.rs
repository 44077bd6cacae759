//! Reward services: every shape against a server that takes nothing else, and every way to fail.

mod failures;
mod judge;
mod shapes;
pub(crate) mod stand_in;
