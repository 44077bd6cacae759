//! The real router, in process, over a tiny model with a steerable policy.

mod chat;
mod client;
mod command;
mod comparisons;
mod demo;
mod folder;
mod generate;
mod keys;
mod lifecycle;
mod profiles;
mod refused;
mod surface;
mod weights;
