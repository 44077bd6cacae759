//! Tokens to text as they come, never half a character.

use std::sync::Arc;

use super::Tokenizer;
use crate::types::TokenId;

/// Turns one sequence's tokens into text, piece by piece.
///
/// The pieces, with what `finish` returns, join to the decoding of all tokens at once. Holds no
/// more than what is not settled yet.
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    held: Held,
}

/// What is not settled yet.
enum Held {
    /// The beginning of a character, where pieces are bytes.
    Bytes(Vec<u8>),
    /// The last tokens, where what a token spells depends on its neighbours.
    Tokens {
        ids: Vec<TokenId>,
        /// Of these, tokens whose text is out.
        told: usize,
    },
}

impl Detokenizer {
    /// Starts a sequence.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        let held = match tokenizer.joins_bytes() {
            true => Held::Bytes(Vec::new()),
            false => Held::Tokens {
                ids: Vec::new(),
                told: 0,
            },
        };
        Self { tokenizer, held }
    }

    /// Takes a token; returns the text it completes, which is empty inside a character.
    pub fn push(&mut self, id: TokenId) -> String {
        if self.tokenizer.is_special(id) {
            return String::new();
        }
        match &mut self.held {
            Held::Bytes(bytes) => {
                bytes.extend(self.tokenizer.piece_bytes(id));
                let settled = settled_bytes(bytes);
                let text = String::from_utf8_lossy(&bytes[..settled]).into_owned();
                bytes.drain(..settled);
                text
            }
            Held::Tokens { ids, told } => {
                ids.push(id);
                if self.tokenizer.is_byte_piece(id) {
                    // a run of such bytes is text only as a whole, so it waits for what ends it
                    return String::new();
                }
                let piece = untold(&self.tokenizer, ids, *told);
                if piece.is_empty() || piece.ends_with('\u{FFFD}') {
                    return String::new();
                }
                // what follows is decoded behind these tokens, and behind none before them
                ids.drain(..*told);
                *told = ids.len();
                piece
            }
        }
    }

    /// What is left at the end: an incomplete character becomes the replacement character.
    pub fn finish(&mut self) -> String {
        match &mut self.held {
            Held::Bytes(bytes) => String::from_utf8_lossy(&std::mem::take(bytes)).into_owned(),
            Held::Tokens { ids, told } => {
                let rest = untold(&self.tokenizer, ids, *told);
                ids.clear();
                *told = 0;
                rest
            }
        }
    }
}

/// The text of the tokens behind the first `told`.
fn untold(tokenizer: &Tokenizer, ids: &[TokenId], told: usize) -> String {
    let before = tokenizer.decode(&ids[..told]);
    let now = tokenizer.decode(ids);
    now.strip_prefix(before.as_str())
        .unwrap_or_default()
        .to_owned()
}

/// How many bytes further ones cannot change: all but the beginning of a character.
fn settled_bytes(bytes: &[u8]) -> usize {
    let mut settled = 0;
    for chunk in bytes.utf8_chunks() {
        settled += chunk.valid().len();
        let open = chunk.invalid();
        // at the very end, what could still become a character is left
        if settled + open.len() == bytes.len() && may_go_on(open) {
            return settled;
        }
        settled += open.len();
    }
    settled
}

/// Whether bytes that are no character could be the beginning of one.
fn may_go_on(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_beginning_of_a_character_is_held() {
        for (bytes, settled) in [
            (&b""[..], 0),
            (b"abc", 3),
            ("a\u{e9}".as_bytes(), 3),
            (b"a\xc3", 1),
            (b"\xf0\x9f\x98", 0),
            (b"\xf0\x9f\x98\x80", 4),
            // a byte that begins nothing, and one that goes on with nothing
            (b"\xff", 1),
            (b"a\x80", 2),
            (b"\xf0\x9fx", 3),
            (b"\xff\xe6\x97", 1),
        ] {
            assert_eq!(settled_bytes(bytes), settled, "{bytes:?}");
        }
    }
}
