//! The tokenizer and chat template of a GGUF file.
//!
//! A file tells a vocabulary, and names how text is split and joined; what follows from the names is
//! spelled out here, as a `tokenizer.json` would.

mod byte_pairs;
mod pieces;
mod splitting;

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::{ChatTemplate, PromptEncoder, TextError, Tokenizer};
use crate::gguf::{GgufError, GgufFile, Metadata};
use crate::types::TokenId;

/// Texts of control tokens that end an answer, whether or not the file says so: files name one, and
/// chat models of these families may say another.
const ENDS: [&str; 7] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
];

impl PromptEncoder {
    /// The tokenizer and template of a GGUF file.
    ///
    /// # Errors
    /// A kind of tokenizer that is not supported, named; or a vocabulary that is not sound.
    pub fn load_gguf(file: &GgufFile) -> Result<Self, TextError> {
        let metadata = file.metadata();
        let tokenizer = Tokenizer::of_gguf(metadata)?;
        let template = metadata
            .text("tokenizer.chat_template")?
            .map(|source| ChatTemplate::compile(source, metadata.path(), &tokenizer))
            .transpose()?;
        Ok(Self::of_parts(tokenizer, template))
    }
}

impl Tokenizer {
    /// The tokenizer that a GGUF file's metadata describe.
    ///
    /// # Errors
    /// Its kind is not supported, or its vocabulary is not sound.
    pub fn of_gguf(metadata: &Metadata) -> Result<Self, TextError> {
        let key = "tokenizer.ggml.model";
        let vocabulary = Vocabulary::of(metadata)?;
        let (spec, adds) = match metadata.text(key)? {
            Some("gpt2") => byte_pairs::spec(metadata, &vocabulary)?,
            Some("llama") => pieces::spec(metadata, &vocabulary)?,
            Some(other) => {
                return Err(metadata
                    .unsupported(
                        format!("a tokenizer of the kind `{other}`"),
                        "supported: gpt2 (byte-level pairs), llama (SentencePiece pairs)",
                    )
                    .into());
            }
            None => return Err(metadata.wrong(key, "is missing").into()),
        };
        let spec = whole(spec, &vocabulary, metadata, adds)?;
        let ends = vocabulary.ids_of(&ENDS);
        Self::of_json(
            spec.to_string().as_bytes(),
            metadata.path(),
            (vocabulary.named(metadata)?, ends),
        )
    }
}

/// Whether a tokenizer of a kind puts tokens around a plain prompt, where the file does not say.
#[derive(Debug, Clone, Copy)]
struct Adds {
    bos: bool,
    eos: bool,
}

/// ggml's kinds of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A piece of text; also what is unused, and a byte.
    Plain,
    /// Stands for text outside of the vocabulary.
    Unknown,
    /// Written by templates and servers alone.
    Control,
    /// A piece that is never split.
    UserDefined,
    /// Never used.
    Unused,
    /// A single byte.
    Byte,
}

/// The tokens of a file, by their ids.
struct Vocabulary<'a> {
    texts: &'a [String],
    kinds: Vec<Kind>,
}

impl<'a> Vocabulary<'a> {
    fn of(metadata: &'a Metadata) -> Result<Self, GgufError> {
        let key = "tokenizer.ggml.tokens";
        let texts = metadata.texts(key)?;
        let texts = texts.ok_or_else(|| metadata.wrong(key, "is missing"))?;
        let key = "tokenizer.ggml.token_type";
        let kinds = match metadata.ints(key)? {
            None => vec![Kind::Plain; texts.len()],
            Some(kinds) if kinds.len() != texts.len() => {
                let (found, expected) = (kinds.len(), texts.len());
                let reason = format!("has {found} entries for {expected} tokens");
                return Err(metadata.wrong(key, reason));
            }
            Some(kinds) => kinds
                .iter()
                .map(|kind| match kind {
                    1 => Ok(Kind::Plain),
                    2 => Ok(Kind::Unknown),
                    3 => Ok(Kind::Control),
                    4 => Ok(Kind::UserDefined),
                    5 => Ok(Kind::Unused),
                    6 => Ok(Kind::Byte),
                    other => Err(metadata.wrong(key, format!("has a {other}, expected 1 to 6"))),
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Self { texts, kinds })
    }

    fn iter(&self) -> impl Iterator<Item = (TokenId, &'a str, Kind)> {
        let tokens = self.texts.iter().zip(&self.kinds);
        // a list in memory has fewer entries than ids there are
        (0..)
            .zip(tokens)
            .map(|(id, (text, kind))| (id, text.as_str(), *kind))
    }

    fn ids_of(&self, texts: &[&str]) -> Vec<TokenId> {
        self.iter()
            .filter(|(_, text, kind)| *kind == Kind::Control && texts.contains(text))
            .map(|(id, ..)| id)
            .collect()
    }

    /// The text of the token that an entry names.
    fn named_text(&self, metadata: &Metadata, name: &str) -> Result<Option<&'a str>, GgufError> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let Some(id) = metadata.count(&key)? else {
            return Ok(None);
        };
        let text = self.texts.get(id).map(String::as_str);
        let outside = || metadata.wrong(&key, format!("is {id}, beyond the vocabulary"));
        text.ok_or_else(outside).map(Some)
    }

    /// `bos_token` and the like, as templates and others ask for them.
    fn named(&self, metadata: &Metadata) -> Result<BTreeMap<String, String>, GgufError> {
        let mut named = BTreeMap::new();
        for (theirs, ours) in [
            ("bos", "bos_token"),
            ("eos", "eos_token"),
            ("unknown", "unk_token"),
            ("padding", "pad_token"),
        ] {
            if let Some(text) = self.named_text(metadata, theirs)? {
                named.insert(ours.to_owned(), text.to_owned());
            }
        }
        Ok(named)
    }

    /// Every token with its id, as `vocab` of a model.
    fn ids(&self, metadata: &Metadata) -> Result<serde_json::Map<String, Json>, GgufError> {
        let mut ids = serde_json::Map::new();
        for (id, text, _) in self.iter() {
            if let Some(other) = ids.insert(text.to_owned(), json!(id)) {
                let reason = format!("has the same text for {other} and {id}");
                return Err(metadata.wrong("tokenizer.ggml.tokens", reason));
            }
        }
        Ok(ids)
    }

    /// Tokens that are found in a text before it is split.
    fn added(&self) -> Vec<Json> {
        self.iter()
            .filter(|(_, text, kind)| {
                let whole = [Kind::Unknown, Kind::Control, Kind::UserDefined];
                !text.is_empty() && whole.contains(kind)
            })
            .map(|(id, text, kind)| {
                json!({
                    "id": id,
                    "content": text,
                    "single_word": false,
                    "lstrip": false,
                    "rstrip": false,
                    "normalized": false,
                    "special": kind != Kind::UserDefined,
                })
            })
            .collect()
    }
}

/// Completes a kind's own parts: tokens that are added, and what stands around a plain prompt.
fn whole(
    mut spec: Json,
    vocabulary: &Vocabulary<'_>,
    metadata: &Metadata,
    usual: Adds,
) -> Result<Json, GgufError> {
    let stated = |name: &str| metadata.flag(&format!("tokenizer.ggml.add_{name}_token"));
    let adds = Adds {
        bos: stated("bos")?.unwrap_or(usual.bos),
        eos: stated("eos")?.unwrap_or(usual.eos),
    };
    let mut around = Vec::new();
    for (wanted, name) in [(adds.bos, "bos"), (adds.eos, "eos")] {
        let text = vocabulary.named_text(metadata, name)?.filter(|_| wanted);
        let id = metadata.count(&format!("tokenizer.ggml.{name}_token_id"))?;
        around.push(text.zip(id));
    }
    let token = |side: usize| {
        around[side].map(|(text, _)| json!({"SpecialToken": {"id": text, "type_id": 0}}))
    };
    let text = |name: &str| Some(json!({"Sequence": {"id": name, "type_id": 0}}));
    let single: Vec<Json> = [token(0), text("A"), token(1)]
        .into_iter()
        .flatten()
        .collect();
    let pair: Vec<Json> = [token(0), text("A"), token(1), text("B"), token(1)]
        .into_iter()
        .flatten()
        .collect();
    let special: serde_json::Map<String, Json> = around
        .iter()
        .flatten()
        .map(|(text, id)| {
            let entry = json!({"id": text, "ids": [id], "tokens": [text]});
            ((*text).to_owned(), entry)
        })
        .collect();
    spec["version"] = json!("1.0");
    spec["added_tokens"] = json!(vocabulary.added());
    spec["post_processor"] = match special.is_empty() {
        true => Json::Null,
        false => json!({
            "type": "TemplateProcessing",
            "single": single,
            "pair": pair,
            "special_tokens": special,
        }),
    };
    Ok(spec)
}
