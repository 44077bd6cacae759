//! A GGUF file's metadata as a decoder's configuration, read as strictly as `config.json`: every
//! key of the architecture is used, known to change nothing, or refused.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use super::{ROPE_FREQUENCIES, path_of};
use crate::gguf::{GgufError, GgufFile, Metadata, dequantize};
use crate::model::ModelError;
use crate::model::config::{DecoderConfig, RopeScaling};
use crate::model::config_reader::ConfigReader;
use crate::model::family::{self, Family};

/// Architectures of files, and what `config.json` calls them. Mistral's files say `llama`.
const ARCHITECTURES: [(&str, &str); 8] = [
    ("llama", "llama"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
    ("gemma", "gemma"),
    ("gemma2", "gemma2"),
    ("gemma3", "gemma3_text"),
    ("phi3", "phi3"),
    ("smollm3", "smollm3"),
];

/// Keys that change nothing in what is computed, or are told by the tensors too.
const NEUTRAL: [&str; 4] = [
    "vocab_size",
    "attention.causal",
    "rope.scaling.finetuned",
    "tensor_data_layout",
];

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

/// Divides each frequency of the plain embedding by the file's own factor.
fn divide_frequencies(config: &mut DecoderConfig, factors: &[f32]) -> Result<(), String> {
    let pairs = config.head_dim / 2;
    if factors.len() != pairs || factors.iter().any(|factor| *factor <= 0.0) {
        let count = factors.len();
        return Err(format!("has {count} factors, expected {pairs} above 0"));
    }
    let [rope] = config.ropes.as_mut_slice() else {
        return Err("is for one rotary embedding, but the family has several".to_owned());
    };
    if rope.scaling != RopeScaling::Default {
        return Err("stands beside another scaling of the rotary embedding".to_owned());
    }
    rope.scaling = RopeScaling::Divided(factors.into());
    Ok(())
}

/// The keys of one architecture, ticked off as they are read.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
    model_type: &'static str,
    used: BTreeSet<String>,
}

impl<'a> Keys<'a> {
    fn of(file: &'a GgufFile) -> Result<Self, GgufError> {
        let metadata = file.metadata();
        let key = "general.architecture";
        let architecture = metadata.text(key)?;
        let architecture = architecture.ok_or_else(|| metadata.wrong(key, "is missing"))?;
        let known = ARCHITECTURES.iter().find(|(name, _)| *name == architecture);
        let Some((_, model_type)) = known else {
            let names = ARCHITECTURES.map(|(name, _)| name).join(", ");
            return Err(metadata.unsupported(
                format!("the architecture `{architecture}`"),
                format!("supported architectures: {names}"),
            ));
        };
        Ok(Self {
            metadata,
            architecture,
            model_type,
            used: BTreeSet::new(),
        })
    }

    fn key(&mut self, name: &str) -> String {
        let key = format!("{}.{name}", self.architecture);
        self.used.insert(key.clone());
        key
    }

    fn count(&mut self, name: &str) -> Result<Option<usize>, GgufError> {
        let key = self.key(name);
        self.metadata.count(&key)
    }

    fn required(&mut self, name: &str) -> Result<usize, GgufError> {
        let key = self.key(name);
        self.metadata.required_count(&key)
    }

    fn number(&mut self, name: &str) -> Result<Option<f64>, GgufError> {
        let key = self.key(name);
        // stored as f32 mostly: its shortest spelling is the number that was meant
        let number = self.metadata.number(&key)?;
        Ok(number.map(|value| (value as f32).to_string().parse().unwrap_or(value)))
    }

    /// Refuses the first key of the architecture that nobody has read and that is not off.
    fn finish(mut self) -> Result<(), GgufError> {
        for name in NEUTRAL {
            self.key(name);
        }
        let prefix = format!("{}.", self.architecture);
        let mut own = self
            .metadata
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix));
        match own.find(|(key, value)| !self.used.contains(*key) && !value.is_off()) {
            None => Ok(()),
            Some((key, _)) => Err(self.metadata.unsupported(
                format!("the setting `{key}`"),
                "only what this program computes is served",
            )),
        }
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

/// Rotary embeddings and their scaling.
fn ropes(
    keys: &mut Keys<'_>,
    (file, head_dim): (&GgufFile, usize),
    fields: &mut Map<String, Json>,
) -> Result<(), GgufError> {
    let metadata = keys.metadata;
    let long = ["rope_factors_long.weight", "rope_factors_short.weight"];
    if let Some(name) = long.iter().find(|name| file.tensor(name).is_some()) {
        return Err(metadata.unsupported(
            format!("`{name}` (longrope)"),
            "supported: none, linear, yarn, and Llama 3's factors",
        ));
    }
    let rotated = keys.count("rope.dimension_count")?.unwrap_or(head_dim);
    if rotated != head_dim {
        let share = rotated as f64 / head_dim.max(1) as f64;
        fields.insert("partial_rotary_factor".to_owned(), json!(share));
    }
    let theta = keys.number("rope.freq_base")?.unwrap_or(10_000.0);
    fields.insert("rope_theta".to_owned(), json!(theta));
    let local = keys.number("rope.freq_base_swa")?;
    match keys.model_type {
        "gemma3_text" => {
            fields.insert(
                "rope_local_base_freq".to_owned(),
                json!(local.unwrap_or(1e4)),
            );
        }
        _ if local.is_some_and(|local| local != theta) => {
            let feature = format!("another base of frequencies, {local:?}, for windows");
            return Err(metadata.unsupported(feature, "only Gemma 3 has one"));
        }
        _ => {}
    }
    let scaling = scaling(keys)?;
    fields.insert("rope_scaling".to_owned(), scaling);
    Ok(())
}

fn scaling(keys: &mut Keys<'_>) -> Result<Json, GgufError> {
    let metadata = keys.metadata;
    let kind = keys.key("rope.scaling.type");
    let kind = metadata.text(&kind)?.unwrap_or("none");
    let older = keys
        .number("rope.scale_linear")?
        .filter(|factor| *factor != 1.0);
    let factor = keys.number("rope.scaling.factor")?.or(older);
    let original = keys.count("rope.scaling.original_context_length")?;
    let attention = keys.number("rope.scaling.yarn_attn_factor")?;
    let attention = keys.number("rope.scaling.attn_factor")?.or(attention);
    let (fast, slow) = (
        keys.number("rope.scaling.yarn_beta_fast")?,
        keys.number("rope.scaling.yarn_beta_slow")?,
    );
    let extrapolation = keys.number("rope.scaling.yarn_ext_factor")?;
    if let Some(factor) = extrapolation.filter(|factor| *factor != 1.0) {
        let feature = format!("an extrapolation factor of {factor}");
        return Err(metadata.unsupported(feature, "expected 1"));
    }
    match (kind, factor) {
        ("none" | "linear", None) => Ok(Json::Null),
        ("none" | "linear", Some(factor)) => Ok(json!({"rope_type": "linear", "factor": factor})),
        ("yarn", factor) => Ok(json!({
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": original,
            "attention_factor": attention,
            "beta_fast": fast,
            "beta_slow": slow,
        })),
        (other, _) => Err(metadata.unsupported(
            format!("rope scaling `{other}`"),
            "supported: none, linear, yarn, and Llama 3's factors",
        )),
    }
}
