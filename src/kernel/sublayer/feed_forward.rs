//! `x + down(activation(gate(n)) * up(n))` for `n = norm(x)`.

use std::sync::Arc;

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::super::gated::{Activation, Inputs, gated_back, gated_rows};
use super::branch::{Ends, end, end_back, normed};
use super::{
    Buffer, BufferPool, FrozenNorm, Gradients, LowRank, LowRanks, Projections, Stack, Sublayer,
    WayBack,
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
    /// Puts it on a stack.
    ///
    /// # Errors
    /// If its matrices or the updates do not fit.
    pub fn push_onto(self: &Arc<Self>, stack: &mut Stack, updates: LowRanks) -> Result<()> {
        let (both, inner) = (self.gate_up.outputs(), self.down.inputs());
        if both != 2 * inner || self.down.outputs() != self.gate_up.inputs() {
            bail!("feed-forward: {both} outputs of gate and up against an inner width of {inner}");
        }
        let pass = FeedForward {
            sublayer: Arc::clone(self),
            each: updates.each,
            home: Arc::clone(stack.buffers()),
        };
        stack.push(pass, updates.tensors)
    }
}

#[derive(Clone)]
struct FeedForward {
    sublayer: Arc<FeedForwardSublayer>,
    each: Vec<Option<LowRank>>,
    home: Arc<BufferPool>,
}

struct Kept {
    pass: FeedForward,
    /// (rows, 2 inner): gate, then up.
    gate_up: Buffer,
    /// Low-rank products of the two, and of down.
    low: [Buffer; 2],
    /// The branch before its norm.
    before: Option<Buffer>,
}

/// Rows of one task that goes row by row.
const ROWS_PER_TASK: usize = 4;

impl FeedForward {
    fn ends(&self) -> Ends<'_> {
        Ends {
            inputs: &self.sublayer.gate_up,
            output: &self.sublayer.down,
            each: &self.each,
        }
    }
}

impl Sublayer for FeedForward {
    fn width(&self) -> usize {
        self.sublayer.gate_up.inputs()
    }

    fn update_len(&self) -> usize {
        self.ends().update_len()
    }

    fn forward(&self, x: &[f32], numbers: &[f32], out: &mut [f32]) -> Box<dyn WayBack> {
        let layer = &*self.sublayer;
        let (rows, inner) = (x.len() / self.width(), layer.down.inputs());
        let [first, second] = self.ends().updates(numbers);
        let mut low = [first, second].map(|updates| self.home.lend(rows * updates.ranks()));
        let mut gate_up = self.home.lend(rows * 2 * inner);
        let normed = normed(&layer.norm, x, &self.home);
        layer
            .gate_up
            .forward(&normed, first, &mut gate_up, &mut low[0]);
        drop(normed);
        let mut gated = self.home.lend(rows * inner);
        gated
            .par_chunks_mut(inner)
            .zip(gate_up.par_chunks(2 * inner))
            .with_min_len(ROWS_PER_TASK)
            .for_each(|(out, gate_up)| {
                let (gate, up) = gate_up.split_at(inner);
                gated_rows(gate, up, layer.activation, out);
            });
        layer.down.forward(&gated, second, out, &mut low[1]);
        let before = end(layer.out_norm.as_ref(), x, out, &self.home);
        Box::new(Kept {
            pass: self.clone(),
            gate_up,
            low,
            before,
        })
    }
}

impl Kept {
    /// Gradients of gate and up, and the gated product once more, from the product's gradient.
    fn gate_back(&self, grad: &[f32], d_gate_up: &mut [f32], out: &mut [f32]) {
        let layer = &*self.pass.sublayer;
        let inner = layer.down.inputs();
        d_gate_up
            .par_chunks_mut(2 * inner)
            .zip(self.gate_up.par_chunks(2 * inner))
            .zip(grad.par_chunks(inner).zip(out.par_chunks_mut(inner)))
            .with_min_len(ROWS_PER_TASK)
            .for_each(|((d_gate_up, gate_up), (grad, out))| {
                let (gate, up) = gate_up.split_at(inner);
                let (d_gate, d_up) = d_gate_up.split_at_mut(inner);
                let inputs = Inputs { gate, up, grad };
                gated_back(inputs, layer.activation, d_gate, d_up, out);
            });
    }
}

impl WayBack for Kept {
    fn backward(&self, x: &[f32], numbers: &[f32], grad: &[f32], to: Gradients<'_>) {
        let FeedForward {
            sublayer: layer,
            home,
            ..
        } = &self.pass;
        let (rows, inner) = (x.len() / self.pass.width(), layer.down.inputs());
        let [first, second] = self.pass.ends().updates(numbers);
        let dy = end_back(layer.out_norm.as_ref(), self.before.as_ref(), grad, home);
        let dy = dy.as_deref().unwrap_or(grad);

        let mut d_low = [first, second].map(|updates| home.lend(rows * updates.ranks()));
        layer.down.low_gradients(dy, second, &mut d_low[1]);
        let mut d_gated = home.lend(rows * inner);
        layer
            .down
            .input_gradient((dy, &d_low[1]), second, &mut d_gated);
        let (mut d_gate_up, mut gated) = (home.lend(rows * 2 * inner), home.lend(rows * inner));
        self.gate_back(&d_gated, &mut d_gate_up, &mut gated);
        drop(d_gated);
        layer
            .gate_up
            .low_gradients(&d_gate_up, first, &mut d_low[0]);

        if let Some(found) = to.updates {
            let (one, two) = found.split_at_mut(first.numbers.len());
            let inputs = (&*normed(&layer.norm, x, home), &*self.low[0]);
            let gradients = (&*d_gate_up, &*d_low[0]);
            layer
                .gate_up
                .update_gradients(inputs, gradients, first, one);
            let inputs = (&*gated, &*self.low[1]);
            layer
                .down
                .update_gradients(inputs, (dy, &d_low[1]), second, two);
        }
        if let Some(dx) = to.x {
            let mut d_normed = home.lend(x.len());
            layer
                .gate_up
                .input_gradient((&d_gate_up, &d_low[0]), first, &mut d_normed);
            dx.copy_from_slice(grad);
            layer.norm.back_onto(x, &d_normed, dx);
        }
    }
}
