//! Random tensors of any size, made as fast as they are uploaded.

use std::ops::Range;

use candle_core::{Device, Tensor};
use rayon::prelude::*;
use steersman::model::{ModelError, TensorSource};

/// Tensors that are functions of their names. Products of random weights take as long as others.
pub(super) struct RandomTensors;

/// A number in -1..1 for each place.
fn number(seed: u64, place: u64) -> f32 {
    // splitmix64's finaliser
    let mut bits = seed ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

fn seed(name: &str) -> u64 {
    name.bytes().fold(1, |seed, byte| {
        (seed * 131 + u64::from(byte)) & 0xffff_ffff_ffff
    })
}

impl TensorSource for RandomTensors {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let (seed, count) = (seed(name), shape.iter().product::<usize>());
        let numbers: Vec<f32> = match shape {
            // norms and biases
            [_] => (0..count as u64)
                .map(|at| 0.5 + 0.1 * number(seed, at))
                .collect(),
            _ => {
                let mut numbers = Vec::new();
                self.rows((name, [shape[0], shape[1]]), 0..shape[0], &mut numbers)?;
                numbers
            }
        };
        Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
    }

    fn has(&self, _name: &str) -> bool {
        true
    }

    fn rows(
        &mut self,
        (name, [_, inputs]): (&str, [usize; 2]),
        rows: Range<usize>,
        to: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        let (seed, scale) = (seed(name), 1.7 / (inputs as f32).sqrt());
        let first = (rows.start * inputs) as u64;
        to.resize(rows.len() * inputs, 0.0);
        to.par_iter_mut()
            .enumerate()
            .for_each(|(place, to)| *to = scale * number(seed, first + place as u64));
        Ok(())
    }
}
