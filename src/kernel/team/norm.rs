//! Phases over whole rows: embeddings, the residual stream, and its norms.

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

/// Which rows of the residual stream a norm is taken of.
#[derive(Clone, Copy)]
pub enum Picked<'a> {
    /// All of them.
    All,
    /// These, in this order.
    These(&'a [u32]),
}

impl Picked<'_> {
    fn len(self, rows: usize) -> usize {
        match self {
            Self::All => rows,
            Self::These(picked) => picked.len(),
        }
    }

    fn at(self, index: usize) -> usize {
        match self {
            Self::All => index,
            Self::These(picked) => picked[index] as usize,
        }
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

/// `x += branch` for the picked rows, and `normed[i] = norm(x[picked[i]])`; no row is picked twice.
pub fn join(
    member: &Member<'_>,
    (x, picked): (&Rows<'_>, Picked<'_>),
    branch: Branch<'_>,
    (norm, normed): (NormTensor<'_>, &Rows<'_>),
) {
    let rows = picked.len(x.rows());
    let tasks = member.tasks(rows, EACH);
    member.phase(tasks, |task| {
        for index in share(rows, task, tasks) {
            let row = picked.at(index);
            // SAFETY: the picked rows are distinct and shared out among the tasks, so each row of
            // all three buffers is one task's own.
            let (x, out, normed) = unsafe {
                (
                    x.row_mut(row),
                    branch.out.row_mut(row),
                    normed.row_mut(index),
                )
            };
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
