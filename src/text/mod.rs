//! Text to tokens and back, incrementally, so that caller text can never forge a control token.

mod bound;
mod chat;
mod detokenizer;
mod error;
mod gguf;
mod grammar;
mod prompt;
mod shield;
mod stop;
mod tokenizer;
mod train;
mod truncation;

pub use chat::ChatTemplate;
pub use detokenizer::Detokenizer;
pub use error::TextError;
pub use grammar::{GrammarCompiler, GrammarError, GrammarSource, MAX_GRAMMAR_BYTES};
pub use prompt::{OpenPrompt, Opening, PromptEncoder};
pub use stop::{StopMatcher, StopOutcome};
pub use tokenizer::Tokenizer;
pub use train::{TokenizerSettings, train_tokenizer};
pub use truncation::{Side, Truncation};
