//! Token ids in, token events out, many sequences at once. Knows nothing of text or weights.
//!
//! One thread owns every sequence and its cache. Others reach it through an [`EngineHandle`]: a
//! bounded channel in, one bounded channel of events out per request. Each iteration packs one
//! decode token of every running sequence and as many prompt tokens as the budget allows into one
//! forward pass. What a sequence draws depends on its own logits, seed and position only, so a
//! request answers alike alone or in company.

mod complete;
mod config;
mod decoder_step;
mod error;
mod event;
mod gate;
mod handle;
mod logits;
mod request;
mod runner;
mod sampler;
mod scheduler;
mod sequence;
mod step;

#[cfg(test)]
mod tests;

pub use complete::{Completion, complete_all};
pub use config::EngineConfig;
pub use error::EngineError;
pub use event::{SampledToken, TokenEvent, TokenStream};
pub use gate::EngineStats;
pub use handle::EngineHandle;
pub use request::{GenerationRequest, Guidance};
pub use sampler::SampleError;
pub use step::{StepError, StepModel, StepSpan};
