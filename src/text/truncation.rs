//! Shortens what a caller wrote until its prompt has no more tokens than asked.
//!
//! A plain prompt loses tokens at one end. Of a conversation the messages' texts are shortened, and
//! it is rendered anew, so that what the chat template writes around them stays whole.

use super::prompt::{OpenPrompt, Opening, PromptEncoder};
use super::{TextError, Tokenizer};
use crate::types::{Message, Role, TokenId};

/// At which end text is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Side {
    /// At its beginning, so that what was said last stays.
    #[default]
    Left,
    /// At its end.
    Right,
}

/// How long a prompt may be, its control span aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncation {
    /// Tokens that it may have.
    pub most: usize,
    /// Where the others are left out.
    pub side: Side,
}

impl PromptEncoder {
    /// A conversation of at most so many tokens. Texts of the system go behind all others but the
    /// one at the other end: of what is cut on the left, the newest.
    pub(super) fn open_truncated_chat(
        &self,
        messages: &[Message],
        opening: Opening,
        truncation: Truncation,
    ) -> Result<OpenPrompt, TextError> {
        let mut opened = self.open_chat(messages, opening)?;
        let whole = opened.len();
        let mut messages = messages.to_vec();
        let mut margin = 0;
        while opened.len() > truncation.most {
            let over = opened.len() - truncation.most + margin;
            self.shorten(&mut messages, over, truncation.side)?;
            opened = self.open_chat(&messages, opening)?;
            if messages.iter().all(|message| message.content.is_empty()) {
                let frame = opened.len();
                return Err(TextError::NothingLeft { frame });
            }
            // a shortened text may take more tokens than the ones that were kept of it
            margin = (2 * margin).max(1);
        }
        Ok(opened.without(whole))
    }

    /// The tokens of a plain prompt, of which there may be so many; the one that begins every
    /// sequence stays.
    pub(super) fn truncated(
        &self,
        mut ids: Vec<TokenId>,
        truncation: Truncation,
    ) -> Result<Vec<TokenId>, TextError> {
        let frame = self.after_bos(&ids);
        if truncation.most <= frame {
            return Err(TextError::NothingLeft { frame });
        }
        let over = ids.len().saturating_sub(truncation.most);
        match truncation.side {
            Side::Left => drop(ids.drain(frame..frame + over)),
            Side::Right => ids.truncate(ids.len() - over),
        }
        Ok(ids)
    }

    /// Takes so many tokens off the messages' texts, from one end of the conversation on.
    fn shorten(
        &self,
        messages: &mut [Message],
        mut tokens: usize,
        side: Side,
    ) -> Result<(), TextError> {
        let (system, mut order): (Vec<_>, Vec<_>) = messages
            .iter_mut()
            .partition(|message| message.role == Role::System);
        if side == Side::Right {
            order.reverse();
        }
        let longest_kept = order.pop();
        for message in order.into_iter().chain(system).chain(longest_kept) {
            if tokens == 0 {
                break;
            }
            let (kept, cut) = self.tokenizer().cut(&message.content, tokens, side)?;
            message.content = kept;
            tokens -= cut;
        }
        Ok(())
    }
}

impl Tokenizer {
    /// A text without its first or last so many tokens, and how many it lost.
    fn cut(&self, text: &str, tokens: usize, side: Side) -> Result<(String, usize), TextError> {
        let places = self.places(text)?;
        if tokens >= places.len() {
            return Ok((String::new(), places.len()));
        }
        let kept = match side {
            Side::Left => text.get(places[tokens].0..),
            Side::Right => text.get(..places[places.len() - tokens - 1].1),
        };
        // places are those of whole characters; what is not would not be the caller's text
        Ok((kept.unwrap_or_default().to_owned(), tokens))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::types::Placement;

    fn encoder(fixture: &str) -> PromptEncoder {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture);
        PromptEncoder::load(&folder).unwrap()
    }

    fn said(role: Role, content: &str) -> Message {
        Message {
            role,
            content: content.to_owned(),
        }
    }

    fn dialogue() -> Vec<Message> {
        vec![
            said(Role::System, "Be kind and brief."),
            said(Role::User, "Where does the Nile begin, and größer was? 🦀 "),
            said(Role::Assistant, "In Burundi, as far as anybody knows."),
            said(Role::User, "And what is the capital of Kenya today?"),
        ]
    }

    fn opened(most: usize, side: Side) -> Result<(usize, usize, String), TextError> {
        let encoder = encoder("models/demo");
        let opening = Opening {
            placement: Placement::PromptEnd,
            most: None,
            truncation: Some(Truncation { most, side }),
        };
        let opened = encoder.open_chat(&dialogue(), opening)?;
        let ids = encoder.close(&opened, None)?;
        let text = encoder.tokenizer().decode_with_specials(&ids);
        Ok((ids.len(), opened.left_out(), text))
    }

    #[test]
    fn a_conversation_loses_its_oldest_texts_and_no_frame() {
        let (whole, none, all) = opened(10_000, Side::Left).unwrap();
        assert_eq!(none, 0);
        let (mut least, mut frame) = (whole, None);
        for most in (1..whole).rev() {
            match opened(most, Side::Left) {
                Ok((tokens, left_out, text)) => {
                    assert!(
                        tokens <= most && tokens + left_out == whole,
                        "{most}: {tokens}"
                    );
                    let specials = |text: &str| text.matches("<|").count();
                    assert_eq!(specials(&text), specials(&all), "{text}");
                    assert!(text.contains("?<|end|><|assistant|>"), "{text}");
                    let (system, oldest) = (text.contains("kind"), text.contains("Nile"));
                    assert!(system || !text.contains("far"), "{text}");
                    assert!(!oldest || text.contains("Burundi"), "{text}");
                    assert!(!system || text.contains("Kenya"), "{text}");
                    least = tokens;
                }
                Err(TextError::NothingLeft { frame: found }) => frame = Some(found),
                Err(other) => panic!("{most}: {other}"),
            }
        }
        let frame = frame.expect("nothing can be left of a token");
        assert!(
            (frame + 1..frame + 6).contains(&least),
            "{least} of {frame}"
        );
    }

    #[test]
    fn on_the_right_the_newest_text_goes_first() {
        let (whole, ..) = opened(10_000, Side::Right).unwrap();
        let (tokens, left_out, text) = opened(whole - 3, Side::Right).unwrap();
        assert!(tokens <= whole - 3 && left_out >= 3);
        assert!(text.contains("Nile") && text.contains("And what") && !text.contains("today"));
    }

    #[test]
    fn a_plain_prompt_keeps_its_beginning_token_and_one_end() {
        let encoder = encoder("tests/fixtures/llama");
        let bos = encoder.tokenizer().bos_id().unwrap();
        let ids = vec![bos, 10, 11, 12, 13];
        let check = |most, side, expected: &[TokenId]| {
            let cut = encoder.truncated(ids.clone(), Truncation { most, side });
            assert_eq!(cut.unwrap(), expected, "{most} {side:?}");
        };
        check(9, Side::Left, &[bos, 10, 11, 12, 13]);
        check(3, Side::Left, &[bos, 12, 13]);
        check(3, Side::Right, &[bos, 10, 11]);
        let none = Truncation {
            most: 1,
            side: Side::Left,
        };
        let refused = encoder.truncated(ids.clone(), none);
        assert!(matches!(refused, Err(TextError::NothingLeft { frame: 1 })));
    }
}
