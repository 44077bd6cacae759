//! Keeps caller text from becoming special tokens on its way through a chat template.
//!
//! Each occurrence of a special token's text in a message is replaced by a sentinel before the
//! template is rendered. Afterwards the rendering is cut at the sentinels: what lies between is
//! encoded as markup, what they stand for as plain text. Text without any such occurrence passes
//! unchanged, so ordinary conversations get exactly the tokens that transformers gives them.

use super::TextError;
use super::tokenizer::Tokenizer;
use crate::types::{Message, TokenId};

/// Noncharacters: no text that means anything holds them.
const OPEN: char = '\u{FDD0}';
const CLOSE: char = '\u{FDD1}';

/// What was taken out of messages, in the order of its sentinels.
#[derive(Default)]
pub(super) struct Shield {
    hidden: Vec<String>,
}

impl Shield {
    /// The messages with every forgery replaced by a sentinel.
    pub(super) fn cover(&mut self, messages: &[Message], tokenizer: &Tokenizer) -> Vec<Message> {
        let covered = messages.iter().map(|message| Message {
            role: message.role,
            content: self.cover_text(&message.content, tokenizer),
        });
        covered.collect()
    }

    fn cover_text(&mut self, text: &str, tokenizer: &Tokenizer) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let forged = match tokenizer.leading_special(rest) {
                Some(special) => special.len(),
                None if first == OPEN || first == CLOSE => first.len_utf8(),
                None => {
                    out.push(first);
                    rest = &rest[first.len_utf8()..];
                    continue;
                }
            };
            out.extend([
                OPEN.to_string(),
                self.hidden.len().to_string(),
                CLOSE.to_string(),
            ]);
            self.hidden.push(rest[..forged].to_owned());
            rest = &rest[forged..];
        }
        out
    }

    /// Tokens of rendered markup, with what was hidden encoded as plain text.
    pub(super) fn encode(
        &self,
        rendered: &str,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<TokenId>, TextError> {
        if self.hidden.is_empty() {
            return tokenizer.encode_markup(rendered);
        }
        let mut ids = Vec::new();
        let mut rest = rendered;
        while let Some((before, after)) = rest.split_once(OPEN) {
            ids.extend(tokenizer.encode_markup(before)?);
            let (index, after) = after.split_once(CLOSE).unwrap_or((after, ""));
            let hidden = index
                .parse::<usize>()
                .ok()
                .and_then(|index| self.hidden.get(index));
            if let Some(hidden) = hidden {
                ids.extend(tokenizer.encode_plain(hidden)?);
            }
            rest = after;
        }
        ids.extend(tokenizer.encode_markup(rest)?);
        Ok(ids)
    }
}
