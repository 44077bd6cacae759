//! The real router, in process, over a tiny model with a steerable policy.

mod chat;
mod choices;
mod client;
mod command;
mod comparisons;
mod completions;
mod demo;
mod folder;
mod generate;
mod keys;
mod lifecycle;
mod limits;
mod profiles;
mod promotion;
mod refused;
mod structured;
mod surface;
mod sweep;
mod tokens;
mod weights;
