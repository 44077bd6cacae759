//! Which of a decoder's layers look through a window, and how each is told positions.

use super::{Family, ropes};
use crate::model::ModelError;
use crate::model::config::{LayerConfig, RopeConfig};
use crate::model::config_reader::ConfigReader;

/// The rotary embeddings, and each layer's choice of window and embedding.
pub(super) fn read(
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
    let ropes = ropes::read(reader, family, rotated_share)?;
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
