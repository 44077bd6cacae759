//! Products against the plain triple loop, bit for bit where that is promised.

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use proptest::prelude::*;

use super::*;

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 - 0.5
        })
        .collect()
}

fn rounded(value: f32, precision: Precision) -> f64 {
    match precision {
        Precision::F32 => f64::from(value),
        Precision::Bf16 => f64::from(half::bf16::from_f32(value).to_f32()),
    }
}

fn plain(dims: Dims, a: Operand<'_>, b: Operand<'_>, precision: Precision) -> Vec<f64> {
    let mut out = vec![0.0; dims.m * dims.n];
    for row in 0..dims.m {
        for column in 0..dims.n {
            for step in 0..dims.k {
                let left = a.data[row * a.row_stride + step * a.col_stride];
                let right = b.data[step * b.row_stride + column * b.col_stride];
                out[row * dims.n + column] += rounded(left, precision) * rounded(right, precision);
            }
        }
    }
    out
}

fn dense_on(
    tier: Tier,
    (dims, mode): (Dims, Mode),
    operands: (Operand<'_>, Operand<'_>),
    data: &mut [f32],
) {
    let stride = dims.n;
    gemm_on(tier, (dims, mode), operands, Target { data, stride });
}

fn close(got: &[f32], want: &[f64], k: usize) -> bool {
    let tolerance = 1e-7 * (k as f64 + 16.0);
    got.iter()
        .zip(want)
        .all(|(got, want)| (f64::from(*got) - want).abs() <= tolerance)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn equals_the_triple_loop(
        (m, n, k) in (1usize..70, 1usize..70, 1usize..70),
        (ways, gap, seed) in (0u8..9, 0usize..3, any::<u32>()),
        accumulate: bool,
    ) {
        let dims = Dims { m, n, k };
        let (a, b) = (numbers(3 * (m + 3) * (k + 3), seed), numbers(3 * (k + 3) * (n + 3), !seed));
        let left = strided(&a, (m, k), ways % 3, gap);
        let right = strided(&b, (k, n), ways / 3, gap);
        for tier in Tier::all() {
            for precision in PRECISIONS {
                let mut out = if accumulate { numbers(m * n, 7) } else { vec![f32::NAN; m * n] };
                let mut want = plain(dims, left, right, precision);
                if accumulate {
                    want.iter_mut().zip(&out).for_each(|(want, old)| *want += f64::from(*old));
                }
                dense_on(tier, (dims, Mode { precision, accumulate }), (left, right), &mut out);
                prop_assert!(close(&out, &want, k), "{tier:?} {precision:?} {dims:?} ways {ways}");
            }
        }
    }

    #[test]
    fn rows_do_not_depend_on_their_batch(
        (rows, n, k) in (1usize..70, 1usize..200, 1usize..70),
        seed in any::<u32>(),
    ) {
        let (x, w) = (numbers(rows * k, seed), numbers(n * k, !seed));
        for tier in Tier::all() {
            for precision in PRECISIONS {
                let packed = PackedMatrix::pack_on(tier, &w, (n, k), precision.into());
                let mut all = vec![0.0; rows * n];
                packed.matmul_into(&x, rows, &mut all);
                for row in 0..rows {
                    let mut alone = vec![0.0; n];
                    packed.matmul_into(&x[row * k..(row + 1) * k], 1, &mut alone);
                    prop_assert!(alone == all[row * n..(row + 1) * n], "{tier:?} {precision:?} row {row}");
                }
            }
        }
    }
}

/// A `rows` by `columns` view: row-major, column-major, or with gaps both ways.
fn strided(data: &[f32], (rows, columns): (usize, usize), way: u8, gap: usize) -> Operand<'_> {
    let (row_stride, col_stride) = match way {
        0 => (columns + gap, 1),
        1 => (1, rows + gap),
        _ => (2 * columns + gap, 2),
    };
    Operand {
        data,
        row_stride,
        col_stride,
    }
}

#[test]
fn deep_and_wide_products_agree_with_the_triple_loop() {
    for (m, n, k) in [
        (5, 40, 2500),
        (2, 330, 1501),
        (1, 129, 3),
        (4, 64, 900),
        (200, 70, 33),
        (3, 3000, 17),
        (130, 2100, 5),
    ] {
        let dims = Dims { m, n, k };
        let (a, b) = (numbers(m * k, 3), numbers(k * n, 4));
        let (left, right) = (
            Operand::row_major(&a, k),
            Operand::row_major(&b, k).transposed(),
        );
        for tier in Tier::all() {
            for precision in PRECISIONS {
                let mut out = vec![f32::NAN; m * n];
                dense_on(tier, (dims, precision.into()), (left, right), &mut out);
                let want = plain(dims, left, right, precision);
                assert!(close(&out, &want, k), "{tier:?} {precision:?} {dims:?}");
            }
        }
    }
}

#[test]
fn a_deep_row_alone_equals_the_row_in_a_large_batch() {
    let (rows, n, k) = (301, 200, 2300);
    let (x, w) = (numbers(rows * k, 5), numbers(n * k, 6));
    for tier in Tier::all() {
        for precision in PRECISIONS {
            let packed = PackedMatrix::pack_on(tier, &w, (n, k), precision.into());
            let mut all = vec![0.0; rows * n];
            packed.matmul_into(&x, rows, &mut all);
            for row in [0, 1, 150, 300] {
                let mut alone = vec![0.0; n];
                packed.matmul_into(&x[row * k..(row + 1) * k], 1, &mut alone);
                assert!(
                    alone == all[row * n..(row + 1) * n],
                    "{tier:?} {precision:?} row {row}"
                );
            }
        }
    }
}

/// The tiers that multiply with FMA agree on bf16, so a result does not depend on which of them a processor gets.
#[cfg(target_arch = "x86_64")]
#[test]
fn tiers_with_fused_multiply_add_agree_on_bf16_bit_for_bit() {
    for (m, n, k) in [(1, 200, 1001), (2, 130, 64), (4, 97, 700), (40, 70, 1500)] {
        let (a, b) = (numbers(m * k, 3), numbers(k * n, 4));
        let (left, right) = (
            Operand::row_major(&a, k),
            Operand::row_major(&b, k).transposed(),
        );
        let results: Vec<_> = Tier::all()
            .into_iter()
            .filter(|tier| *tier != Tier::Portable)
            .map(|tier| {
                let mut out = vec![0.0; m * n];
                let mode = Precision::Bf16.into();
                dense_on(tier, (Dims { m, n, k }, mode), (left, right), &mut out);
                out
            })
            .collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
#[should_panic(expected = "reaches element")]
fn an_operand_too_short_for_its_strides_is_refused() {
    let short = Operand::row_major(&[0.0; 11], 4);
    let dims = Dims { m: 3, n: 3, k: 4 };
    gemm(
        dims,
        short,
        Operand::row_major(&[0.0; 12], 3),
        &mut [0.0; 9],
        Precision::F32.into(),
    );
}

#[test]
fn infinities_and_nans_reach_only_their_own_rows_and_columns() {
    let (m, n, k) = (14, 37, 9);
    for tier in Tier::all() {
        for precision in PRECISIONS {
            let (mut a, mut b) = (vec![1.0; m * k], vec![1.0; k * n]);
            a[3 * k + 8] = f32::INFINITY;
            b[8 * n + 36] = f32::NAN;
            let mut out = vec![0.0; m * n];
            let (left, right) = (Operand::row_major(&a, k), Operand::row_major(&b, n));
            let dims = Dims { m, n, k };
            dense_on(tier, (dims, precision.into()), (left, right), &mut out);
            for (place, value) in out.iter().enumerate() {
                let (row, column) = (place / n, place % n);
                match (row, column) {
                    (_, 36) => assert!(
                        value.is_nan(),
                        "{tier:?} {precision:?} at {row},{column}: {value}"
                    ),
                    (3, _) => assert!(
                        *value == f32::INFINITY,
                        "{tier:?} {precision:?} at {row},{column}: {value}"
                    ),
                    _ => assert!(
                        *value == 9.0,
                        "{tier:?} {precision:?} at {row},{column}: {value}"
                    ),
                }
            }
        }
    }
}

#[test]
fn subnormals_and_empty_sizes_do_no_harm() {
    let tiny = vec![1e-40f32; 64 * 64];
    for precision in PRECISIONS {
        let mut out = vec![f32::NAN; 64 * 64];
        let view = Operand::row_major(&tiny, 64);
        gemm(
            Dims {
                m: 64,
                n: 64,
                k: 64,
            },
            view,
            view,
            &mut out,
            precision.into(),
        );
        assert!(out.iter().all(|value| value.abs() < 1e-30));
        let nothing = Operand::row_major(&[], 0);
        gemm(
            Dims { m: 2, n: 2, k: 0 },
            nothing,
            nothing,
            &mut out[..4],
            precision.into(),
        );
        assert_eq!(out[..4], [0.0; 4]);
        gemm(
            Dims { m: 0, n: 2, k: 3 },
            nothing,
            view,
            &mut [],
            precision.into(),
        );
    }
}

#[test]
fn gradients_equal_candles_own() -> candle_core::Result<()> {
    let device = Device::Cpu;
    let (rows, inputs, outputs) = (23, 18, 35);
    let x = Var::from_vec(numbers(rows * inputs, 1), (rows, inputs), &device)?;
    let w = Var::from_vec(numbers(outputs * inputs, 2), (outputs, inputs), &device)?;
    let g = Tensor::from_vec(numbers(rows * outputs, 3), (rows, outputs), &device)?;
    let want = (x.matmul(&w.t()?)? * &g)?.sum_all()?.backward()?;
    for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 3e-2)] {
        let got = (linear(&x, &w, precision)? * &g)?.sum_all()?.backward()?;
        for var in [&x, &w] {
            assert!(distance(got.get(var), want.get(var))? < tolerance);
        }
        let numbers = w.flatten_all()?.to_vec1()?;
        let packed = Arc::new(PackedMatrix::pack(&numbers, outputs, inputs, precision));
        let back = PackedMatrix::pack_transposed(&numbers, (outputs, inputs), precision);
        let frozen = (frozen_linear(&x, &packed, Some(&Arc::new(back)))? * &g)?
            .sum_all()?
            .backward()?;
        assert!(distance(frozen.get(&x), want.get(&x))? < tolerance);
        assert!(frozen.get(&w).is_none(), "a frozen weight got a gradient");
    }
    Ok(())
}

#[test]
fn a_product_on_top_of_a_matrix_has_all_three_gradients() -> candle_core::Result<()> {
    let device = Device::Cpu;
    let (rows, inputs, outputs) = (13, 5, 40);
    let y = Var::from_vec(numbers(rows * outputs, 1), (rows, outputs), &device)?;
    let x = Var::from_vec(numbers(rows * inputs, 2), (rows, inputs), &device)?;
    let w = Var::from_vec(numbers(outputs * inputs, 3), (outputs, inputs), &device)?;
    let got = linear_onto(&y, &x, &w)?;
    let want = (y.as_tensor() + x.matmul(&w.t()?)?)?;
    assert!(distance(Some(&got), Some(&want))? < 1e-5);
    let (got, want) = (
        got.sqr()?.sum_all()?.backward()?,
        want.sqr()?.sum_all()?.backward()?,
    );
    for var in [&y, &x, &w] {
        assert!(distance(got.get(var), want.get(var))? < 1e-4);
    }
    assert!(linear_onto(&x, &y, &w).is_err());
    Ok(())
}

#[test]
fn views_and_batches_go_through_the_linear_layer() -> candle_core::Result<()> {
    let device = Device::Cpu;
    let x = Var::from_vec(numbers(4 * 6 * 10, 1), (4, 10, 6), &device)?;
    let w = Var::from_vec(numbers(7 * 12, 2), (7, 12), &device)?;
    let (view, part) = (x.transpose(1, 2)?, w.narrow(1, 1, 10)?);
    let got = linear(&view, &part, Precision::F32)?;
    let want = view.contiguous()?.broadcast_matmul(&part.t()?)?;
    assert_eq!(got.dims(), [4, 6, 7]);
    assert!(distance(Some(&got), Some(&want))? < 1e-5);
    let (got, want) = (
        got.sqr()?.sum_all()?.backward()?,
        want.sqr()?.sum_all()?.backward()?,
    );
    for var in [&x, &w] {
        assert!(distance(got.get(var), want.get(var))? < 1e-5);
    }
    assert!(linear(&x, &w, Precision::F32).is_err());
    Ok(())
}

fn distance(got: Option<&Tensor>, want: Option<&Tensor>) -> candle_core::Result<f32> {
    let (Some(got), Some(want)) = (got, want) else {
        candle_core::bail!("a gradient is missing");
    };
    (got - want)?.abs()?.max_all()?.to_scalar()
}
