//! Losses and their gradients against the golden f64 values, and at the points where they break.

use candle_core::{DType, Device, Tensor, Var};
use serde_json::Value;

use super::*;

fn golden(name: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/preference_math")
        .join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect()
}

fn vector(values: &[f64]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

fn close(label: &str, actual: &Tensor, expected: &[f64]) {
    let actual = actual
        .to_dtype(DType::F64)
        .unwrap()
        .to_vec1::<f64>()
        .unwrap();
    for (a, e) in actual.iter().zip(expected) {
        assert!(
            (a - e).abs() <= 1e-9 * e.abs().max(1.0),
            "{label}: {a} is not {e}"
        );
    }
}

/// Our names beside those of the golden file.
const OFFERED: [(&str, PreferenceLoss); 7] = [
    ("sigmoid", PreferenceLoss::Sigmoid),
    ("cdpo (label smoothing)", PreferenceLoss::Sigmoid),
    ("robust", PreferenceLoss::Robust),
    ("hinge", PreferenceLoss::Hinge),
    ("ipo_sum (TRL OnlineDPO)", PreferenceLoss::Ipo),
    ("ipo_avg (TRL DPO)", PreferenceLoss::IpoMean),
    ("sigmoid_norm", PreferenceLoss::SigmoidNorm),
];

fn check(case: &Value, name: &str, kind: PreferenceLoss) {
    let beta = case["beta"].as_f64().unwrap();
    let smoothing = case["label_smoothing"].as_f64().unwrap();
    let smooths = matches!(name, "cdpo (label smoothing)" | "robust");
    let settings = LossSettings {
        kind,
        beta,
        label_smoothing: if smooths { smoothing } else { 0.0 },
    };
    let chosen = Var::from_tensor(&vector(&numbers(&case["policy_chosen"]))).unwrap();
    let rejected = Var::from_tensor(&vector(&numbers(&case["policy_rejected"]))).unwrap();
    let pairs = PairLogps {
        policy_chosen: chosen.as_tensor().clone(),
        policy_rejected: rejected.as_tensor().clone(),
        reference_chosen: vector(&numbers(&case["ref_chosen"])),
        reference_rejected: vector(&numbers(&case["ref_rejected"])),
        length_chosen: vector(&numbers(&case["len_chosen"])),
        length_rejected: vector(&numbers(&case["len_rejected"])),
        target: Tensor::ones(chosen.dim(0).unwrap(), DType::F64, &Device::Cpu).unwrap(),
    };
    let label = format!("{name} {} beta {beta} smoothing {smoothing}", case["tag"]);
    let expected = &case["losses"][name];
    let loss = preference_loss(&settings, &pairs).unwrap();
    close(&label, &loss.per_pair, &numbers(&expected["per_pair"]));
    let grads = loss.per_pair.mean_all().unwrap().backward().unwrap();
    close(
        &label,
        grads.get(&chosen).unwrap(),
        &numbers(&expected["d_chosen"]),
    );
    close(
        &label,
        grads.get(&rejected).unwrap(),
        &numbers(&expected["d_rejected"]),
    );
}

#[test]
fn values_and_gradients_are_the_golden_ones() {
    let file = golden("losses.json");
    for case in file["cases"].as_array().unwrap() {
        for (name, kind) in OFFERED {
            check(case, name, kind);
        }
    }
}

/// A batch of one pair in f32 with margin h and target p.
fn one_pair(h: f32, p: f32) -> (Var, PairLogps) {
    let tensor = |x: f32| Tensor::new(&[x], &Device::Cpu).unwrap();
    let chosen = Var::from_tensor(&tensor(h)).unwrap();
    let pairs = PairLogps {
        policy_chosen: chosen.as_tensor().clone(),
        policy_rejected: tensor(0.0),
        reference_chosen: tensor(0.0),
        reference_rejected: tensor(0.0),
        length_chosen: tensor(1.0),
        length_rejected: tensor(1.0),
        target: tensor(p),
    };
    (chosen, pairs)
}

fn loss_and_slope(settings: &LossSettings, h: f32, p: f32) -> (f32, f32) {
    let (chosen, pairs) = one_pair(h, p);
    let loss = preference_loss(settings, &pairs).unwrap().per_pair;
    let grads = loss.backward().unwrap();
    let slope = grads.get(&chosen).unwrap().to_vec1::<f32>().unwrap()[0];
    (loss.to_vec1::<f32>().unwrap()[0], slope)
}

#[test]
fn the_slope_at_a_margin_of_exactly_0_is_minus_half_beta() {
    let (loss, slope) = loss_and_slope(&LossSettings::default(), 0.0, 1.0);
    assert!((loss - 2f32.ln()).abs() < 1e-7);
    assert!((slope + 0.05).abs() < 1e-8, "{slope}");
}

#[test]
fn margins_of_thousands_stay_finite_in_f32() {
    let settings = LossSettings {
        beta: 1.0,
        ..LossSettings::default()
    };
    assert_eq!(loss_and_slope(&settings, -5000.0, 1.0), (5000.0, -1.0));
    assert_eq!(loss_and_slope(&settings, 5000.0, 1.0), (0.0, 0.0));
}

#[test]
fn a_soft_label_is_at_rest_where_the_log_odds_are_its_own() {
    // Minimum of p f(h) + (1 - p) f(-h) at beta h = ln(p / (1 - p)).
    let rest = (0.7f32 / 0.3).ln() / 0.1;
    let (_, slope) = loss_and_slope(&LossSettings::default(), rest, 0.7);
    assert!(slope.abs() < 1e-7, "{slope}");
}

#[test]
fn a_soft_label_of_one_half_has_no_preference() {
    let (_, slope) = loss_and_slope(&LossSettings::default(), 0.0, 0.5);
    assert!(slope.abs() < 1e-8, "{slope}");
}

#[test]
fn the_anchor_pulls_the_chosen_completion_up_only() {
    let (chosen, pairs) = one_pair(-3.0, 1.0);
    let loss = anchor_loss(0.1, &pairs).unwrap();
    // -log sigmoid(-0.3), slope -beta sigmoid(0.3)
    assert!((loss.to_vec1::<f32>().unwrap()[0] - 0.854_355_2).abs() < 1e-6);
    let slope = loss
        .backward()
        .unwrap()
        .get(&chosen)
        .unwrap()
        .to_vec1::<f32>()
        .unwrap()[0];
    assert!((slope + 0.057_444_25).abs() < 1e-7, "{slope}");
}

#[test]
fn the_contrast_term_lowers_the_answer_under_other_weights_only() {
    let own = Var::from_tensor(&vector(&[1.0])).unwrap();
    let other = Var::from_tensor(&vector(&[1.0])).unwrap();
    let loss = weight_contrast_loss(0.01, &own, &other).unwrap();
    let grads = loss.backward().unwrap();
    close("other", grads.get(&other).unwrap(), &[0.005]);
    assert!(grads.get(&own).is_none(), "the sampled side is constant");
}
