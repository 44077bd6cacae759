//! Arithmetic on tensors, as functions that carry their own gradients.
//!
//! Every function here takes candle tensors on the CPU in f32, and each is one node of the
//! autograd graph with an analytic backward pass, so that nothing cuts a gradient silently and
//! nothing is kept that backward does not need.

#[macro_use]
mod dispatch;
mod attention;
mod buffers;
mod gated;
mod head;
mod math;
pub mod matmul;
mod norm;
mod pages;
mod rope;
pub mod row;
mod storage;
pub mod sublayer;
pub mod team;

pub use attention::{AttentionShape, SpanRange, causal_attention};
pub use buffers::BufferPool;
pub use gated::{Activation, gated};
pub use head::{HeadSettings, HeadWeight, token_logprobs};
pub use norm::rms_norm;
pub use pages::{Pages, Zeroed};
pub use rope::{RopeTable, rope};
pub use storage::with_elements;

/// Tokens of one block of cached keys and values.
pub const BLOCK_TOKENS: usize = 16;
