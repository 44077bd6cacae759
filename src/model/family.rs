//! The families of decoders: how each writes its `config.json` and names its tensors.

mod layers;
mod ropes;

use crate::kernel::Activation;

use super::ModelError;
use super::config::DecoderConfig;
use super::config_reader::ConfigReader;

/// A line of checkpoints that share layout and conventions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Llama 2 and 3.x, SmolLM2.
    Llama,
    /// Mistral 7B.
    Mistral,
    /// Qwen2 and Qwen2.5.
    Qwen2,
    /// Qwen3.
    Qwen3,
    /// Gemma 1.
    Gemma,
    /// Gemma 2.
    Gemma2,
    /// Gemma 3, text.
    Gemma3,
    /// Phi-3 and Phi-4.
    Phi3,
    /// SmolLM3.
    SmolLm3,
}

const FAMILIES: [(&str, Family); 9] = [
    ("llama", Family::Llama),
    ("mistral", Family::Mistral),
    ("qwen2", Family::Qwen2),
    ("qwen3", Family::Qwen3),
    ("gemma", Family::Gemma),
    ("gemma2", Family::Gemma2),
    ("gemma3_text", Family::Gemma3),
    ("phi3", Family::Phi3),
    ("smollm3", Family::SmolLm3),
];

impl Family {
    /// The value of `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        FAMILIES
            .iter()
            .find(|(_, family)| *family == self)
            .map_or("", |(name, _)| name)
    }

    fn is_gemma(self) -> bool {
        matches!(self, Family::Gemma | Family::Gemma2 | Family::Gemma3)
    }

    /// Norms on each head's queries and keys.
    pub(super) fn has_qk_norm(self) -> bool {
        matches!(self, Family::Qwen3 | Family::Gemma3)
    }

    /// Norms after attention and feed-forward too, before the residual is added.
    pub(super) fn has_sandwich_norms(self) -> bool {
        matches!(self, Family::Gemma2 | Family::Gemma3)
    }

    /// One tensor holds q, k and v, and one holds gate and up.
    pub(super) fn has_fused_projections(self) -> bool {
        self == Family::Phi3
    }
}

/// Keys that matter to training or bookkeeping only.
const NEUTRAL: &[&str] = &[
    "architectures",
    "attention_dropout",
    "chunk_size_feed_forward",
    "dtype",
    "embd_pdrop",
    "hidden_dropout",
    "id2label",
    "initializer_range",
    "is_decoder",
    "label2id",
    "max_window_layers",
    "model_type",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "pretraining_tp",
    "problem_type",
    "resid_pdrop",
    "return_dict",
    "task_specific_params",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "_name_or_path",
];

/// Reads the keys of whatever family the file names.
pub(super) fn read(reader: &mut ConfigReader) -> Result<DecoderConfig, ModelError> {
    let model_type = reader
        .text("model_type")?
        .ok_or_else(|| reader.missing("model_type"))?;
    let names: Vec<&str> = FAMILIES.iter().map(|(name, _)| *name).collect();
    let family = FAMILIES
        .iter()
        .find(|(name, _)| *name == model_type)
        .map(|(_, family)| *family)
        .ok_or_else(|| {
            let supported = format!("supported model types: {}", names.join(", "));
            reader.unsupported(format!("model_type `{model_type}`"), &supported)
        })?;
    reader.ignore(NEUTRAL);
    let hidden_size = reader.required_count("hidden_size")?;
    let num_heads = reader.required_count("num_attention_heads")?;
    let num_kv_heads = reader.count("num_key_value_heads")?.unwrap_or(num_heads);
    let head_dim = reader.count("head_dim")?.unwrap_or(hidden_size / num_heads);
    let max_positions = reader.required_count("max_position_embeddings")?;
    let attention_bias = reader.flag("attention_bias")?.unwrap_or(false);
    let (ropes, layers) = layers::read(reader, family)?;
    let config = DecoderConfig {
        family,
        hidden_size,
        intermediate_size: reader.required_count("intermediate_size")?,
        num_heads,
        num_kv_heads,
        head_dim,
        vocab_size: reader.required_count("vocab_size")?,
        max_positions,
        rms_norm_eps: reader.required_number("rms_norm_eps")? as f32,
        norm_offset: if family.is_gemma() { 1.0 } else { 0.0 },
        activation: read_activation(reader, family)?,
        embedding_scale: if family.is_gemma() {
            (hidden_size as f32).sqrt()
        } else {
            1.0
        },
        attention_scale: read_attention_scale(reader, family, head_dim)?,
        attention_softcap: reader.number("attn_logit_softcapping")?.map(|x| x as f32),
        final_softcap: reader.number("final_logit_softcapping")?.map(|x| x as f32),
        tied: reader
            .flag("tie_word_embeddings")?
            .unwrap_or(family.is_gemma() || family == Family::SmolLm3),
        qkv_bias: attention_bias || family == Family::Qwen2,
        output_bias: attention_bias,
        mlp_bias: reader.flag("mlp_bias")?.unwrap_or(false),
        ropes,
        layers,
        eos_token_ids: reader.token_ids("eos_token_id")?,
        bos_token_id: reader.token_ids("bos_token_id")?.first().copied(),
        pad_token_id: reader.token_ids("pad_token_id")?.first().copied(),
    };
    config
        .check()
        .map_err(|reason| reader.unsupported(reason, "expected a consistent decoder shape"))?;
    Ok(config)
}

fn read_activation(reader: &mut ConfigReader, family: Family) -> Result<Activation, ModelError> {
    let newer = reader.text("hidden_activation")?;
    let older = reader.text("hidden_act")?;
    let name = newer.or(older).unwrap_or_else(|| {
        if family.is_gemma() {
            "gelu_pytorch_tanh".into()
        } else {
            "silu".into()
        }
    });
    match name.as_str() {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
        // the first Gemma files say `gelu` and mean the approximation by tanh
        "gelu" if family == Family::Gemma => Ok(Activation::GeluTanh),
        "gelu" => Ok(Activation::Gelu),
        other => Err(reader.unsupported(
            format!("activation `{other}`"),
            "supported: silu, gelu, gelu_new, gelu_pytorch_tanh",
        )),
    }
}

fn read_attention_scale(
    reader: &mut ConfigReader,
    family: Family,
    head_dim: usize,
) -> Result<f32, ModelError> {
    let scalar = match family {
        Family::Gemma2 | Family::Gemma3 => reader.number("query_pre_attn_scalar")?.unwrap_or(256.0),
        _ => head_dim as f64,
    };
    Ok(scalar.powf(-0.5) as f32)
}
