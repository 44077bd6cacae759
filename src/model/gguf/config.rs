//! A GGUF file's metadata as a decoder's configuration, read as strictly as `config.json`: every
//! key of the architecture is used, known to change nothing, or refused.

use serde_json::{Map, Value as Json, json};

use super::keys::Keys;
use super::ropes::{divide_frequencies, ropes};
use super::{ROPE_FREQUENCIES, path_of};
use crate::gguf::{GgufError, GgufFile, Metadata, dequantize};
use crate::model::ModelError;
use crate::model::config::DecoderConfig;
use crate::model::config_reader::ConfigReader;
use crate::model::family::{self, Family};

/// Gemma's largest models, by their layers, scale attention by the width of the model.
const WIDE_SCALE: [(Family, usize); 2] = [(Family::Gemma2, 46), (Family::Gemma3, 62)];

/// Four times what any model has.
const LONGEST_CONTEXT: usize = 1 << 22;

impl DecoderConfig {
    /// Reads the metadata of a GGUF file.
    ///
    /// # Errors
    /// An architecture or a setting that is not supported, named.
    pub fn of_gguf(file: &GgufFile) -> Result<Self, ModelError> {
        let mut keys = Keys::of(file)?;
        let (fields, scale) = fields(&mut keys, file)?;
        keys.finish()?;
        let mut reader = ConfigReader::over(path_of(file), fields);
        let mut config = family::read(&mut reader)?;
        reader.finish()?;
        // the converter has added it
        config.norm_offset = 0.0;
        let has = |name: &str| file.tensor(name).is_some();
        config.qkv_bias = has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias");
        config.output_bias = has("blk.0.attn_output.bias");
        config.mlp_bias = has("blk.0.ffn_down.bias");
        if let Some(scale) = scale {
            config.attention_scale = scale as f32;
        }
        if let Some(factors) = file.tensor(ROPE_FREQUENCIES) {
            let factors = dequantize(factors.format, factors.bytes);
            divide_frequencies(&mut config, &factors).map_err(|reason| ModelError::Tensor {
                name: ROPE_FREQUENCIES.to_owned(),
                reason,
            })?;
        }
        Ok(config)
    }
}

/// The fields of `config.json` that say the same, and the scale of attention where it is another
/// than that of the width of a head.
fn fields(
    keys: &mut Keys<'_>,
    file: &GgufFile,
) -> Result<(Map<String, Json>, Option<f64>), GgufError> {
    let metadata = keys.metadata;
    let embedding = file.tensor("token_embd.weight").ok_or_else(|| {
        metadata.unsupported("no tensor `token_embd.weight`", "expected a whole decoder")
    })?;
    let (hidden, layers) = (
        keys.required("embedding_length")?,
        keys.required("block_count")?,
    );
    let heads = keys.required("attention.head_count")?;
    let head_dim = match keys.count("attention.key_length")? {
        Some(width) => width,
        None => hidden / heads.max(1),
    };
    let values = keys.count("attention.value_length")?;
    if values.is_some_and(|values| values != head_dim) {
        let feature = format!("keys of {head_dim} and values of {values:?} numbers");
        return Err(metadata.unsupported(feature, "both must be of one width"));
    }
    let context = keys.required("context_length")?;
    if context > LONGEST_CONTEXT {
        // a table is made for so many positions
        let key = keys.key("context_length");
        let reason = format!("is {context}, expected at most {LONGEST_CONTEXT}");
        return Err(metadata.wrong(&key, reason));
    }
    let eps = keys.number("attention.layer_norm_rms_epsilon")?;
    let mut fields = Map::new();
    for (name, value) in [
        ("model_type", json!(keys.model_type)),
        ("hidden_size", json!(hidden)),
        (
            "intermediate_size",
            json!(keys.required("feed_forward_length")?),
        ),
        ("num_hidden_layers", json!(layers)),
        ("num_attention_heads", json!(heads)),
        (
            "num_key_value_heads",
            json!(keys.count("attention.head_count_kv")?),
        ),
        ("head_dim", json!(head_dim)),
        ("vocab_size", json!(embedding.shape[0])),
        ("max_position_embeddings", json!(context)),
        ("rms_norm_eps", json!(eps)),
        (
            "tie_word_embeddings",
            json!(file.tensor("output.weight").is_none()),
        ),
        (
            "attn_logit_softcapping",
            json!(keys.number("attn_logit_softcapping")?),
        ),
        (
            "final_logit_softcapping",
            json!(keys.number("final_logit_softcapping")?),
        ),
        ("eos_token_id", json!(ends(metadata)?)),
        (
            "bos_token_id",
            json!(metadata.count("tokenizer.ggml.bos_token_id")?),
        ),
    ] {
        fields.insert(name.to_owned(), value);
    }
    windows(keys, layers, &mut fields)?;
    ropes(keys, (file, head_dim), &mut fields)?;
    let wide = WIDE_SCALE
        .iter()
        .any(|(family, count)| family.model_type() == keys.model_type && *count == layers);
    let width = if wide {
        hidden / heads.max(1)
    } else {
        head_dim
    };
    let scale = keys.number("attention.scale")?;
    let usual = (width as f64).powf(-0.5);
    Ok((
        fields,
        Some(scale.filter(|scale| *scale != 0.0).unwrap_or(usual)),
    ))
}

/// Tokens that end an answer: of a text, of a turn, of a message.
fn ends(metadata: &Metadata) -> Result<Vec<usize>, GgufError> {
    let mut ends = Vec::new();
    for kind in ["eos", "eot", "eom"] {
        ends.extend(metadata.count(&format!("tokenizer.ggml.{kind}_token_id"))?);
    }
    ends.dedup();
    Ok(ends)
}

/// Which layers see a window only. A file that states a window and no pattern has its family's.
fn windows(
    keys: &mut Keys<'_>,
    layers: usize,
    fields: &mut Map<String, Json>,
) -> Result<(), GgufError> {
    let window = keys
        .count("attention.sliding_window")?
        .filter(|size| *size > 0);
    let pattern = keys.key("attention.sliding_window_pattern");
    let default = match keys.model_type {
        "gemma2" => 2,
        "gemma3_text" => 6,
        _ => 0,
    };
    let slides: Vec<bool> = match keys.metadata.get(&pattern) {
        _ if window.is_none() => vec![false; layers],
        Some(crate::gguf::Value::Flags(flags)) => flags.clone(),
        // every so many layers one sees everything; 0 is none of them
        stated => {
            let every = match stated {
                None => default,
                Some(_) => keys.metadata.required_count(&pattern)?,
            };
            let slides = |layer: usize| every == 0 || layer % every < every - 1;
            (0..layers).map(slides).collect()
        }
    };
    let types: Vec<&str> = slides
        .iter()
        .map(|slides| {
            if *slides {
                "sliding_attention"
            } else {
                "full_attention"
            }
        })
        .collect();
    fields.insert("layer_types".to_owned(), json!(types));
    fields.insert("sliding_window".to_owned(), json!(window));
    Ok(())
}
