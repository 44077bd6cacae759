//! What can go wrong between text and tokens.

use std::path::PathBuf;

use crate::gguf::GgufError;

/// Why a text could not become tokens, or a tokenizer could not be loaded or trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file is missing or cannot be read or written.
    #[error("cannot access {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file does not have the expected content.
    #[error("{} is not valid: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A GGUF file's tokenizer cannot be used.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The tokenizer library refused a text or a setting.
    #[error("{action} failed")]
    Tokenizer {
        /// What was attempted.
        action: &'static str,
        /// What the library said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The chat template cannot be compiled.
    #[error("chat template of {} does not compile at line {line}: {detail}", path.display())]
    TemplateSyntax {
        /// The file that holds it.
        path: PathBuf,
        /// Line inside the template, from 1.
        line: usize,
        /// What is wrong there.
        detail: String,
    },
    /// The chat template refused the conversation by `raise_exception`.
    #[error("{0}")]
    TemplateRefused(String),
    /// The chat template failed, or used up its bound on work.
    #[error("the chat template failed on this conversation: {0}")]
    TemplateFailed(String),
    /// A conversation was given but the checkpoint cannot render one.
    #[error("this model has no chat template, so it cannot take messages; send a plain prompt")]
    NoChatTemplate,
    /// A conversation without a single message.
    #[error("messages is empty, expected at least one message")]
    NoMessages,
    /// A control span's fence is no special token, so caller text could forge it.
    #[error(
        "conditioning is fenced by `{0}`, which is no special token of this tokenizer, or the one for unknown text"
    )]
    SpanToken(String),
    /// A control span's fence is part of every conversation.
    #[error("conditioning is fenced by `{0}`, which the chat template writes itself")]
    FenceInTemplate(String),
    /// The caller's text came out as one of the span's fences, joined by the template or spelled
    /// by an ordinary piece of the vocabulary.
    #[error("the text spells `{0}`, which only the server may write; change it")]
    ForgedSpan(String),
    /// A text of so many bytes that its tokens, how many they may be, are too many.
    #[error("the text has {at_least} tokens or more, expected fewer than {most}")]
    TooLong {
        /// Tokens that it has at the least.
        at_least: usize,
        /// Tokens that there is room for.
        most: usize,
    },
    /// A prompt was to be shortened to less than stands around a caller's text.
    #[error("nothing of the text is left beside the {frame} tokens around it")]
    NothingLeft {
        /// Tokens that are not the caller's.
        frame: usize,
    },
    /// Earlier turns render differently once later ones follow.
    #[error("the chat template renders message {0} differently once others follow it")]
    NotPrefixStable(usize),
}
