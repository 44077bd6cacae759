//! Three DPO steps on every decoder fixture: log-probabilities, losses, gradients, parameters.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use serde_json::Value;
use steersman::model::{Decoder, LoraAdapter};
use steersman::training::config::{OptimizerSettings, TermSettings};
use steersman::training::logps::Side;
use steersman::training::loss::LossSettings;
use steersman::training::optim::AdamW;
use steersman::training::passes::Keep;
use steersman::training::preference_step::{
    Contrast, Objective, PreferenceStep, TrainPair, preference_step,
};

use crate::fixtures::{assert_close, fixture};

struct Golden {
    tensors: HashMap<String, Tensor>,
    facts: Value,
}

impl Golden {
    fn load(name: &str) -> Self {
        let folder = fixture(name);
        let path = folder.join("dpo_step.safetensors");
        let facts = std::fs::read(folder.join("dpo_step.json")).unwrap();
        Self {
            tensors: candle_core::safetensors::load(path, &Device::Cpu).unwrap(),
            facts: serde_json::from_slice(&facts).unwrap(),
        }
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.tensors[name].flatten_all().unwrap().to_vec1().unwrap()
    }

    fn rows(&self, name: &str) -> Vec<Vec<i64>> {
        self.tensors[name].to_vec2().unwrap()
    }

    /// Parameters within 1e-5, and what float noise adds: AdamW's first updates are nearly g / |g|,
    /// so that an element whose gradient PyTorch itself knows to a tenth only (its f32 against its
    /// f64) may be off by a tenth of the updates' length.
    fn compare_parameters(&self, label: &str, steps: usize, tensor: &str, actual: &[f32]) {
        let noise = self.facts["f32_vs_f64"]["grad_max_abs"].as_f64().unwrap() as f32;
        let rate = self.facts["hyper"]["lr"].as_f64().unwrap() as f32;
        let gradient = self.floats(&format!("grad.{tensor}"));
        let expected = self.floats(&format!("after_step_{steps}.{tensor}"));
        let mut beyond = 0;
        for (index, (a, e)) in actual.iter().zip(&expected).enumerate() {
            let uncertain = (noise / gradient[index].abs()).min(2.0);
            let bound = 1e-5 + rate * steps as f32 * uncertain;
            beyond += usize::from((a - e).abs() > bound);
            assert!(
                (a - e).abs() <= bound + 1e-4,
                "{label} {tensor}[{index}]: {a} is not {e}"
            );
        }
        // An element whose first update was chance feeds back on its neighbours' next gradients.
        let allowed = if steps == 1 { 0 } else { expected.len() / 100 };
        assert!(
            beyond <= allowed,
            "{label} {tensor}: {beyond} elements differ by more than 1e-5"
        );
    }

    /// Log-probabilities and gradients before any update.
    fn compare_first_step(&self, label: &str, step: &PreferenceStep, vars: &[(String, Var)]) {
        let sides = [0, 1].map(|side| step.policy.iter().map(move |p| p[side]));
        let actual: Vec<f32> = sides.into_iter().flatten().collect();
        let expected = self.floats("policy_logps");
        assert_close(
            &format!("{label} policy log-probabilities"),
            &actual,
            &expected,
            1e-5,
        );
        for ((tensor, _), slot) in vars.iter().zip(step.gradients.slots()) {
            let expected = self.floats(&format!("grad.{tensor}"));
            let bound = 1e-5 * expected.iter().fold(1f32, |most, g| most.max(g.abs()));
            let actual = slot.as_ref().unwrap().flatten_all().unwrap();
            for (a, e) in actual.to_vec1::<f32>().unwrap().iter().zip(&expected) {
                assert!(
                    (a - e).abs() <= bound,
                    "{label} gradient of {tensor}: {a} is not {e}"
                );
            }
        }
    }

    /// Rows are chosen 0 .. n, then rejected 0 .. n.
    fn pairs(&self) -> Vec<TrainPair> {
        let (ids, real, completion) = (
            self.rows("input_ids"),
            self.rows("attention_mask"),
            self.rows("completion_mask"),
        );
        let pick = |row: usize, wanted: i64| -> Vec<u32> {
            let tokens = ids[row].iter().zip(&real[row]).zip(&completion[row]);
            tokens
                .filter(|((_, r), c)| **r == 1 && **c == wanted)
                .map(|((id, _), _)| *id as u32)
                .collect()
        };
        let count = ids.len() / 2;
        let reference = self.floats("ref_logps");
        (0..count)
            .map(|i| {
                assert_eq!(
                    pick(i, 0),
                    pick(i + count, 0),
                    "both rows have the same prompt"
                );
                TrainPair {
                    prompt: pick(i, 0),
                    completions: [pick(i, 1), pick(i + count, 1)],
                    target: 1.0,
                    reference: [reference[i], reference[i + count]],
                    contrast: None,
                    on_policy: true,
                }
            })
            .collect()
    }
}

/// Gradients with each layer computed again, and with everything kept: the same bits.
fn check_recomputed(name: &str) {
    let golden = Golden::load(name);
    let decoder = Decoder::load(&fixture(name)).unwrap();
    let start = LoraAdapter::load(&fixture(name).join("adapter"), &decoder).unwrap();
    let adapter = Arc::new(start.trainable(&decoder).unwrap());
    let policy = Side {
        decoder: &decoder,
        adapter: Some(&adapter),
    };
    let mut pairs = golden.pairs();
    // the same answers under another prompt: a second pass within the loss
    pairs[0].contrast = Some(Contrast {
        prompt: pairs[0].prompt.iter().rev().copied().collect(),
        reference: [-20.0, -30.0],
    });
    let loss = LossSettings::default();
    let terms = TermSettings {
        anchor_weight: 0.5,
        mi_term: true,
        ..TermSettings::default()
    };
    let bits = |keep: Keep| {
        let objective = Objective {
            loss: &loss,
            terms: &terms,
            micro_batch_tokens: 10_000,
            keep,
        };
        let step = preference_step(policy, adapter.vars(), &pairs, objective).unwrap();
        let gradients = step.gradients.slots().iter().map(|slot| {
            let flat = slot.as_ref().unwrap().flatten_all().unwrap();
            let values = flat.to_vec1::<f32>().unwrap();
            values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        });
        (step.loss.to_bits(), gradients.collect::<Vec<_>>())
    };
    assert!(bits(Keep::LayerInputs) == bits(Keep::All), "{name}");
}

#[test]
fn layers_that_are_computed_again_give_the_same_bits() {
    for name in ["llama", "qwen3", "gemma2", "gemma3", "phi3"] {
        check_recomputed(name);
    }
}

fn check(name: &str, micro_batch_tokens: usize) {
    let golden = Golden::load(name);
    let decoder = Decoder::load(&fixture(name)).unwrap();
    let start = LoraAdapter::load(&fixture(name).join("adapter"), &decoder).unwrap();
    let adapter = Arc::new(start.trainable(&decoder).unwrap());
    let policy = Side {
        decoder: &decoder,
        adapter: Some(&adapter),
    };
    let mut pairs = golden.pairs();
    check_reference(name, &decoder, &mut pairs);

    let hyper = &golden.facts["hyper"];
    let mut settings = OptimizerSettings::with_learning_rate(hyper["lr"].as_f64().unwrap());
    settings.weight_decay = hyper["wd"].as_f64().unwrap();
    let (loss, terms) = (LossSettings::default(), TermSettings::default());
    let objective = Objective {
        loss: &loss,
        terms: &terms,
        micro_batch_tokens,
        keep: Keep::All,
    };
    let mut adam = AdamW::new(adapter.vars().to_vec(), settings.clone());
    for (index, trace) in golden.facts["trace"].as_array().unwrap().iter().enumerate() {
        let mut step = preference_step(policy, adapter.vars(), &pairs, objective).unwrap();
        step.gradients.self_check(adapter.vars()).unwrap();
        let label = format!("{name} step {}", index + 1);
        let expected = trace["loss"].as_f64().unwrap() as f32;
        assert_close(
            &format!("{label} loss"),
            &[step.loss as f32],
            &[expected],
            1e-5,
        );
        if index == 0 {
            golden.compare_first_step(&label, &step, adapter.vars());
        }
        let norm = step
            .gradients
            .clip(hyper["clip"].as_f64().unwrap())
            .unwrap() as f32;
        let expected = trace["grad_norm_before_clip"].as_f64().unwrap() as f32;
        assert_close(
            &format!("{label} gradient norm"),
            &[norm],
            &[expected],
            3e-5,
        );
        adam.step(&step.gradients, settings.learning_rate).unwrap();
        if index != 1 {
            for (tensor, var) in adapter.vars() {
                let actual: Vec<f32> = var.as_tensor().flatten_all().unwrap().to_vec1().unwrap();
                golden.compare_parameters(&label, index + 1, tensor, &actual);
            }
        }
    }
}

/// The reference is the model with the adapter off. Our own log-probabilities go on from here.
fn check_reference(name: &str, decoder: &Decoder, pairs: &mut [TrainPair]) {
    let reference = Side {
        decoder,
        adapter: None,
    };
    let sequences: Vec<_> = pairs.iter().flat_map(TrainPair::sequences).collect();
    let actual = reference.constant_logps(&sequences, 64).unwrap();
    let expected: Vec<f32> = pairs.iter().flat_map(|p| p.reference).collect();
    assert_close(
        &format!("{name} reference log-probabilities"),
        &actual,
        &expected,
        1e-5,
    );
    for (pair, logps) in pairs.iter_mut().zip(actual.as_chunks::<2>().0) {
        pair.reference = *logps;
    }
}

#[test]
fn llama_trains_as_in_pytorch() {
    check("llama", 10_000);
}

#[test]
fn a_pair_at_a_time_is_the_same_step() {
    check("llama", 1);
}

#[test]
fn llama3_rope_trains_as_in_pytorch() {
    check("llama_rope_llama3", 10_000);
}

#[test]
fn mistral_trains_as_in_pytorch() {
    check("mistral", 10_000);
}

#[test]
fn qwen2_trains_as_in_pytorch() {
    check("qwen2", 10_000);
}

#[test]
fn qwen3_trains_as_in_pytorch() {
    check("qwen3", 10_000);
}

#[test]
fn gemma_trains_as_in_pytorch() {
    check("gemma", 10_000);
}

#[test]
fn gemma2_trains_as_in_pytorch() {
    check("gemma2", 10_000);
}

#[test]
fn gemma3_trains_as_in_pytorch() {
    check("gemma3", 10_000);
}

#[test]
fn phi3_trains_as_in_pytorch() {
    check("phi3", 10_000);
}
