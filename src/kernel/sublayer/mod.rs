//! The two sublayers of a transformer layer, frozen but for low-rank updates, each as one node of the
//! autograd graph: `x + branch(norm(x))`.
//!
//! candle's way back clears and adds a buffer for every edge of the graph, on top of the arithmetic.
//! In here gradients add up inside the products, and buffers are lent. What is kept for the way back
//! is what products need; what is cheap to make again from it is made again.

mod attention;
mod feed_forward;
mod norm;
mod projection;
#[cfg(test)]
mod tests;
mod pool;

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Tensor, bail};

use super::storage::{elements, wants_gradient, with_elements};

pub use attention::{AttentionSublayer, Place, Rotation};
pub use feed_forward::FeedForwardSublayer;
pub use norm::FrozenNorm;
pub use projection::{FrozenMatrix, LowRank, Projections};
pub use pool::BufferPool;

use projection::Updates;
use pool::Buffer;

/// The low-rank updates of a sublayer's matrices, first those over its input, then the output's.
pub struct LowRanks {
    /// One for each matrix that has one.
    pub each: Vec<Option<LowRank>>,
    /// (numbers,): of the matrices over the input every `A`, then every `B`; then the output's two.
    pub numbers: Tensor,
}

impl LowRanks {
    /// No updates of so many matrices.
    pub fn none(matrices: usize) -> Result<Self> {
        Ok(Self {
            each: vec![None; matrices],
            numbers: Tensor::zeros(0, candle_core::DType::F32, &Device::Cpu)?,
        })
    }
}

/// What is asked for on the way back.
#[derive(Clone, Copy)]
struct Wanted {
    x: bool,
    updates: bool,
}

/// Gradients of the residual stream and of the updates' numbers.
struct Found {
    x: Option<Vec<f32>>,
    updates: Option<Vec<f32>>,
}

/// A sublayer over one batch.
trait Sublayer: Send + Sync {
    const NAME: &'static str;
    /// What the way back needs beside the input.
    type Kept: Send + Sync;

    /// Width of the residual stream.
    fn width(&self) -> usize;

    /// Numbers of all updates.
    fn update_len(&self) -> usize;

    /// Writes what becomes of the residual stream `x`, (rows, width).
    fn forward(&self, x: &[f32], updates: &[f32], out: &mut [f32]) -> Self::Kept;

    /// Gradients from that of the result; `inputs` are those of `forward`.
    fn backward(
        &self,
        kept: &Self::Kept,
        inputs: (&[f32], &[f32]),
        grad: &[f32],
        wanted: Wanted,
    ) -> Found;
}

/// A sublayer as a node of the graph.
struct Node<S: Sublayer> {
    sublayer: S,
    wanted: Wanted,
    kept: OnceLock<S::Kept>,
}

/// Runs a sublayer on `x`, (rows, width).
fn apply<S: Sublayer + 'static>(sublayer: S, x: &Tensor, numbers: &Tensor) -> Result<Tensor> {
    let (_, width) = x.dims2()?;
    if width != sublayer.width() || numbers.elem_count() != sublayer.update_len() {
        bail!(
            "{}: rows of {width} with {} numbers of updates, expected {} and {}",
            S::NAME,
            numbers.elem_count(),
            sublayer.width(),
            sublayer.update_len()
        );
    }
    let wanted = Wanted {
        x: wants_gradient(x),
        updates: wants_gradient(numbers),
    };
    let node = Node {
        sublayer,
        wanted,
        kept: OnceLock::new(),
    };
    x.contiguous()?.apply_op2(&numbers.contiguous()?, node)
}

/// Runs `work` in the thread pool, so that the parallel parts of it follow on each other there.
fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

impl<S: Sublayer> CustomOp2 for Node<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        numbers: &CpuStorage,
        numbers_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, numbers) = (elements(x, x_layout)?, elements(numbers, numbers_layout)?);
        let mut out = vec![0f32; x.len()];
        let kept = in_pool(|| self.sublayer.forward(x, numbers, &mut out));
        if self.wanted.x || self.wanted.updates {
            // an operation runs once
            let _ = self.kept.set(kept);
        }
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        numbers: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(kept) = self.kept.get() else {
            bail!("{}: the forward pass kept nothing for a way back", S::NAME);
        };
        let found = with_elements(x, |x| {
            with_elements(numbers, |numbers| {
                with_elements(grad, |grad| {
                    let work = || self.sublayer.backward(kept, (x, numbers), grad, self.wanted);
                    in_pool(work)
                })
            })
        })???;
        let tensor = |found: Option<Vec<f32>>, like: &Tensor| {
            found
                .map(|numbers| Tensor::from_vec(numbers, like.shape(), like.device()))
                .transpose()
        };
        Ok((tensor(found.x, x)?, tensor(found.updates, numbers)?))
    }
}

/// Makes `out`, which holds a branch's result, `x` plus that.
fn add_residual(x: &[f32], out: &mut [f32]) {
    use rayon::prelude::*;
    const TASK: usize = 1 << 14;
    out.par_chunks_mut(TASK)
        .zip(x.par_chunks(TASK))
        .for_each(|(out, x)| out.iter_mut().zip(x).for_each(|(out, x)| *out += x));
}

/// Norms a branch's result in place and keeps what it was, where the sublayer does that.
fn norm_branch(norm: Option<&FrozenNorm>, out: &mut [f32], home: &Arc<BufferPool>) -> Option<Buffer> {
    norm.map(|norm| {
        let mut before = home.lend(out.len());
        before.copy_from_slice(out);
        norm.forward(&before, out);
        before
    })
}

/// The gradient of a branch's result before `norm_branch`; nothing where there is no norm.
fn norm_branch_back(
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
