//! How many bytes of a text one token can stand for: what is longer than a context's worth of them
//! need not be tokenised to be refused.
//!
//! Only tokenizers that drop nothing have such a bound. Read from `tokenizer.json`; what is not
//! known to drop nothing is taken to have none.

use serde_json::Value;

/// Most bytes that a mark of [`super::shield`] has, which may stand for a single token.
const MARK: usize = 16;

/// Most bytes of a text for each of its tokens; `None` where there is no bound.
pub(super) fn bytes_per_token(tokenizer: &Value) -> Option<usize> {
    let model = &tokenizer["model"];
    let vocabulary = model["vocab"].as_object()?;
    let added = tokenizer["added_tokens"].as_array().into_iter().flatten();
    let mut longest = MARK;
    for token in added {
        // takes any number of blanks with it
        if token["lstrip"] == true || token["rstrip"] == true {
            return None;
        }
        longest = longest.max(token["content"].as_str()?.len());
    }
    let pieces = vocabulary.keys();
    let has = |piece: String| vocabulary.contains_key(&piece);
    let is_pairs = model["type"] == "BPE";
    let bytewise = is_pairs && tokenizer["decoder"]["type"] == "ByteLevel";
    let spelled = is_pairs && model["byte_fallback"] == true;
    let piece = if bytewise && spells_bytes(&tokenizer["pre_tokenizer"], &has) {
        // a character of a piece is a byte of the text
        pieces.map(|piece| piece.chars().count()).max()?
    } else if spelled && (0..=255).all(|byte| has(format!("<0x{byte:02X}>"))) {
        // a blank is one byte and its sign in a piece three: never fewer
        keeps_all(&tokenizer["pre_tokenizer"]).then_some(())?;
        pieces.map(String::len).max()?
    } else {
        return None;
    };
    Some(longest.max(piece) * shrinking(&tokenizer["normalizer"])?)
}

/// Whether the text becomes bytes, each of which is a piece by itself.
fn spells_bytes(pre_tokenizer: &Value, has: &dyn Fn(String) -> bool) -> bool {
    let all = (0..=255u8).all(|byte| has(super::tokenizer::char_of(byte).to_string()));
    let steps = pre_tokenizer["pretokenizers"].as_array();
    let last = steps.map_or(pre_tokenizer, |steps| steps.last().unwrap_or(pre_tokenizer));
    all && last["type"] == "ByteLevel" && keeps_all(pre_tokenizer)
}

/// Whether a pre-tokenizer only splits.
fn keeps_all(pre_tokenizer: &Value) -> bool {
    if pre_tokenizer.is_null() {
        return true;
    }
    match pre_tokenizer["type"].as_str() {
        Some("Sequence") => {
            let steps = pre_tokenizer["pretokenizers"].as_array();
            steps.is_some_and(|steps| steps.iter().all(keeps_all))
        }
        Some("Split" | "Punctuation") => pre_tokenizer["behavior"] != "Removed",
        Some("ByteLevel" | "Digits" | "Metaspace") => true,
        _ => false,
    }
}

/// How many times fewer bytes a normalizer may make of a text; `None` where any number.
fn shrinking(normalizer: &Value) -> Option<usize> {
    if normalizer.is_null() {
        return Some(1);
    }
    match normalizer["type"].as_str()? {
        "Sequence" => {
            let steps = normalizer["normalizers"].as_array()?;
            steps.iter().map(shrinking).product()
        }
        // at most three of Hangul's letters, three bytes each, become one of three
        "NFC" => Some(3),
        "Prepend" => Some(1),
        "Replace" if normalizer["pattern"]["String"] == " " => {
            (!normalizer["content"].as_str()?.is_empty()).then_some(1)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bytewise() -> Value {
        let mut vocabulary = serde_json::Map::new();
        for byte in 0..=255u8 {
            let piece = crate::text::tokenizer::char_of(byte).to_string();
            vocabulary.insert(piece, json!(byte));
        }
        vocabulary.insert("Ġ".repeat(40), json!(256));
        json!({
            "added_tokens": [{"content": "<s>", "lstrip": false, "rstrip": false}],
            "normalizer": null,
            "pre_tokenizer": {"type": "ByteLevel"},
            "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": vocabulary},
        })
    }

    #[test]
    fn a_bytewise_tokenizers_bound_is_its_longest_piece() {
        assert_eq!(bytes_per_token(&bytewise()), Some(40));
        let mut composed = bytewise();
        composed["normalizer"] = json!({"type": "NFC"});
        assert_eq!(bytes_per_token(&composed), Some(120));
    }

    #[test]
    fn what_may_drop_text_has_no_bound() {
        let split = json!({"type": "Split", "behavior": "Removed"});
        for (path, value) in [
            ("/normalizer", json!({"type": "StripAccents"})),
            ("/added_tokens/0/rstrip", json!(true)),
            (
                "/pre_tokenizer",
                json!({"type": "Sequence", "pretokenizers": [split, {"type": "ByteLevel"}]}),
            ),
            ("/pre_tokenizer", json!({"type": "Whitespace"})),
            ("/decoder/type", json!("Metaspace")),
            ("/model/type", json!("Unigram")),
        ] {
            let mut tokenizer = bytewise();
            *tokenizer.pointer_mut(path).unwrap() = value;
            assert_eq!(bytes_per_token(&tokenizer), None, "{path}");
        }
        let mut tokenizer = bytewise();
        let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        vocabulary.remove("a");
        assert_eq!(bytes_per_token(&tokenizer), None);
    }
}
