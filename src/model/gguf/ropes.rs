//! The rotary embeddings of a GGUF file.

use serde_json::{Map, Value as Json, json};

use super::keys::Keys;
use crate::gguf::{GgufError, GgufFile};
use crate::model::config::{DecoderConfig, RopeScaling};

/// Rotary embeddings and their scaling.
pub(super) fn ropes(
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

/// Divides each frequency of the plain embedding by the file's own factor.
pub(super) fn divide_frequencies(
    config: &mut DecoderConfig,
    factors: &[f32],
) -> Result<(), String> {
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
