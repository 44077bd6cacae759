//! The real router, in process, over a tiny model with a steerable policy.

mod admin;
mod chat;
mod choices;
pub(crate) mod client;
mod command;
mod comparisons;
mod completions;
mod contract;
mod cross_site;
mod demo;
mod devices;
pub(crate) mod folder;
mod fuzz;
mod generate;
mod keys;
mod kinds;
mod lifecycle;
mod limits;
mod listener;
mod metrics;
mod profiles;
mod promotion;
mod refused;
mod secrets;
mod serving;
mod socket;
mod structured;
mod surface;
mod sweep;
mod tokens;
#[cfg(feature = "otel")]
mod traces;
mod truncation;
mod unservable;
mod weights;
