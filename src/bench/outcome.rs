//! What became of one request, as its client saw it.

use std::time::Duration;

/// How a request ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Answered to its end.
    Completed(Completion),
    /// Refused with a status before anything was generated.
    Refused(Refusal),
    /// Anything else: no connection, a timeout, a stream that broke off.
    Failed {
        /// The kind, in words that are the same for all of its kind.
        kind: String,
    },
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// From sending to the first piece of text.
    pub first_text: Duration,
    /// Between one piece of text and the next. Most servers send one token a piece; pieces that
    /// arrive together are no time apart.
    pub gaps: Vec<Duration>,
    /// From sending to the end of the stream.
    pub total: Duration,
    /// Tokens of the answer: the server's count, or the pieces where it tells none.
    pub output_tokens: usize,
    /// Tokens of the prompt, where the server tells them.
    pub prompt_tokens: Option<usize>,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The error's code; empty where the reply has none.
    pub code: String,
    /// From sending to the reply.
    pub after: Duration,
    /// Whether the reply says when to try again.
    pub says_when: bool,
}

impl Outcome {
    /// A failure of a kind.
    pub(super) fn failed(kind: impl Into<String>) -> Self {
        Self::Failed { kind: kind.into() }
    }

    /// What kind of error it is; `None` for an answer.
    pub fn error_kind(&self) -> Option<String> {
        match self {
            Self::Completed(_) => None,
            Self::Refused(Refusal { status, code, .. }) if code.is_empty() => {
                Some(format!("status {status}"))
            }
            Self::Refused(Refusal { status, code, .. }) => Some(format!("status {status} {code}")),
            Self::Failed { kind } => Some(kind.clone()),
        }
    }
}
