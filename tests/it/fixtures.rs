//! Where the golden fixtures lie, and how close is close.

use std::path::PathBuf;

use steersman::types::TokenId;

/// The fixtures that are decoders.
pub(crate) const DECODERS: [&str; 9] = [
    "llama",
    "llama_rope_llama3",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3",
    "phi3",
];

/// The folder of one golden fixture, for example `llama` or `rm_bert`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// The prompts of a decoder fixture with their golden greedy continuations, as token ids.
pub(crate) fn greedy_cases(name: &str) -> Vec<(Vec<TokenId>, Vec<TokenId>)> {
    let text = std::fs::read_to_string(fixture(name).join("golden.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ids = |value: &serde_json::Value| serde_json::from_value(value.clone()).unwrap();
    let cases = golden["greedy"].as_array().unwrap();
    cases
        .iter()
        .map(|case| (ids(&case["prompt_ids"]), ids(&case["ids"])))
        .collect()
}

/// Fails unless every pair differs by at most `tolerance`, relative to the larger of 1 and the
/// expected magnitude.
pub(crate) fn assert_close(label: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len(), "{label}: lengths differ");
    for (index, (a, e)) in actual.iter().zip(expected).enumerate() {
        let bound = tolerance * e.abs().max(1.0);
        assert!(
            (a - e).abs() <= bound,
            "{label}[{index}]: {a} is not within {bound} of {e}"
        );
    }
}
