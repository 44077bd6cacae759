//! Folders in which every file is whole and the numbers are none.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor, safetensors};
use serde_json::{Value, json};

use super::command::check_unservable;
use super::folder;

/// Fills one tensor of a file with what is no number.
fn poison(file: &Path, name: &str) {
    let mut tensors: HashMap<String, Tensor> = safetensors::load(file, &Device::Cpu).unwrap();
    let tensor = tensors
        .iter_mut()
        .find(|(found, _)| found.contains(name))
        .map(|(_, tensor)| tensor)
        .unwrap();
    *tensor = (tensor.zeros_like().unwrap() / 0.0).unwrap();
    safetensors::save(&tensors, file).unwrap();
}

#[test]
fn a_model_that_cannot_decode_a_token_is_refused() {
    let dir = folder::base();
    poison(&dir.path().join("model.safetensors"), "model.norm.weight");
    check_unservable(
        dir.path(),
        &["no token can be had", "logits are not finite"],
    );
    let dir = folder::with_policies();
    let adapter = "policies/plain/adapter_model.safetensors";
    poison(&dir.path().join(adapter), "lora_B");
    check_unservable(dir.path(), &["the model `plain` cannot answer"]);
}

#[test]
fn rotations_that_are_none_are_refused() {
    let check = |field: &str, value: Value, words: &[&str]| {
        let dir = folder::base();
        let path = dir.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config[field] = value;
        folder::write(&path, &config);
        check_unservable(dir.path(), words);
    };
    let theta = "rope_theta is -1, expected a number above 0";
    let rope =
        |theta: f64, kind: &str| json!({"rope_theta": theta, "rope_type": kind, "factor": 0});
    let ropes = "rope_parameters";
    check(ropes, rope(-1.0, "linear"), &[theta]);
    let context = "max_position_embeddings is 1000000000, expected 1 to 16777216";
    check("max_position_embeddings", json!(1_000_000_000), &[context]);
    check(
        ropes,
        rope(500.0, "linear"),
        &["frequencies that are no numbers"],
    );
}
