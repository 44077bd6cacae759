//! Where the golden fixtures lie, and how close is close.

use std::path::PathBuf;

/// The folder of one golden fixture, for example `llama` or `rm_bert`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
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
