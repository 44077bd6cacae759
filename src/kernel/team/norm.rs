//! Phases over whole rows: embeddings, the residual stream, its norms, and what is kept of it.

use super::super::norm::{RmsNorm, norm_rows};
use super::{Member, Rows, share};

/// Tasks for each member: rows cost the same, but members are not always there.
const EACH: usize = 4;

/// A root-mean-square norm in plain numbers (arXiv 1910.07467).
#[derive(Clone, Copy)]
pub struct NormTensor<'a> {
    /// (width,)
    pub weight: &'a [f32],
    /// Added to the mean square.
    pub eps: f32,
    /// Added to the weight.
    pub offset: f32,
}

impl NormTensor<'_> {
    fn apply(&self, x: &[f32], out: &mut [f32]) {
        let norm = RmsNorm {
            eps: self.eps,
            offset: self.offset,
        };
        norm_rows(x, self.weight, &norm, out);
    }
}

/// What a branch of a layer adds to the residual stream.
#[derive(Clone, Copy)]
pub struct Branch<'a> {
    /// (rows, width)
    pub out: &'a Rows<'a>,
    /// Taken before it is added.
    pub norm: Option<NormTensor<'a>>,
}

/// `x[row] = lookup(row)` and `normed = norm(x)`. Both (rows, width).
///
/// `lookup` writes the embedding of a row's token.
pub fn embed(
    member: &Member<'_>,
    lookup: &(dyn Fn(usize, &mut [f32]) + Sync),
    x: &Rows<'_>,
    (norm, normed): (NormTensor<'_>, &Rows<'_>),
) {
    let tasks = member.tasks(x.rows(), EACH);
    member.phase(tasks, |task| {
        for row in share(x.rows(), task, tasks) {
            // SAFETY: rows are shared out among the tasks, and each is written by one of them.
            let (x, normed) = unsafe { (x.row_mut(row), normed.row_mut(row)) };
            lookup(row, x);
            norm.apply(x, normed);
        }
    });
}

/// `x += branch` and `normed = norm(x)`. All (rows, width).
pub fn join(
    member: &Member<'_>,
    x: &Rows<'_>,
    branch: Branch<'_>,
    (norm, normed): (NormTensor<'_>, &Rows<'_>),
) {
    let rows = x.rows();
    let tasks = member.tasks(rows, EACH);
    member.phase(tasks, |task| {
        for row in share(rows, task, tasks) {
            // SAFETY: rows are shared out among the tasks, so each row of all three buffers is one
            // task's own.
            let (x, out, normed) =
                unsafe { (x.row_mut(row), branch.out.row_mut(row), normed.row_mut(row)) };
            match branch.norm {
                None => x.iter_mut().zip(&*out).for_each(|(x, out)| *x += out),
                Some(after) => {
                    after.apply(out, normed);
                    x.iter_mut().zip(&*normed).for_each(|(x, out)| *x += out);
                }
            }
            norm.apply(x, normed);
        }
    });
}

/// Moves the picked rows of each buffer to its first rows, in this order, which is ascending.
pub fn keep(member: &Member<'_>, buffers: &[&Rows<'_>], picked: &[u32]) {
    member.phase(buffers.len(), |index| {
        for (to, from) in picked.iter().map(|it| *it as usize).enumerate() {
            if from > to {
                // SAFETY: each buffer is one task's own, and the two rows differ.
                let (from, to) = unsafe {
                    (
                        buffers[index].read(from..from + 1),
                        buffers[index].row_mut(to),
                    )
                };
                to.copy_from_slice(from);
            }
        }
    });
}
