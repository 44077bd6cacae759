//! Steersman: serve and train language models that every request steers by objective weights.
//!
//! The modules are layered, lowest first; imports point down only, and a test holds that.
//! `ARCHITECTURE.md` draws the map and tells the two journeys: one request, one training job.

pub mod gguf;
pub mod mapped;
pub mod outbound;
pub mod telemetry;
pub mod types;

pub mod bench;
pub mod hub;
pub mod kernel;
pub mod steering;
pub mod storage;
pub mod store;
pub mod text;
pub mod tracking;

pub mod jobs;
pub mod model;

pub mod engine;
pub mod registry;
pub mod rewards;

pub mod eval;
pub mod training;

pub mod service;

pub mod http;

pub mod cli;
pub mod config;
