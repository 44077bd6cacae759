//! The rotary embeddings of a decoder, in the older spelling of `config.json` and in the newer one.

use super::Family;
use crate::model::ModelError;
use crate::model::config::{RopeConfig, RopeScaling, Yarn};
use crate::model::config_reader::ConfigReader;

/// One rotary embedding, or for Gemma 3 the global one and the local one.
pub(super) fn read(
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
