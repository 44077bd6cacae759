//! Rounding of 32 numbers to whole ones with a common scale.

use half::f16;

use super::BLOCK;
use crate::kernel::math::max;

/// As ggml's Q8_0: the largest becomes 127.
pub(super) fn eight(weights: &[f32; BLOCK]) -> (f16, [i8; BLOCK]) {
    let largest = weights
        .iter()
        .fold(0.0f32, |largest, x| largest.max(x.abs()));
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    // `as` saturates, and what is not a number becomes 0; its scale says so.
    let numbers = weights.map(|x| (x * inverse).round() as i8);
    (f16::from_f32(known(weights, scale)), numbers)
}

/// As ggml's Q4_0: the one that is largest in size becomes -8.
pub(super) fn four(weights: &[f32; BLOCK]) -> (f16, [i8; BLOCK]) {
    let by_size = |largest: f32, x: &f32| if x.abs() > largest.abs() { *x } else { largest };
    let scale = weights.iter().fold(0.0, by_size) / -8.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let numbers = weights.map(|x| ((x * inverse + 8.5) as i8).clamp(0, 15) - 8);
    (f16::from_f32(known(weights, scale)), numbers)
}

/// The scale, or NaN where a number is not finite: such blocks must not pass for others.
fn known(weights: &[f32; BLOCK], scale: f32) -> f32 {
    if weights.iter().all(|x| x.is_finite()) {
        scale
    } else {
        f32::NAN
    }
}

simd_dispatch! {
    /// Rounds activations to -127..=127, ties to even. The scale is NaN where one is not finite.
    pub(super) fn activations(x: &[f32; BLOCK], numbers: &mut [i16; BLOCK], scale: &mut f32) = activations_body;
}

#[inline(always)]
fn activations_body<const FMA: bool>(
    x: &[f32; BLOCK],
    numbers: &mut [i16; BLOCK],
    scale: &mut f32,
) {
    let mut sizes = [0.0f32; BLOCK];
    // 0 for a finite number, else NaN.
    let mut doubt = [0.0f32; BLOCK];
    for i in 0..BLOCK {
        sizes[i] = x[i].abs();
        doubt[i] = x[i] * 0.0;
    }
    let largest = max(&sizes);
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    for i in 0..BLOCK {
        numbers[i] = (x[i] * inverse).round_ties_even() as i32 as i16;
    }
    *scale = largest / 127.0 + doubt.iter().sum::<f32>();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_quantized_once_is_quantized_to_the_same_again() {
        let mut state = 1u32;
        let mut number = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        for round in 0..200 {
            let size = 10f32.powi(round % 7 - 4);
            let weights: [f32; BLOCK] = std::array::from_fn(|_| number() * size);
            for quantize in [eight, four] {
                let (scale, numbers) = quantize(&weights);
                let again = numbers.map(|it| f32::from(it) * scale.to_f32());
                assert_eq!(quantize(&again), (scale, numbers));
            }
        }
    }

    #[test]
    fn zeros_stay_zeros_and_what_is_no_number_is_told() {
        assert_eq!(eight(&[0.0; BLOCK]), (f16::ZERO, [0; BLOCK]));
        assert_eq!(four(&[0.0; BLOCK]).0.to_f32().abs(), 0.0);
        for stray in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut block = [0.5; BLOCK];
            block[7] = stray;
            assert!(eight(&block).0.is_nan() && four(&block).0.is_nan());
            let (mut numbers, mut scale) = ([0; BLOCK], 0.0);
            activations(&block, &mut numbers, &mut scale);
            assert!(scale.is_nan(), "{stray}");
        }
    }
}
