//! Arithmetic over one row of logits, for drawing from it.
//!
//! No product is fused with a sum, so every processor gives the same bits.

/// Sums that run side by side: one vector.
const LANES: usize = 16;

/// The largest value and its lowest index. `None` if a value is NaN, or there is none.
#[must_use]
pub fn largest(row: &[f32]) -> Option<(usize, f32)> {
    let (mut value, mut numbers) = (f32::NEG_INFINITY, true);
    scan(row, &mut value, &mut numbers);
    let index = row.iter().position(|&it| it == value)?;
    numbers.then_some((index, value))
}

simd_dispatch! {
    fn scan(row: &[f32], value: &mut f32, numbers: &mut bool) = scan_body;
}

#[inline(always)]
fn scan_body<const FMA: bool>(row: &[f32], value: &mut f32, numbers: &mut bool) {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut strays = [false; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let value = chunk[lane];
            lanes[lane] = if value > lanes[lane] {
                value
            } else {
                lanes[lane]
            };
            strays[lane] |= value.is_nan();
        }
    }
    for (lane, &value) in rest.iter().enumerate() {
        lanes[lane] = lanes[lane].max(value);
        strays[lane] |= value.is_nan();
    }
    *value = lanes.into_iter().fold(f32::NEG_INFINITY, f32::max);
    *numbers = strays == [false; LANES];
}

/// `Σ exp((x - peak) * factor)` over a part of a row, whose values are at most `peak`.
#[must_use]
pub fn exp_sum(part: &[f32], peak: f32, factor: f32) -> f64 {
    let mut sum = 0.0;
    add_exps(part, (peak, factor), &mut sum);
    sum
}

simd_dispatch! {
    fn add_exps(part: &[f32], scale: (f32, f32), sum: &mut f64) = add_exps_body;
}

#[inline(always)]
fn add_exps_body<const FMA: bool>(part: &[f32], (peak, factor): (f32, f32), sum: &mut f64) {
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = part.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += exp((chunk[lane] - peak) * factor);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += exp((value - peak) * factor);
    }
    *sum = lanes.iter().map(|&lane| f64::from(lane)).sum();
}

/// e^x for x <= 0, without a branch, so that loops over it become vector code. The relative error
/// is below 3e-7; below -87, where the result would leave the normal range, it is 0.
#[inline(always)]
#[must_use]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x > -87.0 { x } else { -87.0 };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN2_HIGH - n * LN2_LOW;
    // Taylor's series to the sixth power; |r| is at most ln(2) / 2.
    let mut sum = 1.0 / 720.0;
    for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = sum * r + coefficient;
    }
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()));
    if x > -87.0 { sum * scale } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_exponential_is_close(x in -87.0f32..=0.0) {
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            prop_assert!(error < 3e-7, "{x}: {error}");
        }

        #[test]
        fn sums_are_those_of_the_values_one_by_one(
            values in prop::collection::vec(-30.0f32..0.0, 0..100),
        ) {
            let expected: f64 = values.iter().map(|x| f64::from(x * 0.5).exp()).sum();
            let got = exp_sum(&values, 0.0, 0.5);
            prop_assert!((got - expected).abs() <= 1e-5 * expected, "{got} {expected}");
        }
    }

    #[test]
    fn the_exponential_is_exact_at_its_ends() {
        for (x, expected) in [
            (0.0, 1.0),
            (-1e9, 0.0),
            (f32::NEG_INFINITY, 0.0),
            (-88.0, 0.0),
        ] {
            assert_eq!(exp(x), expected, "{x}");
        }
    }

    #[test]
    fn the_first_of_the_largest_is_found_and_a_nan_noticed() {
        for length in 1..50 {
            let mut row: Vec<f32> = (0..length).map(|i| ((i * 7) % 5) as f32).collect();
            let top = row.iter().copied().fold(f32::MIN, f32::max);
            let first = row.iter().position(|it| *it == top).unwrap();
            assert_eq!(largest(&row), Some((first, top)));
            for place in 0..length {
                let value = std::mem::replace(&mut row[place], f32::NAN);
                assert_eq!(largest(&row), None, "NaN at {place} of {length}");
                row[place] = value;
            }
        }
        assert_eq!(largest(&[]), None);
    }
}
