//! Words that several layers speak: plain data, no I/O.

mod constraint;
mod message;
mod sampling;
mod turn;

pub use constraint::{ConstraintError, TokenConstraint, TokenSet};
pub use message::{ControlSpan, Message, Placement, Role};
pub use sampling::{FinishReason, SamplingParams, Usage};
pub use turn::{TurnFault, json_kind};

/// Index into a tokenizer's vocabulary.
pub type TokenId = u32;
