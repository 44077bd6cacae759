//! Scalar arithmetic in a form that compilers turn into vector instructions.

/// `a * b + c`, in one rounding where `FMA` says that the hardware has it.
#[inline(always)]
pub(super) fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// e^x with a relative error below 2e-7; 0 below -87.3, saturating at the top of f32's range.
///
/// Cody-Waite reduction to |r| <= ln(2)/2, then the Taylor polynomial of degree 7.
/// NaN stays NaN.
#[inline(always)]
pub(super) fn exp<const FMA: bool>(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // 1.5 * 2^23: a sum with it is a whole number, whose low bits are those of the number itself.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.336, 88.376);
    let shifted = mul_add::<FMA>(clamped, std::f32::consts::LOG2_E, ROUND);
    let k = shifted - ROUND;
    let r = mul_add::<FMA>(k, -LN2_LOW, mul_add::<FMA>(k, -LN2_HIGH, clamped));
    let mut p = 1.0 / 5040.0;
    p = mul_add::<FMA>(p, r, 1.0 / 720.0);
    p = mul_add::<FMA>(p, r, 1.0 / 120.0);
    p = mul_add::<FMA>(p, r, 1.0 / 24.0);
    p = mul_add::<FMA>(p, r, 1.0 / 6.0);
    p = mul_add::<FMA>(p, r, 0.5);
    p = mul_add::<FMA>(p, r, 1.0);
    p = mul_add::<FMA>(p, r, 1.0);
    // `k` lies in [-126, 128): the exponent field stays within a normal number.
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()));
    let value = p * scale;
    if x < -87.336 { 0.0 } else { value }
}

/// Number of independent partial sums in a reduction; one AVX-512 register of f32.
pub(super) const LANES: usize = 16;

/// Sum of `LANES` partial sums in a fixed order.
#[inline(always)]
pub(super) fn fold(lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    let mut lanes = lanes;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Dot product with `LANES` partial sums: the same order whatever else is computed beside it.
#[inline(always)]
pub(super) fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_full, a_rest) = a.as_chunks::<LANES>();
    let (b_full, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_full.iter().zip(b_full) {
        for i in 0..LANES {
            lanes[i] = mul_add::<FMA>(x[i], y[i], lanes[i]);
        }
    }
    for (i, (x, y)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[i] = mul_add::<FMA>(*x, *y, lanes[i]);
    }
    fold(lanes)
}

/// Largest element; NaN elements are passed over, negative infinity for an empty slice.
#[inline(always)]
pub(super) fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (full, rest) = values.as_chunks::<LANES>();
    for chunk in full {
        for i in 0..LANES {
            lanes[i] = lanes[i].max(chunk[i]);
        }
    }
    for (i, value) in rest.iter().enumerate() {
        lanes[i] = lanes[i].max(*value);
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Replaces each value by `exp(value - shift)` and returns their sum.
#[inline(always)]
pub(super) fn exp_shifted<const FMA: bool>(values: &mut [f32], shift: f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (full, rest) = values.as_chunks_mut::<LANES>();
    for chunk in full {
        for i in 0..LANES {
            chunk[i] = exp::<FMA>(chunk[i] - shift);
            lanes[i] += chunk[i];
        }
    }
    for (i, value) in rest.iter_mut().enumerate() {
        *value = exp::<FMA>(*value - shift);
        lanes[i] += *value;
    }
    fold(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_ulp_of_the_library() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0 + 0.003;
            let (ours, exact) = (exp::<true>(x) as f64, (x as f64).exp());
            assert!(
                ((ours - exact) / exact).abs() < 4e-7,
                "exp({x}) = {ours}, exact {exact}"
            );
        }
        assert_eq!(exp::<true>(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp::<false>(0.0), 1.0);
        assert!(exp::<true>(f32::NAN).is_nan());
    }

    #[test]
    fn a_dot_product_counts_every_element() {
        for n in 0..50 {
            let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let expected: f32 = a.iter().map(|x| x * x).sum();
            assert_eq!(dot::<true>(&a, &a), expected);
        }
    }
}
