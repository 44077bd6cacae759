//! The same decoders with linear layers in fewer bits: near the golden f32 numbers, and as exact as
//! f32 in what does not depend on rounding.

use steersman::model::{Decoder, Dtype};

use super::{Golden, check_alone_equals_batch, logits};
use crate::fixtures::{DECODERS, fixture, greedy_cases};

/// Root mean square of the error over that of the logits.
///
/// A bf16 operand is off by at most 2^-9 of itself, 1.1e-3 in the mean square, so a product of two
/// by 1.6e-3; sums average this out neither way. A fixture chains 15 to 20 products (seven a
/// layer, the head, and the residual's earlier errors): about 1.6e-3 * sqrt(18) = 7e-3. Norms and
/// soft-caps may stretch that; a wrong lane, a missed step or an f16 would be off by far more.
const RELATIVE_ERROR: f64 = 2e-2;

/// The same for each type, with a bound below, where f32 would be: the numbers are in effect.
///
/// In blocks, an operand of 8 bits is off by at most half of 1/127 of the block's largest number,
/// which is some two and a half times the usual one: 0.6 % in the mean square, a product by 0.8 %,
/// and the chain by 3.5 %. With weights of 4 bits it is 9 % and 38 %.
const ERRORS: [(Dtype, f64, f64); 3] = [
    (Dtype::Bf16, 1e-4, RELATIVE_ERROR),
    (Dtype::Q8_0, 1e-3, 7e-2),
    (Dtype::Q4_0, 2e-2, 7e-1),
];

fn load(name: &str, dtype: Dtype) -> Decoder {
    Decoder::load_with(&fixture(name), dtype).unwrap()
}

fn root_mean_square(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0u32, 0.0), |(n, sum), x| (n + 1, sum + x * x));
    (sum / f64::from(count)).sqrt()
}

#[test]
fn logits_in_fewer_bits_are_near_the_golden_ones() {
    let each = DECODERS
        .iter()
        .flat_map(|name| ERRORS.map(|errors| (*name, errors)));
    for (name, (dtype, least, most)) in each {
        let decoder = load(name, dtype);
        let golden = Golden::load(fixture(name).join("golden.safetensors"));
        let vocabulary = decoder.config().vocab_size;
        let expected = golden.floats("logits");
        let sequences = golden.sequences();
        let longest = sequences.iter().map(Vec::len).max().unwrap();
        for (row, tokens) in sequences.iter().enumerate() {
            let ours = logits(&decoder, tokens, None);
            let at = row * longest * vocabulary;
            let expected = &expected[at..at + ours.len()];
            let errors = ours.iter().zip(expected).map(|(a, e)| f64::from(a - e));
            let size = root_mean_square(expected.iter().map(|e| f64::from(*e)));
            let error = root_mean_square(errors) / size;
            assert!(
                (least..most).contains(&error),
                "{name} in {dtype}, sequence {row}: relative error {error:.1e}"
            );
        }
    }
}

#[test]
fn greedy_choices_in_bf16_are_the_golden_ones_where_the_margin_allows() {
    let (mut decided, mut all) = (0, 0);
    for name in DECODERS {
        let decoder = load(name, Dtype::Bf16);
        let vocabulary = decoder.config().vocab_size;
        let golden = Golden::load(fixture(name).join("golden.safetensors"));
        let margins = golden.floats("greedy_margins");
        for (row, case) in greedy_cases(name).iter().enumerate() {
            let (prompt, continuation) = case;
            let mut tokens = prompt.clone();
            tokens.extend(&continuation[..continuation.len() - 1]);
            let ours = logits(&decoder, &tokens, None);
            let size = root_mean_square(ours.iter().map(|x| f64::from(*x)));
            for (step, expected) in continuation.iter().enumerate() {
                let at = (prompt.len() - 1 + step) * vocabulary;
                let line = &ours[at..at + vocabulary];
                let best = (0..vocabulary).max_by(|a, b| line[*a].total_cmp(&line[*b]));
                all += 1;
                // each of two logits may be off by five deviations
                let margin = f64::from(margins[row * 32 + step]);
                if margin > 10.0 * RELATIVE_ERROR * size {
                    decided += 1;
                    assert_eq!(
                        best,
                        Some(*expected as usize),
                        "{name}, case {row}, step {step}"
                    );
                }
            }
        }
    }
    assert!(
        2 * decided > all,
        "only {decided} of {all} steps have such a margin"
    );
}

#[test]
fn a_sequence_in_fewer_bits_alone_equals_itself_in_a_batch() {
    for name in DECODERS {
        for (dtype, ..) in ERRORS {
            check_alone_equals_batch(name, &load(name, dtype));
        }
    }
}

#[test]
fn small_checkpoints_are_served_in_f32_though_they_are_stored_in_bf16() {
    let stored = Decoder::load_with(&fixture("qwen2"), Dtype::Auto).unwrap();
    assert_eq!(stored.packing().name(), "f32");
    assert_eq!(load("qwen2", Dtype::Bf16).packing().name(), "bf16");
}
