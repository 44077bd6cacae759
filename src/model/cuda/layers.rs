//! A decoder's tensors on a device.

use crate::kernel::AttentionShape;
use crate::kernel::cuda::{DeviceNorm, Gpu, Matrix};

use super::super::ModelError;
use super::super::config::DecoderConfig;
use super::super::serving::Slot;
use super::super::tensors::TensorSource;
use super::matrices::Reader;

/// Linear layers that are computed as one, and which changes of an adapter belong to them.
pub(super) struct Linear {
    pub(super) matrix: Matrix,
    /// First of the slots, and the outputs of each, side by side.
    pub(super) slots: (Slot, Vec<usize>),
}

/// One transformer layer.
pub(super) struct DeviceLayer {
    pub(super) input_norm: DeviceNorm,
    /// Queries, keys and values.
    pub(super) qkv: Linear,
    /// Of the heads of queries and keys.
    pub(super) qk_norms: Option<[DeviceNorm; 2]>,
    pub(super) output: Linear,
    pub(super) shape: AttentionShape,
    pub(super) attention_out_norm: Option<DeviceNorm>,
    pub(super) mlp_norm: DeviceNorm,
    /// Gate and up.
    pub(super) gate_up: Linear,
    pub(super) down: Linear,
    pub(super) mlp_out_norm: Option<DeviceNorm>,
}

/// All of them.
pub(super) struct DeviceTensors {
    /// The embedding, (vocabulary, hidden), which may be the head too.
    pub(super) embedding: Matrix,
    pub(super) layers: Vec<DeviceLayer>,
    pub(super) norm: DeviceNorm,
    head: Option<Matrix>,
}

impl DeviceTensors {
    /// Reads them from a checkpoint.
    pub(super) fn read(
        gpu: &Gpu,
        config: &DecoderConfig,
        source: &mut dyn TensorSource,
    ) -> Result<Self, ModelError> {
        let mut reader = Reader {
            gpu,
            config,
            source,
        };
        let (hidden, vocabulary) = (config.hidden_size, config.vocab_size);
        let mut table = |name: &str| reader.linear(&[(name.to_owned(), vocabulary)], hidden, false);
        let embedding = table("model.embed_tokens")?;
        let head = match config.tied {
            true => None,
            false => Some(table("lm_head")?),
        };
        let layers = (0..config.num_layers()).map(|index| DeviceLayer::read(&mut reader, index));
        let layers = layers.collect::<Result<_, _>>()?;
        let norm = reader.norm("model.norm", hidden)?;
        Ok(Self {
            embedding,
            layers,
            norm,
            head,
        })
    }

    /// What makes logits.
    pub(super) fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

impl DeviceLayer {
    fn read(reader: &mut Reader<'_>, index: usize) -> Result<Self, ModelError> {
        let config = reader.config;
        let at = format!("model.layers.{index}");
        let width = config.hidden_size;
        let mut norm = |name: &str| reader.norm(&format!("{at}.{name}"), width);
        let input_norm = norm("input_layernorm")?;
        let after_attention = norm("post_attention_layernorm")?;
        let (attention_out_norm, mlp_norm, mlp_out_norm) = if config.family.has_sandwich_norms() {
            let before = norm("pre_feedforward_layernorm")?;
            let after = norm("post_feedforward_layernorm")?;
            (Some(after_attention), before, Some(after))
        } else {
            (None, after_attention, None)
        };
        let (qkv, output) = attention(reader, &at)?;
        let (gate_up, down) = feed_forward(reader, &at)?;
        let qk_norms = match config.family.has_qk_norm() {
            false => None,
            true => {
                let mut norm =
                    |name: &str| reader.norm(&format!("{at}.self_attn.{name}"), config.head_dim);
                Some([norm("q_norm")?, norm("k_norm")?])
            }
        };
        Ok(Self {
            input_norm,
            qkv,
            qk_norms,
            output,
            shape: config.attention_shape(index),
            attention_out_norm,
            mlp_norm,
            gate_up,
            down,
            mlp_out_norm,
        })
    }
}

/// Queries, keys and values; and the output.
fn attention(reader: &mut Reader<'_>, at: &str) -> Result<(Linear, Linear), ModelError> {
    let config = reader.config;
    let (queries, keys) = (
        config.num_heads * config.head_dim,
        config.num_kv_heads * config.head_dim,
    );
    let name = |part: &str| format!("{at}.self_attn.{part}");
    let modules = if config.family.has_fused_projections() {
        vec![(name("qkv_proj"), queries + 2 * keys)]
    } else {
        vec![
            (name("q_proj"), queries),
            (name("k_proj"), keys),
            (name("v_proj"), keys),
        ]
    };
    let hidden = config.hidden_size;
    let qkv = linear(reader, Slot::Query, &modules, (hidden, config.qkv_bias))?;
    let output = [(name("o_proj"), hidden)];
    let output = linear(reader, Slot::Output, &output, (queries, config.output_bias))?;
    Ok((qkv, output))
}

/// Gate and up; and down.
fn feed_forward(reader: &mut Reader<'_>, at: &str) -> Result<(Linear, Linear), ModelError> {
    let config = reader.config;
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let name = |part: &str| format!("{at}.mlp.{part}");
    let modules = if config.family.has_fused_projections() {
        vec![(name("gate_up_proj"), 2 * inner)]
    } else {
        vec![(name("gate_proj"), inner), (name("up_proj"), inner)]
    };
    let gate_up = linear(reader, Slot::Gate, &modules, (hidden, config.mlp_bias))?;
    let down = [(name("down_proj"), hidden)];
    let down = linear(reader, Slot::Down, &down, (inner, config.mlp_bias))?;
    Ok((gate_up, down))
}

fn linear(
    reader: &mut Reader<'_>,
    first: Slot,
    modules: &[(String, usize)],
    (inputs, has_bias): (usize, bool),
) -> Result<Linear, ModelError> {
    let matrix = reader.linear(modules, inputs, has_bias)?;
    let widths = modules.iter().map(|(_, outs)| *outs).collect();
    Ok(Linear {
        matrix,
        slots: (first, widths),
    })
}
