//! Model folders for the tests: the llama fixture, and a policy over it.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixtures::fixture;

/// The manifest of the test policy; its fences are special tokens that the template never writes.
pub(crate) fn manifest() -> Value {
    let stats = json!({"mean": 0.0, "std": 1.0, "clip": 5.0});
    json!({
        "format_version": 1,
        "name": "kind",
        "description": "a policy of the tests",
        "objectives": [
            {"name": "helpfulness", "description": "does what was asked", "default_weight": 3.0},
            {"name": "harmlessness", "description": "does no harm", "max_weight": 10.0},
        ],
        "conditioning": {
            "kind": "weights_text",
            "open": "<|end_of_text|>",
            "close": "<|pad|>",
            "template": "help {helpfulness} harm {harmlessness}",
            "decimals": 1,
            "placement": "prompt_start",
        },
        "normalizers": [stats, stats],
    })
}

/// Copies the files of one folder into another, new one.
pub(crate) fn copy_files(from: &Path, to: &Path, names: &[&str]) {
    std::fs::create_dir_all(to).unwrap();
    for name in names {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// The llama fixture as an ordinary model.
pub(crate) fn base() -> TempDir {
    let dir = tempfile::Builder::new().prefix("tiny-").tempdir().unwrap();
    let files = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    copy_files(&fixture("llama"), dir.path(), &files);
    dir
}

/// The same with two policies over it: `kind`, the default, and `plain` without objectives.
pub(crate) fn with_policies() -> TempDir {
    let dir = base();
    let adapter = ["adapter_config.json", "adapter_model.safetensors"];
    for name in ["kind", "plain"] {
        let to = dir.path().join("policies").join(name);
        copy_files(&fixture("llama").join("adapter"), &to, &adapter);
    }
    write(&dir.path().join("policies/kind/steering.json"), &manifest());
    write(
        &dir.path().join("policies.json"),
        &json!({"default": "kind"}),
    );
    dir
}

/// Writes a JSON file.
pub(crate) fn write(path: &Path, value: &Value) {
    std::fs::write(path, value.to_string()).unwrap();
}
