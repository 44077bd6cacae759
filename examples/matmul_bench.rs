//! Speed of the matrix multiply at the shapes that training and serving meet, beside candle's own.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::time::Instant;

use candle_core::{Device, Result, Tensor};
use steersman::kernel::matmul::{Dims, Operand, PackedMatrix, Precision, gemm};

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

fn main() -> Result<()> {
    println!(
        "{:28} {:>9} {:>9} {:>9}   GFLOP/s",
        "product", "candle", "f32", "bf16"
    );
    for (m, n, k) in [
        (4096, 256, 256),
        (2048, 768, 256),
        (4096, 1024, 256),
        (4096, 256, 1024),
        (2048, 1024, 1024),
        (2048, 8192, 512),
    ] {
        measure("forward x·wᵀ", Dims { m, n, k }, (false, true))?;
    }
    for (m, n, k) in [
        (4096, 256, 256),
        (4096, 256, 1024),
        (4096, 1024, 256),
        (2048, 512, 8192),
    ] {
        measure("input gradient g·w", Dims { m, n, k }, (false, false))?;
    }
    for (m, n, k) in [
        (256, 256, 4096),
        (1024, 256, 4096),
        (256, 1024, 8192),
        (1024, 1024, 4096),
        (16, 256, 4096),
    ] {
        measure("weight gradient gᵀ·x", Dims { m, n, k }, (true, false))?;
    }
    if !asked("packed") {
        return Ok(());
    }
    for (n, k) in [(1024, 1024), (4096, 1024), (8192, 512)] {
        for rows in [1, 2, 4, 8, 16, 64] {
            measure_packed(rows, n, k);
        }
    }
    Ok(())
}

fn measure(name: &str, dims: Dims, (a_transposed, b_transposed): (bool, bool)) -> Result<()> {
    if !asked(name) {
        return Ok(());
    }
    let Dims { m, n, k } = dims;
    let (a, b) = (numbers(m * k), numbers(k * n));
    let mut out = vec![0.0; m * n];
    let left = if a_transposed {
        Operand::row_major(&a, m).transposed()
    } else {
        Operand::row_major(&a, k)
    };
    let right = if b_transposed {
        Operand::row_major(&b, k).transposed()
    } else {
        Operand::row_major(&b, n)
    };
    let operations = 2.0 * m as f64 * n as f64 * k as f64;
    let shape = |t: bool, r: usize, c: usize| if t { (c, r) } else { (r, c) };
    let mut x = Tensor::from_slice(&a, shape(a_transposed, m, k), &Device::Cpu)?;
    let mut y = Tensor::from_slice(&b, shape(b_transposed, k, n), &Device::Cpu)?;
    if a_transposed {
        x = x.t()?;
    }
    if b_transposed {
        y = y.t()?;
    }
    let candle = best(operations, || drop(x.matmul(&y)));
    let own = PRECISIONS.map(|precision| {
        best(operations, || {
            gemm(dims, left, right, &mut out, precision.into())
        })
    });
    println!(
        "{name:22} {m:5}x{n:5}x{k:5} {candle:9.1} {:9.1} {:9.1}",
        own[0], own[1]
    );
    Ok(())
}

fn measure_packed(rows: usize, n: usize, k: usize) {
    let (x, w) = (numbers(rows * k), numbers(n * k));
    let mut out = vec![0.0; rows * n];
    let operations = 2.0 * rows as f64 * n as f64 * k as f64;
    let speeds = PRECISIONS.map(|precision| {
        let packed = PackedMatrix::pack(&w, n, k, precision);
        best(operations, || packed.matmul_into(&x, rows, &mut out))
    });
    let bytes = [2.0, 1.0].map(|per| per / rows as f64);
    println!(
        "packed {rows:3} rows, {n:5}x{k:5} {:9.1} {:9.1}   {:.1} {:.1} GB/s",
        speeds[0],
        speeds[1],
        speeds[0] * bytes[0],
        speeds[1] * bytes[1]
    );
}

/// Whether the command line names this product, or none.
fn asked(name: &str) -> bool {
    std::env::args()
        .nth(1)
        .is_none_or(|wanted| name.contains(&wanted))
}

/// The best speed of several runs, in units of 10^9 per second.
fn best(operations: f64, mut work: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    let begin = Instant::now();
    let mut runs = 0;
    while runs < 5 || (begin.elapsed().as_secs_f64() < 0.3 && runs < 200) {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed().as_secs_f64());
        runs += 1;
    }
    operations / best / 1e9
}

fn numbers(count: usize) -> Vec<f32> {
    let mut state = 0x2545_f491_u32;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 - 0.5
        })
        .collect()
}
