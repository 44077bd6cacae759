//! Mixed adapters against the sums that they stand for.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use steersman::model::{AdapterMix, BLOCK_TOKENS, Decoder, ForwardBatch, LoraAdapter};

use super::{logits, served};
use crate::fixtures::{assert_close, fixture};

/// An adapter fixture of the llama decoder: its folder, and its `alpha / r`.
const PARTS: [(&str, f64); 2] = [
    ("llama/adapter", 9.0 / 4.0),
    ("lora_zoo/all_linear", 4.0 / 2.0),
];
const TOKENS: [u32; 19] = [
    1, 7, 300, 41, 5, 99, 12, 64, 200, 3, 8, 77, 31, 450, 2, 6, 18, 9, 10,
];

fn mix(decoder: &Decoder) -> AdapterMix {
    let load =
        |(folder, _): &(&str, f64)| Arc::new(LoraAdapter::load(&fixture(folder), decoder).unwrap());
    AdapterMix::new(PARTS.iter().map(load).collect(), decoder.config())
}

/// The llama decoder with `sum_k w_k alpha_k / r_k B_k A_k` added to its tensors.
fn merged(weights: [f32; 2]) -> (tempfile::TempDir, Decoder) {
    let from = fixture("llama");
    let read = |path| candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let mut tensors: HashMap<String, Tensor> = read(from.join("model.safetensors"));
    for ((folder, scale), weight) in PARTS.iter().zip(weights) {
        let pairs = read(fixture(folder).join("adapter_model.safetensors"));
        for (name, a) in pairs.iter().filter(|(name, _)| name.contains("lora_A")) {
            let b = &pairs[&name.replace("lora_A", "lora_B")];
            let change = (b.matmul(a).unwrap() * (scale * f64::from(weight))).unwrap();
            let module = name.strip_prefix("base_model.model.").unwrap();
            let module = module.split(".lora_A").next().unwrap();
            let tensor = tensors.get_mut(&format!("{module}.weight")).unwrap();
            *tensor = (&*tensor + change).unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(from.join("config.json"), dir.path().join("config.json")).unwrap();
    candle_core::safetensors::save(&tensors, dir.path().join("model.safetensors")).unwrap();
    let decoder = Decoder::load(dir.path()).unwrap();
    (dir, decoder)
}

#[test]
fn a_mix_equals_a_model_with_the_merged_tensors() {
    let decoder = Decoder::load(&fixture("llama")).unwrap();
    let mix = mix(&decoder);
    let plain = logits(&decoder, &TOKENS, None);
    for weights in [[0.5, 0.5], [0.9, 0.1], [0.0, 1.0], [1.0, 0.0]] {
        let (_dir, merged) = merged(weights);
        let expected = logits(&merged, &TOKENS, None);
        let moved = plain.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        assert!(moved.fold(0.0, f32::max) > 1.0, "{weights:?} move nothing");
        let mixed = mix.at(&weights).unwrap();
        assert_close(
            "trained",
            &logits(&decoder, &TOKENS, Some(mixed.clone())),
            &expected,
            1e-4,
        );
        // a mix is an adapter like any other: written and read it is the same
        let folder = tempfile::tempdir().unwrap();
        mixed.save(folder.path(), "base").unwrap();
        let again = Arc::new(LoraAdapter::load(folder.path(), &decoder).unwrap());
        assert_close(
            "read again",
            &logits(&decoder, &TOKENS, Some(again)),
            &expected,
            1e-4,
        );
    }
}

#[test]
fn rows_of_different_mixes_in_one_batch_have_the_bits_that_they_have_alone() {
    let decoder = Decoder::load(&fixture("llama")).unwrap();
    let mix = mix(&decoder);
    let at = |weights: [f32; 2]| Some(mix.at(&weights).unwrap());
    let adapters = [
        at([0.5, 0.5]),
        None,
        at([0.25, 0.75]),
        at([1.0, 0.0]),
        at([0.5, 0.5]),
    ];
    let blocks = TOKENS.len().div_ceil(BLOCK_TOKENS) as u32;
    let run = |adapters: &[Option<Arc<LoraAdapter>>]| {
        let mut batch = ForwardBatch::default();
        let mut tables: Vec<Vec<u32>> = Vec::new();
        for (place, adapter) in adapters.iter().enumerate() {
            batch.push(&TOKENS, 0, adapter.clone());
            let first = place as u32 * blocks;
            tables.push((first..first + blocks).collect());
        }
        let tables: Vec<&[u32]> = tables.iter().map(Vec::as_slice).collect();
        let mut pool = decoder.new_pool(tables.len() * blocks as usize);
        served(&decoder, &batch, &tables, &mut pool)
    };
    let together = run(&adapters);
    let each: Vec<Vec<f32>> = adapters
        .iter()
        .map(|it| run(std::slice::from_ref(it)))
        .collect();
    assert!(together == each.concat(), "the batch changes the bits");
    assert!(each[0] == each[4] && each[0] != each[1] && each[0] != each[2]);
    let (_dir, merged) = merged([0.25, 0.75]);
    assert_close("served", &each[2], &logits(&merged, &TOKENS, None), 1e-4);
}
