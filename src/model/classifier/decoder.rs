//! Classifiers built on the decoder: every family of it, with `score.weight` in place of the
//! language head.

use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;

use super::super::config_reader::ConfigReader;
use super::super::tensors::TensorFiles;
use super::causal::{load_score, score_rows};
use super::pack::{Pack, indices};
use super::settings::read_labels;
use super::{Loaded, Network};
use crate::kernel::matmul::Precision;
use crate::model::{Decoder, DecoderConfig, ForwardBatch, ModelError};
use crate::types::TokenId;

/// A decoder with a score head.
pub struct DecoderClassifier {
    decoder: Arc<Decoder>,
    /// (labels, hidden)
    score: Tensor,
}

impl DecoderClassifier {
    /// A head over a decoder; `score` is (labels, hidden) and may be a variable.
    pub fn new(decoder: Arc<Decoder>, score: Tensor) -> Result<Self, ModelError> {
        let (labels, width) = score.dims2()?;
        let hidden = decoder.config().hidden_size;
        if width == hidden && labels > 0 {
            return Ok(Self { decoder, score });
        }
        Err(ModelError::Tensor {
            name: "score.weight".to_owned(),
            reason: format!("has shape [{labels}, {width}], expected [labels, {hidden}]"),
        })
    }

    /// Loads a `...ForSequenceClassification` folder of a decoder's family.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let mut reader = ConfigReader::open(&dir.join("config.json"))?;
        let labels = read_labels(&mut reader)?;
        let mut config = DecoderConfig::load(dir)?;
        // the language head is not needed, and classifiers are saved without it
        config.tied = true;
        let mut files = TensorFiles::open(dir)?;
        let score = load_score(&mut files, labels, config.hidden_size)?;
        let decoder = Decoder::build(config, &mut files, Precision::F32)?;
        let harmless =
            |name: &&str| *name == "lm_head.weight" || name.ends_with("rotary_emb.inv_freq");
        if let Some(name) = files.untouched().find(|name| !harmless(name)) {
            return Err(ModelError::Tensor {
                name: name.to_owned(),
                reason: "is no part of the classifier that config.json describes".to_owned(),
            });
        }
        Self::new(Arc::new(decoder), score)
    }

    /// The decoder below the head.
    pub fn decoder(&self) -> &Arc<Decoder> {
        &self.decoder
    }

    /// The head, (labels, hidden).
    pub fn score(&self) -> &Tensor {
        &self.score
    }

    /// (spans, labels): each span's scores at its last token. Differentiable in the head and in
    /// every variable that the decoder or the spans' adapters hold.
    pub fn scores(&self, batch: &ForwardBatch) -> Result<Tensor, ModelError> {
        let last: Vec<u32> = batch
            .spans
            .iter()
            .map(|span| (span.start + span.len - 1) as u32)
            .collect();
        score_rows(&self.score, &self.decoder.forward(batch)?, &indices(&last)?)
    }
}

/// The classifier as it scores texts: padding at a sequence's end is not looked at.
struct Unpadded {
    model: DecoderClassifier,
    padding: Option<TokenId>,
}

pub(super) fn load(dir: &Path) -> Result<Loaded, ModelError> {
    let model = DecoderClassifier::load(dir)?;
    let config = model.decoder.config();
    let (labels, _) = model.score.dims2()?;
    let (vocab_size, max_tokens) = (config.vocab_size, config.max_positions);
    let padding = config.pad_token_id;
    Ok(Loaded {
        network: Box::new(Unpadded { model, padding }),
        labels,
        vocab_size,
        max_tokens: Some(max_tokens),
        token_types: 0,
        dialogue: true,
    })
}

impl Network for Unpadded {
    fn logits(&self, pack: &Pack) -> Result<Tensor, ModelError> {
        let mut batch = ForwardBatch::default();
        pack.sequences().for_each(|ids| batch.push(ids, 0, None));
        let hidden = self.model.decoder.forward(&batch)?;
        score_rows(&self.model.score, &hidden, &pack.last_rows(self.padding)?)
    }
}
