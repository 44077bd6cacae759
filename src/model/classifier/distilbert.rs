//! DistilBERT for sequence classification: no token types, a head with a rectifier.

use candle_core::Tensor;

use super::super::config_reader::ConfigReader;
use super::super::linear::Linear;
use super::super::tensors::TensorFiles;
use super::encoder::{EncoderLayer, EncoderShape, LayerNames};
use super::ops::{LayerNorm, Nonlinearity, apply, dense, table};
use super::pack::Pack;
use super::settings::{check_all_used, head_width, read_common, read_labels, read_nonlinearity};
use super::{Loaded, Network};
use crate::model::ModelError;

const NAMES: LayerNames = LayerNames {
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention_output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    output_norm: "output_layer_norm",
};
/// Fixed in the architecture, not in its configuration.
const EPS: f64 = 1e-12;

struct DistilBert {
    words: Tensor,
    positions: Tensor,
    norm: LayerNorm,
    layers: Vec<EncoderLayer>,
    head: Linear,
    output: Linear,
}

pub(super) fn load(mut reader: ConfigReader, mut files: TensorFiles) -> Result<Loaded, ModelError> {
    read_common(&mut reader)?;
    reader.ignore(&["pad_token_id"]);
    let hidden = reader.required_count("dim")?;
    let heads = reader.required_count("n_heads")?;
    let shape = EncoderShape {
        hidden,
        inner: reader.required_count("hidden_dim")?,
        heads,
        head_width: head_width(&reader, hidden, heads)?,
        eps: EPS,
        activation: read_nonlinearity(&mut reader, "activation", "gelu")?,
    };
    let count = reader.required_count("n_layers")?;
    let vocab_size = reader.required_count("vocab_size")?;
    let max_tokens = reader.required_count("max_position_embeddings")?;
    let labels = read_labels(&mut reader)?;
    reader.finish()?;

    let embeddings = "distilbert.embeddings";
    let words = table(
        &mut files,
        &format!("{embeddings}.word_embeddings"),
        vocab_size,
        hidden,
    )?;
    let places = format!("{embeddings}.position_embeddings");
    let positions = table(&mut files, &places, max_tokens, hidden)?;
    let norm = LayerNorm::load(&mut files, &format!("{embeddings}.LayerNorm"), hidden, EPS)?;
    let layers: Result<Vec<EncoderLayer>, ModelError> = (0..count)
        .map(|index| {
            let path = format!("distilbert.transformer.layer.{index}");
            EncoderLayer::load(&mut files, &path, &NAMES, shape)
        })
        .collect();
    let layers = layers?;
    let head = dense(&mut files, "pre_classifier", hidden, hidden)?;
    let output = dense(&mut files, "classifier", hidden, labels)?;
    check_all_used(&files)?;
    Ok(Loaded {
        network: Box::new(DistilBert {
            words,
            positions,
            norm,
            layers,
            head,
            output,
        }),
        labels,
        vocab_size,
        max_tokens: Some(max_tokens),
        token_types: 0,
        dialogue: false,
    })
}

impl Network for DistilBert {
    fn logits(&self, pack: &Pack) -> Result<Tensor, ModelError> {
        let words = self.words.index_select(&pack.ids()?, 0)?;
        let positions = self.positions.index_select(&pack.positions()?, 0)?;
        let mut x = self.norm.forward(&(words + positions)?)?;
        for layer in &self.layers {
            x = layer.forward(&x, pack, None)?;
        }
        let first = x.index_select(&pack.first_rows()?, 0)?;
        let pooled = Nonlinearity::Relu.apply(&apply(&self.head, &first)?)?;
        apply(&self.output, &pooled)
    }
}
