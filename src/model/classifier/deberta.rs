//! DeBERTa-v2 and v3 for sequence classification.

use candle_core::Tensor;

use super::super::config_reader::ConfigReader;
use super::super::linear::Linear;
use super::super::tensors::TensorFiles;
use super::disentangled::{Distances, RelativePositions, Terms};
use super::encoder::{EncoderLayer, EncoderShape, LayerNames};
use super::ops::{LayerNorm, Nonlinearity, apply, dense, table};
use super::pack::Pack;
use super::settings::{check_all_used, read_common, read_labels, read_nonlinearity};
use super::{Loaded, Network};
use crate::model::ModelError;

const NAMES: LayerNames = LayerNames {
    query: "attention.self.query_proj",
    key: "attention.self.key_proj",
    value: "attention.self.value_proj",
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    output_norm: "output.LayerNorm",
};

/// What `config.json` says.
struct Settings {
    shape: EncoderShape,
    layers: usize,
    vocab_size: usize,
    embedding_size: usize,
    positions: usize,
    absolute_positions: bool,
    token_types: usize,
    distances: Distances,
    terms: Terms,
    shared_keys: bool,
    normalised: bool,
    pooler_activation: Nonlinearity,
    labels: usize,
}

struct Deberta {
    words: Tensor,
    positions: Option<Tensor>,
    token_types: Option<Tensor>,
    projection: Option<Tensor>,
    norm: LayerNorm,
    layers: Vec<(EncoderLayer, RelativePositions)>,
    pooler: Linear,
    pooler_activation: Nonlinearity,
    output: Linear,
}

fn read(reader: &mut ConfigReader) -> Result<Settings, ModelError> {
    read_common(reader)?;
    reader.ignore(&["pad_token_id"]);
    let shape = EncoderShape::read(reader, 1e-7)?;
    refuse_variants(reader, shape)?;
    let positions = reader.required_count("max_position_embeddings")?;
    Ok(Settings {
        shape,
        layers: reader.required_count("num_hidden_layers")?,
        vocab_size: reader.required_count("vocab_size")?,
        embedding_size: reader.count("embedding_size")?.unwrap_or(shape.hidden),
        positions,
        absolute_positions: reader.flag("position_biased_input")?.unwrap_or(true),
        token_types: reader.number("type_vocab_size")?.unwrap_or(0.0) as usize,
        distances: read_distances(reader, positions)?,
        terms: read_terms(reader)?,
        shared_keys: reader.flag("share_att_key")?.unwrap_or(false),
        normalised: read_norm(reader)?,
        pooler_activation: read_nonlinearity(reader, "pooler_hidden_act", "gelu")?,
        labels: read_labels(reader)?,
    })
}

/// Parts that some checkpoints of the family have and this program has not.
fn refuse_variants(reader: &mut ConfigReader, shape: EncoderShape) -> Result<(), ModelError> {
    let EncoderShape { hidden, heads, .. } = shape;
    if reader.number("conv_kernel_size")?.unwrap_or(0.0) > 0.0 {
        let feature = "a convolution layer (`conv_kernel_size` above 0)".to_owned();
        return Err(reader.unsupported(feature, "expected a model without it, such as v3"));
    }
    reader.ignore(&["conv_act", "conv_groups"]);
    if !reader.flag("relative_attention")?.unwrap_or(false) {
        let feature = "`relative_attention` = false".to_owned();
        return Err(reader.unsupported(feature, "expected true"));
    }
    if reader
        .count("pooler_hidden_size")?
        .is_some_and(|width| width != hidden)
    {
        let feature = "a `pooler_hidden_size` other than `hidden_size`".to_owned();
        return Err(reader.unsupported(feature, "expected both to be equal"));
    }
    if reader
        .count("attention_head_size")?
        .is_some_and(|width| width * heads != hidden)
    {
        let feature = "an `attention_head_size` other than the width over the heads".to_owned();
        return Err(reader.unsupported(feature, "expected `hidden_size` / `num_attention_heads`"));
    }
    Ok(())
}

fn read_distances(reader: &mut ConfigReader, positions: usize) -> Result<Distances, ModelError> {
    let max_distance = match reader.number("max_relative_positions")? {
        Some(limit) if limit >= 1.0 => limit as usize,
        _ => positions,
    };
    let buckets = match reader.number("position_buckets")? {
        Some(count) if count >= 1.0 => Some(count as usize),
        _ => None,
    };
    // the logarithm's base is (max_distance - 1) / (buckets / 2)
    if buckets.is_some_and(|count| count < 4 || max_distance <= count / 2 + 1) {
        let feature = format!("`position_buckets` {buckets:?} for distances up to {max_distance}");
        return Err(reader.unsupported(feature, "expected 4 or more and fewer than distances"));
    }
    Ok(Distances {
        buckets,
        max_distance,
    })
}

/// `["p2c", "c2p"]`, or `"p2c|c2p"` in older files.
fn read_terms(reader: &mut ConfigReader) -> Result<Terms, ModelError> {
    let names: Vec<String> = match reader.take("pos_att_type") {
        Some(serde_json::Value::String(joined)) => joined
            .split('|')
            .map(|name| name.trim().to_lowercase())
            .collect(),
        _ => reader.texts("pos_att_type")?.unwrap_or_default(),
    };
    if let Some(other) = names
        .iter()
        .find(|name| !["c2p", "p2c"].contains(&name.as_str()))
    {
        let feature = format!("pos_att_type `{other}`");
        return Err(reader.unsupported(feature, "supported: c2p, p2c"));
    }
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    Ok(Terms {
        content_to_position: has("c2p"),
        position_to_content: has("p2c"),
    })
}

fn read_norm(reader: &mut ConfigReader) -> Result<bool, ModelError> {
    match reader.text("norm_rel_ebd")?.as_deref() {
        None | Some("none") => Ok(false),
        Some("layer_norm") => Ok(true),
        Some(other) => {
            let feature = format!("norm_rel_ebd `{other}`");
            Err(reader.unsupported(feature, "supported: none, layer_norm"))
        }
    }
}

pub(super) fn load(mut reader: ConfigReader, mut files: TensorFiles) -> Result<Loaded, ModelError> {
    let settings = read(&mut reader)?;
    reader.finish()?;
    let EncoderShape { hidden, eps, .. } = settings.shape;
    let width = settings.embedding_size;
    let files_ref = &mut files;
    let at = |name: &str| format!("deberta.embeddings.{name}");
    let words = table(
        files_ref,
        &at("word_embeddings"),
        settings.vocab_size,
        width,
    )?;
    let positions = settings
        .absolute_positions
        .then(|| {
            table(
                files_ref,
                &at("position_embeddings"),
                settings.positions,
                width,
            )
        })
        .transpose()?;
    let token_types = (settings.token_types > 0)
        .then(|| {
            table(
                files_ref,
                &at("token_type_embeddings"),
                settings.token_types,
                width,
            )
        })
        .transpose()?;
    let projection = (width != hidden)
        .then(|| table(files_ref, &at("embed_proj"), hidden, width))
        .transpose()?;
    let norm = LayerNorm::load(files_ref, &at("LayerNorm"), hidden, eps)?;
    let layers = load_layers(files_ref, &settings)?;
    let network = Deberta {
        words,
        positions,
        token_types,
        projection,
        norm,
        layers,
        pooler: dense(files_ref, "pooler.dense", hidden, hidden)?,
        pooler_activation: settings.pooler_activation,
        output: dense(files_ref, "classifier", hidden, settings.labels)?,
    };
    check_all_used(&files)?;
    Ok(Loaded {
        network: Box::new(network),
        labels: settings.labels,
        vocab_size: settings.vocab_size,
        max_tokens: settings.absolute_positions.then_some(settings.positions),
        token_types: settings.token_types,
        dialogue: false,
    })
}

fn load_layers(
    files: &mut TensorFiles,
    settings: &Settings,
) -> Result<Vec<(EncoderLayer, RelativePositions)>, ModelError> {
    let EncoderShape { hidden, eps, .. } = settings.shape;
    let rows = 2 * settings.distances.span();
    let mut embeddings = table(files, "deberta.encoder.rel_embeddings", rows, hidden)?;
    if settings.normalised {
        let norm = LayerNorm::load(files, "deberta.encoder.LayerNorm", hidden, eps)?;
        embeddings = norm.forward(&embeddings)?;
    }
    let Settings {
        distances, terms, ..
    } = *settings;
    let mut layers = Vec::with_capacity(settings.layers);
    for index in 0..settings.layers {
        let path = format!("deberta.encoder.layer.{index}");
        let layer = EncoderLayer::load(files, &path, &NAMES, settings.shape)?;
        let relative = if settings.shared_keys {
            RelativePositions::shared(&layer, &embeddings, distances, terms)?
        } else {
            let mut project = |name: &str| {
                let path = format!("{path}.attention.self.{name}");
                let projection = dense(files, &path, hidden, hidden)?;
                layer.heads(&apply(&projection, &embeddings)?)
            };
            let keys = terms
                .content_to_position
                .then(|| project("pos_key_proj"))
                .transpose()?;
            let queries = terms
                .position_to_content
                .then(|| project("pos_query_proj"))
                .transpose()?;
            RelativePositions::own(distances, keys, queries)
        };
        layers.push((layer, relative));
    }
    Ok(layers)
}

impl Network for Deberta {
    fn logits(&self, pack: &Pack) -> Result<Tensor, ModelError> {
        let mut x = self.words.index_select(&pack.ids()?, 0)?;
        if let Some(positions) = &self.positions {
            x = (x + positions.index_select(&pack.positions()?, 0)?)?;
        }
        if let Some(types) = &self.token_types {
            x = (x + types.index_select(&pack.token_types()?, 0)?)?;
        }
        if let Some(projection) = &self.projection {
            x = x.matmul(&projection.t()?)?;
        }
        x = self.norm.forward(&x)?;
        for (layer, relative) in &self.layers {
            x = layer.forward(&x, pack, Some(relative))?;
        }
        let first = x.index_select(&pack.first_rows()?, 0)?;
        let pooled = self
            .pooler_activation
            .apply(&apply(&self.pooler, &first)?)?;
        apply(&self.output, &pooled)
    }
}
