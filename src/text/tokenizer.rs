//! Text to token ids and back, by a checkpoint's `tokenizer.json`.
//!
//! Two encoders over one vocabulary: *markup* reads special tokens' texts as those tokens, *plain*
//! never does, whatever the text says.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tokenizers::{DecoderWrapper, ModelWrapper};

use super::TextError;
use super::bound::bytes_per_token;
use crate::types::TokenId;

/// Text whose last token is a whole word in any vocabulary.
const ANCHOR: &str = "a";

/// A checkpoint's tokenizer.
pub struct Tokenizer {
    markup: tokenizers::Tokenizer,
    plain: tokenizers::Tokenizer,
    /// Special tokens' texts, longest first.
    specials: Vec<(String, TokenId)>,
    /// `bos_token`, `eos_token` and the like.
    named: BTreeMap<String, String>,
    /// Tokens that end an answer, beside the one that is named so.
    ends: Vec<TokenId>,
    vocab_size: usize,
    /// An ordinary token, to decode others behind it.
    anchor: TokenId,
    /// Whether pieces spell bytes in the alphabet of GPT-2, and nothing else happens to them.
    byte_level: bool,
    /// Most bytes of a text for each of its tokens, where there is such a bound.
    bytes_per_token: Option<usize>,
    /// Whether a special token's text begins with this byte.
    special_starts: [bool; 256],
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a model folder, and `tokenizer_config.json` where it exists.
    pub fn load(dir: &Path) -> Result<Self, TextError> {
        let path = dir.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(|source| TextError::Io {
            path: path.clone(),
            source,
        })?;
        Self::of_json(&bytes, &path, (named_tokens(dir)?, Vec::new()))
    }

    /// One that is described as in a `tokenizer.json`, with tokens by their names and those that
    /// end an answer beside the one that is named so.
    pub(super) fn of_json(
        bytes: &[u8],
        path: &Path,
        (named, ends): (BTreeMap<String, String>, Vec<TokenId>),
    ) -> Result<Self, TextError> {
        let mut markup =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| TextError::Invalid {
                path: path.to_owned(),
                reason: format!("not a tokenizer ({error})"),
            })?;
        markup.with_padding(None);
        markup
            .with_truncation(None)
            .map_err(|source| TextError::Tokenizer {
                action: "turning truncation off",
                source,
            })?;
        let mut plain = markup.clone();
        plain.set_encode_special_tokens(true);
        let mut specials: Vec<(String, TokenId)> = markup
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special && !token.content.is_empty())
            .map(|(id, token)| (token.content, id))
            .collect();
        let mut special_starts = [false; 256];
        for (text, _) in &specials {
            special_starts[usize::from(text.as_bytes()[0])] = true;
        }
        specials.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        let anchor = plain.encode_fast(ANCHOR, false).map_err(encoding_failed)?;
        let anchor = anchor.get_ids().last().copied().unwrap_or_default();
        let described: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let largest = markup.get_vocab(true).into_values().max();
        Ok(Self {
            vocab_size: largest.map_or(0, |id| id as usize + 1),
            named,
            ends,
            anchor,
            byte_level: matches!(markup.get_decoder(), Some(DecoderWrapper::ByteLevel(_))),
            bytes_per_token: bytes_per_token(&described),
            special_starts,
            markup,
            plain,
            specials,
        })
    }

    /// Ordinary text to tokens; special tokens' texts stay ordinary text.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<TokenId>, TextError> {
        let encoding = self
            .plain
            .encode_fast(text, false)
            .map_err(encoding_failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// From which byte to which each token of an ordinary text comes.
    pub(super) fn places(&self, text: &str) -> Result<Vec<(usize, usize)>, TextError> {
        let encoding = self.plain.encode(text, false).map_err(encoding_failed)?;
        Ok(encoding.get_offsets().to_vec())
    }

    /// Text of the server's or the checkpoint's own, in which special tokens' texts become those
    /// tokens; none is added.
    pub fn encode_markup(&self, text: &str) -> Result<Vec<TokenId>, TextError> {
        let encoding = self
            .markup
            .encode_fast(text, false)
            .map_err(encoding_failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// A plain prompt: ordinary text and what the tokenizer itself puts around it, for most
    /// decoders the beginning-of-sequence token.
    pub fn encode_with_bos(&self, text: &str) -> Result<Vec<TokenId>, TextError> {
        let encoding = self
            .plain
            .encode_fast(text, true)
            .map_err(encoding_failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The id of a special token, by its text.
    pub fn special_id(&self, text: &str) -> Option<TokenId> {
        self.specials
            .iter()
            .find(|(special, _)| special == text)
            .map(|(_, id)| *id)
    }

    /// Whether this is a special token's id.
    pub fn is_special(&self, id: TokenId) -> bool {
        self.specials.iter().any(|(_, special)| *special == id)
    }

    /// Whether any text outside the vocabulary becomes this token.
    pub(super) fn stands_for_unknown(&self, text: &str) -> bool {
        let by_model = match self.markup.get_model() {
            ModelWrapper::BPE(model) => model.unk_token.as_deref(),
            ModelWrapper::WordPiece(model) => Some(model.unk_token.as_str()),
            ModelWrapper::WordLevel(model) => Some(model.unk_token.as_str()),
            ModelWrapper::Unigram(_) => None,
        };
        let named = self.named.get("unk_token").map(String::as_str);
        by_model == Some(text) || named == Some(text)
    }

    /// The longest special token's text that a text begins with.
    pub(super) fn leading_special(&self, text: &str) -> Option<&str> {
        let first = *text.as_bytes().first()?;
        // a table of bytes, because this is asked at every character of every message
        if !self.special_starts[usize::from(first)] {
            return None;
        }
        let texts = self.specials.iter().map(|(text, _)| text.as_str());
        texts.into_iter().find(|special| text.starts_with(special))
    }

    /// Refuses a text that by its length alone has `most` tokens or more, before any are made.
    pub(super) fn check_length(&self, text: &str, most: usize) -> Result<(), TextError> {
        let at_least = self.bytes_per_token.map_or(0, |per| text.len() / per);
        match at_least < most {
            true => Ok(()),
            false => Err(TextError::TooLong { at_least, most }),
        }
    }

    /// Tokens to text; special tokens are left out.
    pub fn decode(&self, ids: &[TokenId]) -> String {
        // unknown ids decode to nothing; the library has no other way to fail here
        self.markup.decode(ids, true).unwrap_or_default()
    }

    /// One token's text as it reads behind another word, its leading blank included; special
    /// tokens by their names.
    pub fn token_text(&self, id: TokenId) -> String {
        if self.is_special(id) {
            return self.markup.id_to_token(id).unwrap_or_default();
        }
        // At the start of a text most decoders drop the blank.
        let pair = self.decode(&[self.anchor, id]);
        let alone = self.decode(&[self.anchor]);
        match pair.strip_prefix(&alone) {
            Some(text) => text.to_owned(),
            None => self.decode(&[id]),
        }
    }

    /// One token's bytes: of a special token its name's, else what it adds to a text.
    pub fn token_bytes(&self, id: TokenId) -> Vec<u8> {
        match self.is_special(id) {
            true => self.token_text(id).into_bytes(),
            false => self.piece_bytes(id),
        }
    }

    /// The bytes that a token which is not special adds to a text; none for an unknown one.
    pub(super) fn piece_bytes(&self, id: TokenId) -> Vec<u8> {
        let piece = self.markup.id_to_token(id).unwrap_or_default();
        if self.byte_level {
            let bytes = piece.chars().map(byte_of).collect::<Option<_>>();
            // as in the library: what is not in the alphabet spells itself
            return bytes.unwrap_or_else(|| piece.into_bytes());
        }
        match spelled_byte(&piece) {
            Some(byte) => vec![byte],
            // the blank of SentencePiece
            None => piece.replace('\u{2581}', " ").into_bytes(),
        }
    }

    /// Whether a text is its tokens' bytes, one after the other, read as UTF-8.
    pub(super) fn joins_bytes(&self) -> bool {
        self.byte_level
    }

    /// Whether the token spells one byte as `<0xNN>`, as byte fallback does.
    pub(super) fn is_byte_piece(&self, id: TokenId) -> bool {
        spelled_byte(&self.markup.id_to_token(id).unwrap_or_default()).is_some()
    }

    /// Tokens to text, special tokens' texts included.
    pub fn decode_with_specials(&self, ids: &[TokenId]) -> String {
        self.markup.decode(ids, false).unwrap_or_default()
    }

    /// One more than the largest token id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The beginning-of-sequence token.
    pub fn bos_id(&self) -> Option<TokenId> {
        self.markup.token_to_id(self.named.get("bos_token")?)
    }

    /// The end-of-sequence tokens that the tokenizer's own settings name; the model's
    /// configuration may name more.
    pub fn eos_ids(&self) -> Vec<TokenId> {
        let eos = self
            .named
            .get("eos_token")
            .and_then(|text| self.markup.token_to_id(text));
        eos.into_iter().chain(self.ends.iter().copied()).collect()
    }

    /// `bos_token`, `eos_token` and the like with their texts, for templates.
    pub(super) fn named(&self) -> &BTreeMap<String, String> {
        &self.named
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size)
            .finish_non_exhaustive()
    }
}

fn encoding_failed(source: tokenizers::Error) -> TextError {
    TextError::Tokenizer {
        action: "encoding the text",
        source,
    }
}

/// The byte of a piece `<0xNN>`.
fn spelled_byte(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
}

/// The byte that a character of the byte-level alphabet stands for (the table of GPT-2).
fn byte_of(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ 0..=0xFF if is_own(code as u8) => Some(code as u8),
        code @ 0x100.. => (0..=255u8)
            .filter(|b| !is_own(*b))
            .nth(code as usize - 0x100),
        _ => None,
    }
}

/// The other way round.
pub(super) fn char_of(byte: u8) -> char {
    match is_own(byte) {
        true => char::from(byte),
        false => {
            let place = (0..byte).filter(|b| !is_own(*b)).count();
            // at most 0x1FF, which is a character
            char::from_u32(0x100 + place as u32).unwrap_or_default()
        }
    }
}

/// Whether a byte stands for itself in the byte-level alphabet.
fn is_own(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// Tokens by name from `special_tokens_map.json` and, over it, `tokenizer_config.json`.
fn named_tokens(dir: &Path) -> Result<BTreeMap<String, String>, TextError> {
    let mut named = BTreeMap::new();
    for file in ["special_tokens_map.json", "tokenizer_config.json"] {
        let Some(Value::Object(entries)) = read_json(&dir.join(file))? else {
            continue;
        };
        for (name, value) in entries {
            let text = value
                .as_str()
                .or_else(|| value.get("content").and_then(Value::as_str));
            if let (true, Some(text)) = (name.ends_with("_token"), text) {
                named.insert(name, text.to_owned());
            }
        }
    }
    Ok(named)
}

/// A JSON file's content; `None` where there is no such file.
pub(super) fn read_json(path: &Path) -> Result<Option<Value>, TextError> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| TextError::Invalid {
                path: path.to_owned(),
                reason: format!("not JSON: {error}"),
            }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TextError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}
