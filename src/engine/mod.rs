//! Token ids in, token events out, many sequences at once. Knows nothing of text or weights.
//!
//! One thread owns every sequence and the cache. Others reach it through an [`EngineHandle`]: a
//! bounded channel in, one bounded channel of events out per request. Each iteration packs one
//! decode token of every running sequence and as many prompt tokens as the budget allows into one
//! forward pass. What a sequence draws depends on its own logits, seed and history only, so a
//! request answers alike alone or in company.
//!
//! Keys and values lie in blocks ([`crate::model::KvPool`]). Full blocks are shared by whoever has
//! the same tokens before them under the same parameters and salt; when blocks run out, the
//! youngest sequence gives its own up and computes them again later.

mod adjust;
mod blocks;
mod chain;
mod complete;
mod config;
#[cfg(feature = "cuda")]
mod cuda_step;
mod cuts;
mod decoder_step;
mod error;
mod event;
mod faults;
mod gate;
mod handle;
mod logits;
mod memory;
mod meters;
mod places;
mod progress;
mod request;
mod row;
mod runner;
mod sampler;
mod scheduler;
mod sequence;
mod step;
mod waiting;

#[cfg(test)]
mod tests;

pub use complete::{Completion, complete_all, complete_unless};
pub use config::EngineConfig;
pub use error::EngineError;
pub use event::{SampledToken, TokenEvent, TokenStream};
pub use gate::EngineStats;
pub use handle::EngineHandle;
pub use meters::EngineMeters;
pub use progress::Progress;
pub use request::{GenerationRequest, Guidance};
pub use sampler::SampleError;
pub use step::{StepError, StepModel, StepSpan};
