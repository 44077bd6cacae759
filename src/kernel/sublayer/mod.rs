//! The two sublayers of a transformer layer, frozen but for low-rank updates: `x + branch(norm(x))`,
//! any number of them as one node of the autograd graph.
//!
//! candle's way back clears and adds a buffer for every edge of the graph, on top of the arithmetic.
//! In here gradients add up inside the products, and buffers are lent. What is kept for the way back
//! is what products need; what is cheap to make again from it is made again.

mod attention;
mod branch;
mod feed_forward;
mod norm;
mod projection;
mod stack;
#[cfg(test)]
mod tests;

use candle_core::Tensor;

use super::buffers::{Buffer, BufferPool};

pub use attention::{AttentionSublayer, Place, Rotation};
pub use feed_forward::FeedForwardSublayer;
pub use norm::FrozenNorm;
pub use projection::{FrozenMatrix, LowRank, Projections};
pub use stack::Stack;

use projection::Updates;

/// The low-rank updates of a sublayer's matrices, first those over its input, then the output's.
#[derive(Default)]
pub struct LowRanks {
    /// For each matrix, where it has one; those of no matrix may be left out.
    pub each: Vec<Option<LowRank>>,
    /// Their tensors: of the matrices over the input every `A`, then every `B`; then the output's two.
    pub tensors: Vec<Tensor>,
}

/// A sublayer over one batch.
trait Sublayer: Send + Sync {
    /// Width of the residual stream.
    fn width(&self) -> usize;

    /// Numbers of all updates.
    fn update_len(&self) -> usize;

    /// Writes what becomes of the residual stream `x`, (rows, width).
    fn forward(&self, x: &[f32], updates: &[f32], out: &mut [f32]) -> Box<dyn WayBack>;
}

/// What a sublayer kept for gradients.
trait WayBack: Send + Sync {
    /// Gradients from that of the result, `grad`; `x` and `updates` are those of `forward`.
    fn backward(&self, x: &[f32], updates: &[f32], grad: &[f32], to: Gradients<'_>);
}

/// Where gradients go, where they are wanted.
struct Gradients<'a> {
    /// Of the residual stream.
    x: Option<&'a mut [f32]>,
    /// Of the updates' numbers.
    updates: Option<&'a mut [f32]>,
}
