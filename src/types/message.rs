//! A conversation's turns, and the control span that tells a policy its objective weights.

use serde::{Deserialize, Serialize};

/// Who speaks a turn of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions of the application.
    System,
    /// The person who asks.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

impl Role {
    /// The name that chat templates compare against.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self {
            role: Role::User,
            content: content.into(),
        }
    }

    /// A turn of the assistant.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self {
            role: Role::Assistant,
            content: content.into(),
        }
    }
}

/// Where a control span stands among the prompt's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Right after the beginning-of-sequence token, before everything the caller wrote.
    #[default]
    PromptStart,
    /// After everything the caller wrote, before the assistant's generation marker.
    PromptEnd,
}

/// Server-written text inside the prompt, fenced by two special tokens.
///
/// `open` and `close` name special tokens of the tokenizer. Caller text is encoded with special
/// tokens off, so no caller can write either fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlSpan {
    /// Special token that opens the span.
    pub open: String,
    /// What stands between the fences, encoded as ordinary text.
    pub body: String,
    /// Special token that closes the span.
    pub close: String,
    /// Where the span stands.
    pub placement: Placement,
}
