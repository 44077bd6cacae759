//! The real router, in process, over a tiny model with a steerable policy.

mod chat;
mod client;
mod command;
mod demo;
mod folder;
mod generate;
mod lifecycle;
mod refused;
mod surface;
mod weights;
