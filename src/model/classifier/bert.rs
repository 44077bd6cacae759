//! BERT and RoBERTa for sequence classification. They differ in positions and in the head.

use candle_core::Tensor;

use super::super::config_reader::ConfigReader;
use super::super::linear::Linear;
use super::super::tensors::TensorFiles;
use super::encoder::{EncoderLayer, EncoderShape, LayerNames};
use super::ops::{LayerNorm, Nonlinearity, apply, dense, table};
use super::pack::{Pack, indices};
use super::settings::{check_all_used, read_common, read_labels};
use super::{Loaded, Network};
use crate::model::ModelError;
use crate::types::TokenId;

const NAMES: LayerNames = LayerNames {
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    output_norm: "output.LayerNorm",
};

struct Bert {
    words: Tensor,
    positions: Tensor,
    token_types: Tensor,
    norm: LayerNorm,
    layers: Vec<EncoderLayer>,
    kind: Kind,
    head: Linear,
    output: Linear,
}

enum Kind {
    Bert,
    /// Positions are counted from the padding token's id on, over tokens that are not padding.
    Roberta {
        padding: TokenId,
    },
}

/// The numbers that both read from `config.json`.
struct Settings {
    shape: EncoderShape,
    layers: usize,
    vocab_size: usize,
    positions: usize,
    token_types: usize,
    labels: usize,
}

fn read(reader: &mut ConfigReader) -> Result<Settings, ModelError> {
    read_common(reader)?;
    Ok(Settings {
        shape: EncoderShape::read(reader, 1e-12)?,
        layers: reader.required_count("num_hidden_layers")?,
        vocab_size: reader.required_count("vocab_size")?,
        positions: reader.required_count("max_position_embeddings")?,
        token_types: reader.count("type_vocab_size")?.unwrap_or(2),
        labels: read_labels(reader)?,
    })
}

pub(super) fn load(mut reader: ConfigReader, mut files: TensorFiles) -> Result<Loaded, ModelError> {
    let settings = read(&mut reader)?;
    reader.ignore(&["pad_token_id"]);
    reader.finish()?;
    let hidden = settings.shape.hidden;
    let head = dense(&mut files, "bert.pooler.dense", hidden, hidden)?;
    let output = dense(&mut files, "classifier", hidden, settings.labels)?;
    finish(settings, files, Kind::Bert, [head, output])
}

pub(super) fn load_roberta(
    mut reader: ConfigReader,
    mut files: TensorFiles,
) -> Result<Loaded, ModelError> {
    let settings = read(&mut reader)?;
    let padding = reader
        .token_ids("pad_token_id")?
        .first()
        .copied()
        .unwrap_or(1);
    reader.finish()?;
    let hidden = settings.shape.hidden;
    let head = dense(&mut files, "classifier.dense", hidden, hidden)?;
    let output = dense(&mut files, "classifier.out_proj", hidden, settings.labels)?;
    finish(settings, files, Kind::Roberta { padding }, [head, output])
}

fn finish(
    settings: Settings,
    mut files: TensorFiles,
    kind: Kind,
    [head, output]: [Linear; 2],
) -> Result<Loaded, ModelError> {
    let Settings {
        shape,
        labels,
        vocab_size,
        token_types,
        ..
    } = settings;
    let (prefix, reserved) = match kind {
        Kind::Bert => ("bert", 0),
        Kind::Roberta { padding } => ("roberta", padding as usize + 1),
    };
    let at = |name: &str| format!("{prefix}.embeddings.{name}");
    let files_ref = &mut files;
    let words = table(files_ref, &at("word_embeddings"), vocab_size, shape.hidden)?;
    let positions = table(
        files_ref,
        &at("position_embeddings"),
        settings.positions,
        shape.hidden,
    )?;
    let types = table(
        files_ref,
        &at("token_type_embeddings"),
        token_types,
        shape.hidden,
    )?;
    let norm = LayerNorm::load(files_ref, &at("LayerNorm"), shape.hidden, shape.eps)?;
    let layers: Result<Vec<EncoderLayer>, ModelError> = (0..settings.layers)
        .map(|index| {
            let path = format!("{prefix}.encoder.layer.{index}");
            EncoderLayer::load(&mut files, &path, &NAMES, shape)
        })
        .collect();
    let layers = layers?;
    check_all_used(&files)?;
    let network = Bert {
        words,
        positions,
        token_types: types,
        norm,
        layers,
        kind,
        head,
        output,
    };
    Ok(Loaded {
        network: Box::new(network),
        labels,
        vocab_size,
        max_tokens: Some(settings.positions.saturating_sub(reserved)),
        token_types,
        dialogue: false,
    })
}

impl Bert {
    fn position_rows(&self, pack: &Pack) -> Result<Tensor, ModelError> {
        let Kind::Roberta { padding } = self.kind else {
            return pack.positions();
        };
        let mut rows = Vec::with_capacity(pack.len());
        for ids in pack.sequences() {
            let mut position = padding;
            for id in ids {
                position += u32::from(*id != padding);
                rows.push(if *id == padding { padding } else { position });
            }
        }
        indices(&rows)
    }
}

impl Network for Bert {
    fn logits(&self, pack: &Pack) -> Result<Tensor, ModelError> {
        let words = self.words.index_select(&pack.ids()?, 0)?;
        let positions = self.positions.index_select(&self.position_rows(pack)?, 0)?;
        let types = self.token_types.index_select(&pack.token_types()?, 0)?;
        let mut x = self.norm.forward(&((words + types)? + positions)?)?;
        for layer in &self.layers {
            x = layer.forward(&x, pack, None)?;
        }
        let first = x.index_select(&pack.first_rows()?, 0)?;
        let pooled = Nonlinearity::Tanh.apply(&apply(&self.head, &first)?)?;
        apply(&self.output, &pooled)
    }
}
