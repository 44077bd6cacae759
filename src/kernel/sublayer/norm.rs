//! A frozen root-mean-square norm over many rows, both ways.

use std::sync::Arc;

use rayon::prelude::*;

use super::super::norm::{RmsNorm, norm_back_onto, norm_in_place, norm_rows};

/// `x / rms(x) * (weight + offset)` over rows of `weight.len()` numbers; the weight has no gradient.
#[derive(Clone)]
pub struct FrozenNorm {
    /// (width,)
    pub weight: Arc<[f32]>,
    /// Added to the mean square.
    pub eps: f32,
    /// Added to the weight.
    pub offset: f32,
}

/// Rows of one task.
const ROWS: usize = 16;

impl FrozenNorm {
    const fn constants(&self) -> RmsNorm {
        RmsNorm {
            eps: self.eps,
            offset: self.offset,
        }
    }

    /// Norms all rows of `x`.
    pub(super) fn forward(&self, x: &[f32], out: &mut [f32]) {
        let task = self.weight.len() * ROWS;
        out.par_chunks_mut(task)
            .zip(x.par_chunks(task))
            .for_each(|(out, x)| norm_rows(x, &self.weight, &self.constants(), out));
    }

    /// Adds to `sum` the gradient of the input `x`, given that of the output.
    pub(super) fn back_onto(&self, x: &[f32], grad: &[f32], sum: &mut [f32]) {
        let task = self.weight.len() * ROWS;
        sum.par_chunks_mut(task)
            .zip(x.par_chunks(task).zip(grad.par_chunks(task)))
            .for_each(|(sum, (x, grad))| self.back_onto_rows(x, grad, sum));
    }

    /// As `forward`, in place and on this thread.
    pub(super) fn in_place(&self, x: &mut [f32]) {
        norm_in_place(x, &self.weight, self.eps, self.offset);
    }

    /// As `back_onto`, on this thread.
    pub(super) fn back_onto_rows(&self, x: &[f32], grad: &[f32], sum: &mut [f32]) {
        norm_back_onto(x, grad, &self.weight, &self.constants(), sum);
    }
}
