//! The real router, in process, over a tiny model with a steerable policy.

mod admin;
mod chat;
mod choices;
mod client;
mod command;
mod comparisons;
mod completions;
mod demo;
pub(crate) mod folder;
mod generate;
mod keys;
mod lifecycle;
mod limits;
mod profiles;
mod refused;
mod structured;
mod surface;
mod sweep;
mod tokens;
mod weights;
