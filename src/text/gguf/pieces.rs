//! SentencePiece's pairs (`llama`): characters are merged, the pair first whose whole has the
//! highest score; what is in no piece is spelled in bytes.

use std::collections::HashMap;

use serde_json::{Value as Json, json};

use super::{Adds, Kind, Vocabulary};
use crate::gguf::{GgufError, Metadata};

/// Stands for a blank inside of pieces.
const BLANK: &str = "\u{2581}";

/// The parts of a `tokenizer.json`, and what this kind puts around a plain prompt.
pub(super) fn spec(
    metadata: &Metadata,
    vocabulary: &Vocabulary<'_>,
) -> Result<(Json, Adds), GgufError> {
    for key in [
        "tokenizer.ggml.remove_extra_whitespaces",
        "tokenizer.ggml.precompiled_charsmap",
    ] {
        if metadata.get(key).is_some_and(|value| !value.is_off()) {
            let feature = format!("`{key}`, which changes texts before they are cut");
            return Err(metadata.unsupported(feature, "supported: texts as they are"));
        }
    }
    let leads = metadata
        .flag("tokenizer.ggml.add_space_prefix")?
        .unwrap_or(true);
    let blanks = json!({"type": "Replace", "pattern": {"String": " "}, "content": BLANK});
    let normalizer = match leads {
        true => json!({
            "type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": BLANK}, blanks],
        }),
        false => blanks,
    };
    let mut joins = vec![
        json!({"type": "Replace", "pattern": {"String": BLANK}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if leads {
        joins.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let unknown = vocabulary.named_text(metadata, "unknown")?;
    let unknown = unknown.or_else(|| {
        let mut tokens = vocabulary.iter();
        tokens
            .find(|(_, _, kind)| *kind == Kind::Unknown)
            .map(|(_, text, _)| text)
    });
    let spec = json!({
        "normalizer": normalizer,
        "pre_tokenizer": null,
        "decoder": {"type": "Sequence", "decoders": joins},
        "model": {
            "type": "BPE",
            "unk_token": unknown,
            "byte_fallback": true,
            "fuse_unk": true,
            "ignore_merges": false,
            "vocab": vocabulary.ids(metadata)?,
            "merges": merges(metadata, vocabulary)?,
        },
    });
    Ok((
        spec,
        Adds {
            bos: true,
            eos: false,
        },
    ))
}

/// Every way to make a piece of two others, those of the highest score first: merged in this order,
/// the pair whose whole has the highest score comes first too.
fn merges<'a>(
    metadata: &Metadata,
    vocabulary: &Vocabulary<'a>,
) -> Result<Vec<[&'a str; 2]>, GgufError> {
    let key = "tokenizer.ggml.scores";
    let scores = metadata.floats(key)?;
    let scores = scores.ok_or_else(|| metadata.wrong(key, "is missing"))?;
    if scores.len() != vocabulary.texts.len() {
        let (found, expected) = (scores.len(), vocabulary.texts.len());
        return Err(metadata.wrong(key, format!("has {found} entries for {expected} tokens")));
    }
    let merged = |kind: Kind| matches!(kind, Kind::Plain | Kind::UserDefined);
    let pieces: HashMap<&str, u32> = vocabulary
        .iter()
        .filter(|(_, _, kind)| merged(*kind))
        .map(|(id, text, _)| (text, id))
        .collect();
    let mut found = Vec::new();
    for ((_, text, kind), score) in vocabulary.iter().zip(scores) {
        if !merged(kind) {
            continue;
        }
        let mut ways: Vec<_> = text
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| {
                let (left, right) = text.split_at(at);
                let ids = (*pieces.get(left)?, *pieces.get(right)?);
                Some((ids, [left, right]))
            })
            .collect();
        ways.sort_by_key(|(ids, _)| *ids);
        found.extend(ways.into_iter().map(|(_, pair)| (*score, pair)));
    }
    // stable, so that equal scores keep the order of ids
    found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    Ok(found.into_iter().map(|(_, pair)| pair).collect())
}
