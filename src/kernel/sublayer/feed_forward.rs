//! `x + down(activation(gate(n)) * up(n))` for `n = norm(x)`, as one node of the graph.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::super::gated::{Activation, Inputs, Outputs, gated_back, gated_rows};
use super::{
    Buffer, Found, FrozenNorm, LowRank, LowRanks, Projections, Sublayer, Updates, Wanted,
    BufferPool, add_residual, apply, norm_branch, norm_branch_back,
};

/// The gated feed-forward sublayer of a frozen layer.
pub struct FeedForwardSublayer {
    /// Before the network.
    pub norm: FrozenNorm,
    /// Gate and up, side by side.
    pub gate_up: Projections,
    /// The function applied to the gate.
    pub activation: Activation,
    /// Back to the residual stream; one matrix.
    pub down: Projections,
    /// After the network, before its result is added.
    pub out_norm: Option<FrozenNorm>,
}

impl FeedForwardSublayer {
    /// What becomes of the residual stream `x`, (tokens, width); differentiable in it and in the
    /// updates' numbers.
    ///
    /// # Errors
    /// If `x` or the updates do not fit.
    pub fn forward(
        self: &Arc<Self>,
        x: &Tensor,
        updates: LowRanks,
        pool: &Arc<BufferPool>,
    ) -> Result<Tensor> {
        let (both, inner) = (self.gate_up.outputs(), self.down.inputs());
        if both != 2 * inner {
            bail!("feed-forward: {both} outputs of gate and up against an inner width of {inner}");
        }
        let pass = FeedForward {
            sublayer: Arc::clone(self),
            each: updates.each,
            home: Arc::clone(pool),
        };
        apply(pass, x, &updates.numbers)
    }
}

struct FeedForward {
    sublayer: Arc<FeedForwardSublayer>,
    each: Vec<Option<LowRank>>,
    home: Arc<BufferPool>,
}

struct Kept {
    /// (rows, 2 inner): gate, then up.
    gate_up: Buffer,
    /// Low-rank products of the two, and of down.
    low: [Buffer; 2],
    /// The branch before its norm.
    before: Option<Buffer>,
}

impl FeedForward {
    fn updates<'a>(&'a self, numbers: &'a [f32]) -> [Updates<'a>; 2] {
        let count = self.sublayer.gate_up.len();
        let (first, second) = self.each.split_at(count.min(self.each.len()));
        let (a, b) = numbers.split_at(self.sublayer.gate_up.update_len(first));
        [(first, a), (second, b)].map(|(each, numbers)| Updates { each, numbers })
    }

    /// Inner width.
    fn inner(&self) -> usize {
        self.sublayer.down.inputs()
    }

    fn normed(&self, x: &[f32]) -> Buffer {
        let mut normed = self.home.lend(x.len());
        self.sublayer.norm.forward(x, &mut normed);
        normed
    }

    /// Gradients of gate and up, and the gated product once more, from the product's gradient.
    fn gate_back(&self, gate_up: &[f32], grad: &[f32], d_gate_up: &mut [f32], out: &mut [f32]) {
        let inner = self.inner();
        d_gate_up
            .par_chunks_mut(2 * inner)
            .zip(gate_up.par_chunks(2 * inner))
            .zip(grad.par_chunks(inner).zip(out.par_chunks_mut(inner)))
            .with_min_len(4)
            .for_each(|((d_gate_up, gate_up), (grad, out))| {
                let (gate, up) = gate_up.split_at(inner);
                let (d_gate, d_up) = d_gate_up.split_at_mut(inner);
                let to = Outputs {
                    gate: d_gate,
                    up: d_up,
                    out,
                };
                gated_back(Inputs { gate, up, grad }, self.sublayer.activation, to);
            });
    }
}

impl Sublayer for FeedForward {
    const NAME: &'static str = "feed_forward_sublayer";
    type Kept = Kept;

    fn width(&self) -> usize {
        self.sublayer.gate_up.inputs()
    }

    fn update_len(&self) -> usize {
        let count = self.sublayer.gate_up.len();
        let (first, second) = self.each.split_at(count.min(self.each.len()));
        self.sublayer.gate_up.update_len(first) + self.sublayer.down.update_len(second)
    }

    fn forward(&self, x: &[f32], numbers: &[f32], out: &mut [f32]) -> Kept {
        let layer = &*self.sublayer;
        let (rows, inner) = (x.len() / self.width(), self.inner());
        let [first, second] = self.updates(numbers);
        let mut low = [first, second].map(|updates| self.home.lend(rows * updates.ranks()));
        let mut gate_up = self.home.lend(rows * 2 * inner);
        let normed = self.normed(x);
        layer.gate_up.forward(&normed, first, &mut gate_up, &mut low[0]);
        let mut gated = self.home.lend(rows * inner);
        gated
            .par_chunks_mut(inner)
            .zip(gate_up.par_chunks(2 * inner))
            .with_min_len(4)
            .for_each(|(out, gate_up)| {
                let (gate, up) = gate_up.split_at(inner);
                gated_rows(gate, up, layer.activation, out);
            });
        layer.down.forward(&gated, second, out, &mut low[1]);
        let before = norm_branch(layer.out_norm.as_ref(), out, &self.home);
        add_residual(x, out);
        Kept {
            gate_up,
            low,
            before,
        }
    }

    fn backward(
        &self,
        kept: &Kept,
        (x, numbers): (&[f32], &[f32]),
        grad: &[f32],
        wanted: Wanted,
    ) -> Found {
        let layer = &*self.sublayer;
        let (rows, inner) = (x.len() / self.width(), self.inner());
        let [first, second] = self.updates(numbers);
        let lend = |len: usize| self.home.lend(len);
        let dy = norm_branch_back(
            layer.out_norm.as_ref(),
            kept.before.as_ref(),
            grad,
            &self.home,
        );
        let dy = dy.as_deref().unwrap_or(grad);

        let mut d_low = [first, second].map(|updates| lend(rows * updates.ranks()));
        layer.down.low_gradients(dy, second, &mut d_low[1]);
        let mut d_gated = lend(rows * inner);
        layer
            .down
            .input_gradient((dy, &d_low[1]), second, &mut d_gated);
        let (mut d_gate_up, mut gated) = (lend(rows * 2 * inner), lend(rows * inner));
        self.gate_back(&kept.gate_up, &d_gated, &mut d_gate_up, &mut gated);
        layer.gate_up.low_gradients(&d_gate_up, first, &mut d_low[0]);

        let updates = wanted.updates.then(|| {
            let mut found = vec![0f32; numbers.len()];
            let (one, two) = found.split_at_mut(first.numbers.len());
            let normed = self.normed(x);
            let inputs = (&*normed, &*kept.low[0]);
            layer
                .gate_up
                .update_gradients(inputs, (&d_gate_up, &d_low[0]), first, one);
            let inputs = (&*gated, &*kept.low[1]);
            layer
                .down
                .update_gradients(inputs, (dy, &d_low[1]), second, two);
            found
        });
        let x = wanted.x.then(|| {
            let mut d_normed = lend(x.len());
            layer
                .gate_up
                .input_gradient((&d_gate_up, &d_low[0]), first, &mut d_normed);
            let mut dx = grad.to_vec();
            layer.norm.back_onto(x, &d_normed, &mut dx);
            dx
        });
        Found { x, updates }
    }
}
