//! What both sublayers do around their branch: norms, the residual, and the share of each end in the
//! updates.

use std::sync::Arc;

use rayon::prelude::*;

use super::{Buffer, BufferPool, FrozenNorm, LowRank, Projections, Updates};

/// The matrices at the two ends of a branch, and their updates.
#[derive(Clone, Copy)]
pub(super) struct Ends<'a> {
    pub(super) inputs: &'a Projections,
    pub(super) output: &'a Projections,
    pub(super) each: &'a [Option<LowRank>],
}

impl<'a> Ends<'a> {
    fn each(&self) -> [&'a [Option<LowRank>]; 2] {
        let (first, second) = self.each.split_at(self.inputs.len().min(self.each.len()));
        [first, second]
    }

    /// Numbers of all updates.
    pub(super) fn update_len(&self) -> usize {
        let [first, second] = self.each();
        self.inputs.update_len(first) + self.output.update_len(second)
    }

    /// The updates over the input, and of the output.
    pub(super) fn updates(&self, numbers: &'a [f32]) -> [Updates<'a>; 2] {
        let each = self.each();
        let (a, b) = numbers.split_at(self.inputs.update_len(each[0]));
        [(each[0], a), (each[1], b)].map(|(each, numbers)| Updates { each, numbers })
    }
}

/// The branch's input.
pub(super) fn normed(norm: &FrozenNorm, x: &[f32], home: &Arc<BufferPool>) -> Buffer {
    let mut normed = home.lend(x.len());
    norm.forward(x, &mut normed);
    normed
}

/// Makes `out`, which holds a branch's result, `x` plus that; normed before, where the sublayer does
/// so, and then what it was is kept.
pub(super) fn end(
    norm: Option<&FrozenNorm>,
    x: &[f32],
    out: &mut [f32],
    home: &Arc<BufferPool>,
) -> Option<Buffer> {
    const TASK: usize = 1 << 14;
    let before = norm.map(|norm| {
        let mut before = home.lend(out.len());
        before.copy_from_slice(out);
        norm.forward(&before, out);
        before
    });
    out.par_chunks_mut(TASK)
        .zip(x.par_chunks(TASK))
        .for_each(|(out, x)| out.iter_mut().zip(x).for_each(|(out, x)| *out += x));
    before
}

/// The gradient of a branch's result before its norm; nothing where there is no norm.
pub(super) fn end_back(
    norm: Option<&FrozenNorm>,
    before: Option<&Buffer>,
    grad: &[f32],
    home: &Arc<BufferPool>,
) -> Option<Buffer> {
    let (norm, before) = (norm?, before?);
    let mut dy = home.lend(grad.len());
    dy.fill(0.0);
    norm.back_onto(before, grad, &mut dy);
    Some(dy)
}
