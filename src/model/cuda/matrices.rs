//! Reads matrices and vectors from a checkpoint onto a device, some rows at a time.

use half::bf16;
use rayon::prelude::*;

use crate::kernel::cuda::{Buffer, DeviceNorm, Gpu, Matrix, padded};
use crate::kernel::with_elements;

use super::super::ModelError;
use super::super::config::DecoderConfig;
use super::super::tensors::TensorSource;

/// Numbers that are read at a time.
const CHUNK: usize = 8 << 20;

/// Where tensors come from, and where they go.
pub(super) struct Reader<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) config: &'a DecoderConfig,
    pub(super) source: &'a mut dyn TensorSource,
}

/// Linear layers of the same inputs: names of modules, and the outputs of each.
pub(super) type Modules<'a> = &'a [(String, usize)];

impl Reader<'_> {
    /// Linear layers side by side, as one; with their biases where they have some.
    pub(super) fn linear(
        &mut self,
        modules: Modules<'_>,
        inputs: usize,
        has_bias: bool,
    ) -> Result<Matrix, ModelError> {
        let outs = modules.iter().map(|(_, outs)| outs).sum();
        let mut numbers = self.gpu.zeros("weights", outs * padded(inputs))?;
        let (mut first, mut biases) = (0, Vec::new());
        for (name, outs) in modules {
            let shape = [*outs, inputs];
            self.rows((&format!("{name}.weight"), shape), &mut numbers, first)?;
            if has_bias {
                biases.extend(self.numbers(&format!("{name}.bias"), *outs)?);
            }
            first += outs;
        }
        let bias = has_bias
            .then(|| self.gpu.upload("biases", &biases))
            .transpose()?;
        Ok(Matrix {
            numbers,
            bias,
            outs,
            inputs,
        })
    }

    /// Copies a matrix to the rows from `first` on.
    fn rows(
        &mut self,
        (name, shape): (&str, [usize; 2]),
        to: &mut Buffer<u16>,
        first: usize,
    ) -> Result<(), ModelError> {
        let ([outs, inputs], stride) = (shape, padded(shape[1]));
        let (mut read, mut rounded) = (Vec::new(), Vec::new());
        let step = (CHUNK / stride).max(1);
        for start in (0..outs).step_by(step) {
            let rows = start..outs.min(start + step);
            let count = rows.len();
            self.source.rows((name, shape), rows, &mut read)?;
            rounded.clear();
            rounded.resize(count * stride, 0u16);
            rounded
                .par_chunks_exact_mut(stride)
                .zip(read.par_chunks_exact(inputs))
                .for_each(|(to, from)| {
                    for (to, from) in to.iter_mut().zip(from) {
                        *to = bf16::from_f32(*from).to_bits();
                    }
                });
            self.gpu.write(to, (first + start) * stride, &rounded)?;
        }
        Ok(())
    }

    /// A vector.
    fn numbers(&mut self, name: &str, width: usize) -> Result<Vec<f32>, ModelError> {
        let tensor = self.source.tensor(name, &[width])?;
        Ok(with_elements(&tensor, <[f32]>::to_vec)?)
    }

    /// A norm by its module's name.
    pub(super) fn norm(&mut self, name: &str, width: usize) -> Result<DeviceNorm, ModelError> {
        let weight = self.numbers(&format!("{name}.weight"), width)?;
        Ok(DeviceNorm {
            weight: self.gpu.upload("norms", &weight)?,
            eps: self.config.rms_norm_eps,
            offset: self.config.norm_offset,
        })
    }
}
