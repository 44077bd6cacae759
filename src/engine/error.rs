//! Why a request was refused, or failed on its way.

use std::sync::Arc;

use crate::types::{ConstraintError, TokenId};

use super::{SampleError, StepError};

/// What the engine can answer instead of tokens.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The bounds of the engine do not fit together.
    #[error("the engine's configuration is unusable: {0}")]
    Config(String),
    /// The engine thread could not be started.
    #[error("the engine thread could not be started")]
    Spawn(#[source] Arc<std::io::Error>),
    /// A prompt without a token.
    #[error("the prompt is empty, expected at least one token")]
    EmptyPrompt,
    /// A prompt token that the model does not have.
    #[error("prompt token {token} is outside the vocabulary of {vocab_size} tokens")]
    TokenOutOfVocabulary {
        /// The token.
        token: TokenId,
        /// How many tokens the model knows.
        vocab_size: usize,
    },
    /// Prompt and completion together do not fit the model's context.
    #[error(
        "the prompt has {prompt_tokens} tokens and up to {max_tokens} more are asked for, \
         but the model's context holds {limit}"
    )]
    ContextOverflow {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Most tokens the request may generate.
        max_tokens: usize,
        /// Tokens that the context holds.
        limit: usize,
    },
    /// Every place, running and waiting, is taken.
    #[error("all {capacity} places of the engine are taken, try again later")]
    QueueFull {
        /// Running and waiting places together.
        capacity: usize,
    },
    /// Too many prompt tokens wait.
    #[error(
        "{waiting} prompt tokens are waiting, with this request's {asked} they would be more than \
         {limit}, try again later"
    )]
    QueuedTokensFull {
        /// Prompt tokens that wait.
        waiting: usize,
        /// Prompt tokens of the request.
        asked: usize,
        /// Most that may wait.
        limit: usize,
    },
    /// The engine thread has ended.
    #[error("the engine has stopped")]
    Stopped,
    /// Whoever wanted the completions does not want them any more.
    #[error("the completions were called off")]
    CalledOff,
    /// The engine had a fault while the request was inside, and starts anew. The request may be
    /// sent again.
    #[error("the engine had to be restarted while it worked on this request")]
    Restarted,
    /// The model refused the sequence's step.
    #[error("the model could not compute the next step of this sequence")]
    Step(#[source] StepError),
    /// The model panicked on the sequence's step.
    #[error("the model panicked on this sequence: {0}")]
    Panicked(String),
    /// The sequence's logits cannot be sampled.
    #[error("no token could be chosen for this sequence")]
    Sample(#[source] SampleError),
    /// The sequence's constraint failed.
    #[error("the constraint on this sequence's tokens failed")]
    Constraint(#[source] ConstraintError),
}
