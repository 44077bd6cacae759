//! Words that several layers speak: plain data, no I/O.

mod constraint;
mod message;
mod sampling;

pub use constraint::{ConstraintError, TokenConstraint, TokenSet};
pub use message::{ControlSpan, Message, Placement, Role};
pub use sampling::{FinishReason, SamplingParams, Usage};

/// Index into a tokenizer's vocabulary.
pub type TokenId = u32;
