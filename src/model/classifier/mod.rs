//! Sequence classification: one row of logits for each sequence of tokens. Reward models are this.
//!
//! Encoders (BERT, RoBERTa, DistilBERT, DeBERTa-v2/v3), GPT-2, and every family of the decoder.
//! Sequences are packed end to end, never padded, so that a sequence's logits are its own.

mod bert;
mod causal;
mod deberta;
mod decoder;
mod disentangled;
mod distilbert;
mod encoder;
mod gpt2;
mod ops;
mod pack;
mod settings;

use std::path::Path;

use candle_core::Tensor;

use self::pack::Pack;
use super::ModelError;
use super::config_reader::ConfigReader;
use super::tensors::TensorFiles;
use crate::types::TokenId;

pub use decoder::DecoderClassifier;

/// Tokens computed together; bounds the memory of one pass.
const PACK_TOKENS: usize = 4096;

/// What one architecture computes for packed sequences.
trait Network: Send + Sync {
    /// (sequences, labels).
    fn logits(&self, pack: &Pack) -> Result<Tensor, ModelError>;
}

/// What a checkpoint's files became.
struct Loaded {
    network: Box<dyn Network>,
    labels: usize,
    vocab_size: usize,
    /// Longest sequence; `None` where positions are relative only.
    max_tokens: Option<usize>,
    /// Rows of the token-type embedding, 0 without one.
    token_types: usize,
    /// The dialogue, rendered by the chat template, is the input; else a pair of texts is.
    dialogue: bool,
}

/// A sequence-classification checkpoint, ready to score.
pub struct SequenceClassifier {
    loaded: Loaded,
}

impl SequenceClassifier {
    /// Loads a checkpoint folder: `config.json` and safetensors. What the configuration asks for
    /// and this program does not do is refused by name.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let mut reader = ConfigReader::open(&dir.join("config.json"))?;
        let model_type = check_architecture(&mut reader)?;
        let loaded = match model_type.as_str() {
            "gpt2" => gpt2::load(reader, TensorFiles::open(dir)?),
            "bert" => bert::load(reader, TensorFiles::open(dir)?),
            "roberta" | "xlm-roberta" => bert::load_roberta(reader, TensorFiles::open(dir)?),
            "distilbert" => distilbert::load(reader, TensorFiles::open(dir)?),
            "deberta-v2" => deberta::load(reader, TensorFiles::open(dir)?),
            _ => decoder::load(dir),
        }?;
        Ok(Self { loaded })
    }

    /// Numbers per sequence.
    pub fn num_labels(&self) -> usize {
        self.loaded.labels
    }

    /// Longest sequence in tokens; `None` where any length works.
    pub fn max_tokens(&self) -> Option<usize> {
        self.loaded.max_tokens
    }

    /// The two texts of a pair are told apart by token types.
    pub fn uses_token_types(&self) -> bool {
        self.loaded.token_types > 1
    }

    /// Built on a chat model's decoder: expects a dialogue in the chat template's form.
    pub fn expects_dialogue(&self) -> bool {
        self.loaded.dialogue
    }

    /// One row of logits for each sequence, the same alone and among others.
    ///
    /// `token_types` (parallel to `token_ids`) matters only where `uses_token_types`; without it
    /// all tokens are of type 0.
    pub fn logits(
        &self,
        token_ids: &[Vec<TokenId>],
        token_types: Option<&[Vec<u32>]>,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let token_types = token_types.filter(|_| self.uses_token_types());
        self.check(token_ids, token_types)?;
        let mut rows = Vec::with_capacity(token_ids.len());
        let mut start = 0;
        while start < token_ids.len() {
            let mut pack = Pack::default();
            while let Some(ids) = token_ids.get(start)
                && (pack.is_empty() || pack.len() + ids.len() <= PACK_TOKENS)
            {
                pack.push(ids, token_types.map(|types| types[start].as_slice()));
                start += 1;
            }
            rows.extend(self.loaded.network.logits(&pack)?.to_vec2::<f32>()?);
        }
        Ok(rows)
    }

    fn check(
        &self,
        token_ids: &[Vec<TokenId>],
        token_types: Option<&[Vec<u32>]>,
    ) -> Result<(), ModelError> {
        let fail = |reason: String| Err(ModelError::Compute(candle_core::Error::Msg(reason)));
        for (index, ids) in token_ids.iter().enumerate() {
            if ids.is_empty() {
                return fail(format!(
                    "sequence {index} is empty, expected at least one token"
                ));
            }
            if let Some(limit) = self.loaded.max_tokens
                && ids.len() > limit
            {
                let length = ids.len();
                return fail(format!(
                    "sequence {index} has {length} tokens, at most {limit} fit"
                ));
            }
            let vocabulary = self.loaded.vocab_size;
            if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
                return fail(format!(
                    "token {id} is outside the vocabulary of {vocabulary}"
                ));
            }
        }
        let Some(types) = token_types else {
            return Ok(());
        };
        let lengths_agree = types.len() == token_ids.len()
            && types
                .iter()
                .zip(token_ids)
                .all(|(types, ids)| types.len() == ids.len());
        if !lengths_agree {
            return fail("token types and token ids differ in number".to_owned());
        }
        let known = self.loaded.token_types;
        match types.iter().flatten().find(|id| **id as usize >= known) {
            Some(id) => fail(format!("token type {id} is unknown, the model has {known}")),
            None => Ok(()),
        }
    }
}

/// The encoder kinds and GPT-2 by `model_type`; decoders are known by their family.
const OWN_KINDS: [(&str, &str); 6] = [
    ("gpt2", "GPT2"),
    ("bert", "Bert"),
    ("roberta", "Roberta"),
    ("xlm-roberta", "XLMRoberta"),
    ("distilbert", "DistilBert"),
    ("deberta-v2", "DebertaV2"),
];

/// The checkpoint's `model_type`, once its architecture is known to be a classifier of that type.
fn check_architecture(reader: &mut ConfigReader) -> Result<String, ModelError> {
    const SUPPORTED: &str = "supported: ...ForSequenceClassification of gpt2, bert, roberta, xlm-roberta, \
                             distilbert, deberta-v2 and the decoder families";
    let model_type = reader
        .text("model_type")?
        .ok_or_else(|| reader.missing("model_type"))?;
    let names = reader
        .texts("architectures")?
        .ok_or_else(|| reader.missing("architectures"))?;
    let unsupported = |what: String| Err(reader.unsupported(what, SUPPORTED));
    let [name] = names.as_slice() else {
        return unsupported(format!("architectures {names:?}"));
    };
    let own = OWN_KINDS.iter().find(|(kind, _)| *kind == model_type);
    match (name.strip_suffix("ForSequenceClassification"), own) {
        (Some(stem), Some((_, expected))) if stem != *expected => unsupported(format!(
            "architecture `{name}` with model_type `{model_type}`"
        )),
        // an unknown type is refused where decoders are told apart
        (Some(_), _) => Ok(model_type),
        (None, _) => unsupported(format!("architecture `{name}`")),
    }
}
