//! The families of decoders: how each writes its `config.json` and names its tensors.

use crate::kernel::Activation;

use super::ModelError;
use super::config::{DecoderConfig, LayerConfig, RopeConfig, RopeScaling, Yarn};
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
    let (ropes, layers) = read_layers(reader, family)?;
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

/// The rotary embeddings, and each layer's choice of window and embedding.
fn read_layers(
    reader: &mut ConfigReader,
    family: Family,
) -> Result<(Vec<RopeConfig>, Vec<LayerConfig>), ModelError> {
    let count = reader.required_count("num_hidden_layers")?;
    let rotates = read_rotating(reader, family, count)?;
    let sliding = read_sliding(reader, (family, count), &rotates)?;
    let window = reader.count("sliding_window")?;
    if sliding.contains(&true) && window.is_none() {
        return Err(reader.missing("sliding_window"));
    }
    let rotated_share = reader.number("partial_rotary_factor")?.unwrap_or(1.0);
    let ropes = read_ropes(reader, family, rotated_share)?;
    let local = ropes.len() - 1;
    let layers = sliding
        .into_iter()
        .zip(rotates)
        .map(|(sliding, rotates)| LayerConfig {
            window: window.filter(|_| sliding),
            rope: rotates.then_some(if sliding { local } else { 0 }),
        })
        .collect();
    Ok((ropes, layers))
}

/// For each layer whether it has a rotary embedding: all but SmolLM3's every fourth.
fn read_rotating(
    reader: &mut ConfigReader,
    family: Family,
    count: usize,
) -> Result<Vec<bool>, ModelError> {
    if family != Family::SmolLm3 {
        return Ok(vec![true; count]);
    }
    let interval = reader.count("no_rope_layer_interval")?.unwrap_or(4).max(1);
    match reader.token_ids("no_rope_layers")? {
        // Against its name, an entry that is not 0 is a layer that has one.
        flags if flags.len() == count => Ok(flags.iter().map(|flag| *flag != 0).collect()),
        flags if flags.is_empty() => Ok((1..=count).map(|n| n % interval != 0).collect()),
        flags => {
            let found = format!("{} no_rope_layers for {count} layers", flags.len());
            Err(reader.unsupported(found, "expected one entry for each layer"))
        }
    }
}

/// For each layer whether it uses the sliding window.
fn read_sliding(
    reader: &mut ConfigReader,
    (family, count): (Family, usize),
    rotates: &[bool],
) -> Result<Vec<bool>, ModelError> {
    let pattern = reader.count("sliding_window_pattern")?;
    let pattern = reader
        .count("_sliding_window_pattern")?
        .or(pattern)
        .unwrap_or(6);
    let switched_on = reader.flag("use_sliding_window")?.unwrap_or(false);
    let first_sliding = match reader.take("max_window_layers") {
        Some(value) => value.as_u64().unwrap_or(0) as usize,
        None => 28,
    };
    if let Some(types) = reader.texts("layer_types")? {
        if types.len() != count {
            let (found, kind) = (types.len(), "layer_types");
            return Err(reader.unsupported(
                format!("{found} {kind} for {count} layers"),
                "expected one entry for each layer",
            ));
        }
        let read = types.iter().map(|name| match name.as_str() {
            "full_attention" => Ok(false),
            "sliding_attention" => Ok(true),
            other => Err(reader.unsupported(
                format!("layer type `{other}`"),
                "supported: full_attention, sliding_attention",
            )),
        });
        return read.collect();
    }
    let has_window = reader.take("sliding_window").is_some();
    Ok((0..count)
        .map(|layer| match family {
            Family::Mistral | Family::Phi3 => has_window,
            Family::Qwen2 | Family::Qwen3 => switched_on && layer >= first_sliding,
            Family::Gemma2 => layer % 2 == 0,
            Family::Gemma3 => (layer + 1) % pattern != 0,
            Family::SmolLm3 => switched_on && has_window && !rotates[layer],
            Family::Llama | Family::Gemma => false,
        })
        .collect())
}

/// One rotary embedding, or for Gemma 3 the global one and the local one.
fn read_ropes(
    reader: &mut ConfigReader,
    family: Family,
    rotated_share: f64,
) -> Result<Vec<RopeConfig>, ModelError> {
    let theta = reader.number("rope_theta")?;
    let local_theta = reader.number("rope_local_base_freq")?;
    let original = reader.count("original_max_position_embeddings")?;
    let legacy = reader.object("rope_scaling")?;
    let newer = reader.object("rope_parameters")?;
    let theta = theta.unwrap_or(if family == Family::Gemma3 { 1e6 } else { 1e4 });
    let whole = |theta, scaling| RopeConfig {
        theta,
        rotated_share,
        scaling,
    };
    match newer {
        Some(mut newer) if family == Family::Gemma3 => {
            let mut each = Vec::new();
            for (key, fallback) in [("full_attention", theta), ("sliding_attention", 1e4)] {
                let rope = newer.object(key)?.ok_or_else(|| newer.missing(key))?;
                each.push(read_rope(
                    rope,
                    whole(fallback, RopeScaling::Default),
                    original,
                )?);
            }
            newer.finish()?;
            Ok(each)
        }
        Some(newer) => Ok(vec![read_rope(
            newer,
            whole(theta, RopeScaling::Default),
            original,
        )?]),
        None => {
            let global = whole(theta, RopeScaling::Default);
            let global = match legacy {
                Some(legacy) => read_rope(legacy, global, original)?,
                None => global,
            };
            let local = whole(local_theta.unwrap_or(1e4), RopeScaling::Default);
            Ok(if family == Family::Gemma3 {
                vec![global, local]
            } else {
                vec![global]
            })
        }
    }
}

fn read_rope(
    mut reader: ConfigReader,
    defaults: RopeConfig,
    original: Option<usize>,
) -> Result<RopeConfig, ModelError> {
    let newer = reader.text("rope_type")?;
    let kind = reader
        .text("type")?
        .or(newer)
        .unwrap_or_else(|| "default".into());
    let theta = reader.number("rope_theta")?.unwrap_or(defaults.theta);
    let rotated_share = reader
        .number("partial_rotary_factor")?
        .unwrap_or(defaults.rotated_share);
    let scaling = match kind.as_str() {
        "default" => RopeScaling::Default,
        "linear" => RopeScaling::Linear {
            factor: reader.required_number("factor")?,
        },
        "llama3" => RopeScaling::Llama3 {
            factor: reader.required_number("factor")?,
            low: reader.required_number("low_freq_factor")?,
            high: reader.required_number("high_freq_factor")?,
            original: read_original(&mut reader, original)?,
        },
        "yarn" => RopeScaling::Yarn(read_yarn(&mut reader, original)?),
        other => {
            return Err(reader.unsupported(
                format!("rope type `{other}`"),
                "supported: default, linear, llama3, yarn",
            ));
        }
    };
    reader.finish()?;
    Ok(RopeConfig {
        theta,
        rotated_share,
        scaling,
    })
}

/// Context length before scaling, in the rope's own section or beside it.
fn read_original(reader: &mut ConfigReader, outer: Option<usize>) -> Result<f64, ModelError> {
    match reader.number("original_max_position_embeddings")? {
        Some(length) => Ok(length),
        None => outer
            .map(|length| length as f64)
            .ok_or_else(|| reader.missing("original_max_position_embeddings")),
    }
}

fn read_yarn(reader: &mut ConfigReader, outer: Option<usize>) -> Result<Yarn, ModelError> {
    let factor = reader.required_number("factor")?;
    let stated = reader.number("attention_factor")?;
    let mscale = reader.number("mscale")?;
    let mscale_all = reader.number("mscale_all_dim")?;
    if reader.flag("truncate")? == Some(false) {
        return Err(reader.unsupported(
            "yarn with truncate = false".to_owned(),
            "leave `truncate` out",
        ));
    }
    let usual = |mscale| Yarn::usual_amplitude(factor, mscale);
    let amplitude = match (stated, mscale, mscale_all) {
        (Some(stated), _, _) => stated,
        (None, Some(one), Some(all)) if one != 0.0 && all != 0.0 => usual(one) / usual(all),
        _ => usual(1.0),
    };
    Ok(Yarn {
        factor,
        original: read_original(reader, outer)?,
        beta_fast: reader.number("beta_fast")?.unwrap_or(32.0),
        beta_slow: reader.number("beta_slow")?.unwrap_or(1.0),
        amplitude,
    })
}
