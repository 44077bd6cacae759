//! Tokens to text as they come, never half a character.

use std::sync::Arc;

use super::Tokenizer;
use crate::types::TokenId;

/// Turns one sequence's tokens into text, piece by piece.
///
/// The pieces, with what `finish` returns, join to the decoding of all tokens at once.
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    ids: Vec<TokenId>,
    /// Tokens before this index no longer influence what comes.
    window: usize,
    /// Tokens before this index have been emitted.
    emitted: usize,
    text: String,
}

impl Detokenizer {
    /// Starts a sequence.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self {
            tokenizer,
            ids: Vec::new(),
            window: 0,
            emitted: 0,
            text: String::new(),
        }
    }

    /// Takes a token; returns the text it completes, which is empty inside a character.
    pub fn push(&mut self, id: TokenId) -> String {
        self.ids.push(id);
        if self.tokenizer.is_byte_piece(id) {
            // a run of such bytes is text only as a whole, so it waits for what ends it
            return String::new();
        }
        let before = self.tokenizer.decode(&self.ids[self.window..self.emitted]);
        let now = self.tokenizer.decode(&self.ids[self.window..]);
        let whole = !now.ends_with('\u{FFFD}');
        match now.strip_prefix(before.as_str()) {
            Some(piece) if whole && !piece.is_empty() => {
                let piece = piece.to_owned();
                self.window = self.emitted;
                self.emitted = self.ids.len();
                self.text.push_str(&piece);
                piece
            }
            _ => String::new(),
        }
    }

    /// What is left at the end: an incomplete character becomes the replacement character.
    pub fn finish(self) -> String {
        let all = self.tokenizer.decode(&self.ids);
        all.strip_prefix(self.text.as_str())
            .unwrap_or_default()
            .to_owned()
    }
}
