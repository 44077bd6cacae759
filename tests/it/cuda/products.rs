//! Products by themselves: whichever kernel makes them, the same bits, and the right ones.

use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use steersman::kernel::cuda::{Gpu, Matrix, Products, padded};

use super::device::device;

/// Random numbers with 8 significant bits, in rows that are padded with zeros.
fn random(rng: &mut ChaCha8Rng, rows: usize, width: usize) -> Vec<u16> {
    let mut numbers = vec![0; rows * padded(width)];
    for row in numbers.chunks_exact_mut(padded(width)) {
        row[..width].fill_with(|| bf16::from_f32(rng.random_range(-1.0..1.0)).to_bits());
    }
    numbers
}

fn exact(x: &[u16], w: &[u16], bias: &[f32], stride: usize) -> Vec<f64> {
    let wide = |number: &u16| f64::from(bf16::from_bits(*number).to_f32());
    let mut out = Vec::new();
    for x in x.chunks_exact(stride) {
        for (w, bias) in w.chunks_exact(stride).zip(bias) {
            let products = x.iter().zip(w).map(|(x, w)| wide(x) * wide(w));
            out.push(products.sum::<f64>() + f64::from(*bias));
        }
    }
    out
}

#[test]
fn rows_have_the_same_bits_in_any_number_and_every_kernel_multiplies_right() {
    let device = device();
    let gpu = Gpu::open(0).unwrap();
    let products = Products::new(&gpu).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    // One slice, all slices, an empty last one; few outputs, so that a wide product is cut, and many.
    for (outs, inputs) in [(5, 31), (16, 256), (130, 1056), (700, 96), (131, 300)] {
        let stride = padded(inputs);
        let most = 200;
        let (x, w) = (
            random(&mut rng, most, inputs),
            random(&mut rng, outs, inputs),
        );
        let bias: Vec<f32> = (0..outs).map(|_| rng.random_range(-1.0..1.0)).collect();
        let matrix = Matrix {
            numbers: gpu.upload("w", &w).unwrap(),
            bias: Some(gpu.upload("bias", &bias).unwrap()),
            outs,
            inputs,
        };
        let mut whole: Option<Vec<f32>> = None;
        for (order, rows) in [
            (0, most),
            (2, 65),
            (1, 33),
            (3, 32),
            (0, 17),
            (2, 16),
            (1, 8),
            (0, 1),
        ] {
            device.set_order(order);
            let input = gpu.upload("x", &x[..rows * stride]).unwrap();
            let out = gpu.zeros::<f32>("out", rows * outs).unwrap();
            products
                .product(&gpu, &matrix, (&input, rows), &out)
                .unwrap();
            let found = gpu.read(&out, 0..rows * outs).unwrap();
            if whole.is_none() {
                let exact = exact(&x, &w, &bias, stride);
                for (found, exact) in found.iter().zip(&exact) {
                    let bound = 1e-5 * (inputs as f64).sqrt();
                    assert!(
                        (f64::from(*found) - exact).abs() < bound,
                        "{found}, not {exact}"
                    );
                }
            }
            let whole = whole.get_or_insert_with(|| found.clone());
            assert!(
                found == whole[..rows * outs],
                "{outs} outputs of {inputs}: {rows} rows have other bits"
            );
        }
        device.set_order(0);
    }
}
