//! Byte-level pairs (`gpt2`): text is cut by patterns, its bytes are spelled in an alphabet of
//! printable characters, and pairs are merged in the file's order.

use serde_json::{Value as Json, json};

use super::splitting::Splitting;
use super::{Adds, Vocabulary};
use crate::gguf::{GgufError, Metadata};

/// The parts of a `tokenizer.json`, and what this kind puts around a plain prompt.
pub(super) fn spec(
    metadata: &Metadata,
    vocabulary: &Vocabulary<'_>,
) -> Result<(Json, Adds), GgufError> {
    let splitting = Splitting::of(metadata)?;
    let key = "tokenizer.ggml.merges";
    let merges = metadata.texts(key)?;
    let merges = merges.ok_or_else(|| metadata.wrong(key, "is missing"))?;
    let pairs: Vec<[&str; 2]> = merges
        .iter()
        .map(|merge| {
            // blanks are spelled by another character, so the one there is divides
            let pair = merge.split_once(' ');
            let pair = pair.ok_or_else(|| {
                metadata.wrong(key, format!("has `{merge}`, expected two pieces"))
            })?;
            Ok([pair.0, pair.1])
        })
        .collect::<Result<_, GgufError>>()?;
    let bytes = json!({
        "type": "ByteLevel",
        "add_prefix_space": false,
        "trim_offsets": true,
        "use_regex": false,
    });
    let mut steps: Vec<Json> = splitting
        .patterns
        .iter()
        .map(|pattern| {
            json!({
                "type": "Split",
                "pattern": {"Regex": pattern},
                "behavior": "Isolated",
                "invert": false,
            })
        })
        .collect();
    steps.push(bytes.clone());
    let spec = json!({
        "normalizer": splitting.composes.then(|| json!({"type": "NFC"})),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "decoder": bytes,
        "model": {
            "type": "BPE",
            "byte_fallback": false,
            "fuse_unk": false,
            "ignore_merges": splitting.ignores_merges,
            "vocab": vocabulary.ids(metadata)?,
            "merges": pairs,
        },
    });
    let adds = Adds {
        bos: splitting.adds_bos,
        eos: false,
    };
    Ok((spec, adds))
}
