//! GPT-2 for sequence classification.

use candle_core::Tensor;

use super::super::config_reader::ConfigReader;
use super::super::linear::Linear;
use super::super::tensors::TensorFiles;
use super::causal::{load_score, score_rows};
use super::ops::{LayerNorm, Nonlinearity, apply, conv1d, table};
use super::pack::Pack;
use super::settings::{check_all_used, head_width, read_common, read_labels, read_nonlinearity};
use super::{Loaded, Network};
use crate::kernel::{AttentionShape, causal_attention};
use crate::model::ModelError;
use crate::types::TokenId;

struct Gpt2 {
    words: Tensor,
    positions: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
    score: Tensor,
    padding: Option<TokenId>,
}

struct Layer {
    attention_norm: LayerNorm,
    query_key_value: Linear,
    attention_output: Linear,
    norm: LayerNorm,
    up: Linear,
    down: Linear,
    activation: Nonlinearity,
    attention: AttentionShape,
}

/// What all layers share.
#[derive(Clone, Copy)]
struct LayerShape {
    hidden: usize,
    inner: usize,
    eps: f64,
    activation: Nonlinearity,
}

pub(super) fn load(mut reader: ConfigReader, mut files: TensorFiles) -> Result<Loaded, ModelError> {
    read_common(&mut reader)?;
    let hidden = reader.required_count("n_embd")?;
    let heads = reader.required_count("n_head")?;
    let head_dim = head_width(&reader, hidden, heads)?;
    let shape = LayerShape {
        hidden,
        inner: reader.count("n_inner")?.unwrap_or(4 * hidden),
        eps: reader.number("layer_norm_epsilon")?.unwrap_or(1e-5),
        activation: read_nonlinearity(&mut reader, "activation_function", "gelu_new")?,
    };
    let count = reader.required_count("n_layer")?;
    let max_tokens = reader.required_count("n_positions")?;
    reader.ignore(&["n_ctx"]);
    let vocab_size = reader.required_count("vocab_size")?;
    let padding = reader.token_ids("pad_token_id")?.first().copied();
    let scaled = reader.flag("scale_attn_weights")?.unwrap_or(true);
    let by_depth = reader
        .flag("scale_attn_by_inverse_layer_idx")?
        .unwrap_or(false);
    let labels = read_labels(&mut reader)?;
    reader.finish()?;

    let base = if scaled {
        (head_dim as f32).sqrt().recip()
    } else {
        1.0
    };
    let layers: Result<Vec<Layer>, ModelError> = (0..count)
        .map(|index| {
            let scale = if by_depth {
                base / (index + 1) as f32
            } else {
                base
            };
            let attention = AttentionShape {
                heads,
                kv_heads: heads,
                head_dim,
                scale,
                window: None,
                softcap: None,
            };
            Layer::load(&mut files, index, shape, attention)
        })
        .collect();
    let network = Gpt2 {
        words: table(&mut files, "transformer.wte", vocab_size, hidden)?,
        positions: table(&mut files, "transformer.wpe", max_tokens, hidden)?,
        layers: layers?,
        norm: LayerNorm::load(&mut files, "transformer.ln_f", hidden, shape.eps)?,
        score: load_score(&mut files, labels, hidden)?,
        padding,
    };
    check_all_used(&files)?;
    Ok(Loaded {
        network: Box::new(network),
        labels,
        vocab_size,
        max_tokens: Some(max_tokens),
        token_types: 0,
        dialogue: false,
    })
}

impl Layer {
    fn load(
        files: &mut TensorFiles,
        index: usize,
        shape: LayerShape,
        attention: AttentionShape,
    ) -> Result<Self, ModelError> {
        let LayerShape {
            hidden,
            inner,
            eps,
            activation,
        } = shape;
        let at = |name: &str| format!("transformer.h.{index}.{name}");
        Ok(Self {
            attention_norm: LayerNorm::load(files, &at("ln_1"), hidden, eps)?,
            query_key_value: conv1d(files, &at("attn.c_attn"), hidden, 3 * hidden)?,
            attention_output: conv1d(files, &at("attn.c_proj"), hidden, hidden)?,
            norm: LayerNorm::load(files, &at("ln_2"), hidden, eps)?,
            up: conv1d(files, &at("mlp.c_fc"), hidden, inner)?,
            down: conv1d(files, &at("mlp.c_proj"), inner, hidden)?,
            activation,
            attention,
        })
    }

    fn forward(&self, x: &Tensor, pack: &Pack) -> Result<Tensor, ModelError> {
        let AttentionShape {
            heads, head_dim, ..
        } = self.attention;
        let fused = apply(&self.query_key_value, &self.attention_norm.forward(x)?)?;
        let part = |index: usize| {
            let rows = fused.narrow(1, index * heads * head_dim, heads * head_dim)?;
            rows.contiguous()?.reshape((pack.len(), heads, head_dim))
        };
        let (query, key, value) = (part(0)?, part(1)?, part(2)?);
        let mixed = causal_attention(&query, &key, &value, &pack.shared_spans(), self.attention)?;
        let x = (apply(&self.attention_output, &mixed.flatten_from(1)?)? + x)?;
        let inner = self
            .activation
            .apply(&apply(&self.up, &self.norm.forward(&x)?)?)?;
        Ok((apply(&self.down, &inner)? + x)?)
    }
}

impl Network for Gpt2 {
    fn logits(&self, pack: &Pack) -> Result<Tensor, ModelError> {
        let words = self.words.index_select(&pack.ids()?, 0)?;
        let mut x = (words + self.positions.index_select(&pack.positions()?, 0)?)?;
        for layer in &self.layers {
            x = layer.forward(&x, pack)?;
        }
        let rows = pack.last_rows(self.padding)?;
        score_rows(&self.score, &self.norm.forward(&x)?, &rows)
    }
}
