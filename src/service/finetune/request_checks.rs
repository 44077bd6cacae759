//! The parts of a new job that belong to no method: its name, its seed, its owner's notes.

use serde_json::{Map, Value};

use super::FineTuningError;

/// Longest suffix, as in OpenAI's API.
const MAX_SUFFIX: usize = 64;
/// Most pairs of metadata, longest key, longest value, as in OpenAI's API.
const METADATA: [usize; 3] = [16, 64, 512];

pub(super) fn check_suffix(suffix: Option<&str>) -> Result<Option<String>, FineTuningError> {
    let Some(suffix) = suffix else {
        return Ok(None);
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let begins = suffix.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins || !suffix.chars().all(plain) || suffix.len() > MAX_SUFFIX || suffix == "default" {
        let problem = format!(
            "must be 1 to {MAX_SUFFIX} characters of a-z, A-Z, 0-9, `.`, `_` and `-`, the first a \
             letter or digit, and not `default`: it becomes the policy's name"
        );
        return Err(FineTuningError::invalid("suffix", problem));
    }
    Ok(Some(suffix.to_owned()))
}

pub(super) fn check_seed(seed: Option<u64>, digits: &str) -> Result<u64, FineTuningError> {
    // what every JSON reader can hold
    const MOST: u64 = (1 << 53) - 1;
    match seed {
        Some(seed) if seed > MOST => {
            let problem = format!("must be a whole number from 0 to {MOST}, got {seed}");
            Err(FineTuningError::invalid("seed", problem))
        }
        Some(seed) => Ok(seed),
        // a job's own, and shown in it
        None => {
            let mut first = [0; 4];
            first.copy_from_slice(&blake3::hash(digits.as_bytes()).as_bytes()[..4]);
            Ok(u64::from(u32::from_le_bytes(first)))
        }
    }
}

pub(super) fn check_metadata(
    metadata: Map<String, Value>,
) -> Result<Map<String, Value>, FineTuningError> {
    let [pairs, key, text] = METADATA;
    let sound = metadata.len() <= pairs
        && metadata.iter().all(|(name, value)| {
            let value = value.as_str();
            name.chars().count() <= key && value.is_some_and(|v| v.chars().count() <= text)
        });
    match sound {
        true => Ok(metadata),
        false => {
            let problem = format!(
                "must hold at most {pairs} strings, each of at most {text} characters under a key \
                 of at most {key}"
            );
            Err(FineTuningError::invalid("metadata", problem))
        }
    }
}
