//! `x + output(attention(rotated projections of norm(x)))`.

use std::sync::Arc;

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::super::attention::{AttentionShape, CausalAttention, HeadRows, SpanRange};
use super::super::rope::RopeTable;
use super::branch::{Ends, end, end_back, normed};
use super::{
    Buffer, BufferPool, FrozenNorm, Gradients, LowRank, LowRanks, Projections, Stack, Sublayer,
    WayBack,
};

/// The attention sublayer of a frozen layer.
pub struct AttentionSublayer {
    /// Before the projections.
    pub norm: FrozenNorm,
    /// Queries, keys and values, side by side.
    pub inputs: Projections,
    /// Of each query head and each key head, before they are rotated.
    pub qk_norms: Option<[FrozenNorm; 2]>,
    /// How heads are laid out and what they see.
    pub shape: AttentionShape,
    /// Back to the residual stream; one matrix.
    pub output: Projections,
    /// After attention, before its result is added.
    pub out_norm: Option<FrozenNorm>,
}

/// Where a batch's tokens stand.
#[derive(Clone)]
pub struct Place {
    /// Which rows belong together.
    pub spans: Arc<[SpanRange]>,
    /// How queries and keys are rotated, where they are.
    pub rotation: Option<Rotation>,
}

/// Rotary embedding of a batch.
#[derive(Clone)]
pub struct Rotation {
    /// Angles.
    pub table: Arc<RopeTable>,
    /// Each token's position.
    pub positions: Arc<[u32]>,
}

impl AttentionSublayer {
    /// Puts it on a stack, over the tokens of this place.
    ///
    /// # Errors
    /// If its matrices, the place or the updates do not fit.
    pub fn push_onto(
        self: &Arc<Self>,
        stack: &mut Stack,
        place: &Place,
        updates: LowRanks,
    ) -> Result<()> {
        let tokens = place.spans.iter().map(|span| span.len).sum();
        if let Some(rotation) = &place.rotation {
            let size = (tokens, self.shape.head_dim);
            rotation.table.check(size, &rotation.positions)?;
        }
        let (queries, _, all) = widths(&self.shape);
        if (self.inputs.outputs(), self.output.inputs()) != (all, queries) {
            bail!("attention: projections do not fit {:?}", self.shape);
        }
        let pass = Attention {
            attention: CausalAttention::new(&place.spans, self.shape, tokens)?,
            sublayer: Arc::clone(self),
            rotation: place.rotation.clone(),
            each: updates.each,
            home: Arc::clone(stack.buffers()),
        };
        stack.push(pass, updates.tensors)
    }
}

#[derive(Clone)]
struct Attention {
    sublayer: Arc<AttentionSublayer>,
    attention: CausalAttention,
    rotation: Option<Rotation>,
    each: Vec<Option<LowRank>>,
    home: Arc<BufferPool>,
}

struct Kept {
    pass: Attention,
    /// Queries and keys before their norms, (rows, queries + keys).
    raw: Option<Buffer>,
    /// Queries, keys and values as they meet, (rows, queries + 2 keys).
    qkv: Buffer,
    /// (rows, queries)
    attended: Buffer,
    /// Low-rank products of the projections, and of the output.
    low: [Buffer; 2],
    /// The branch before its norm.
    before: Option<Buffer>,
}

/// Rows of one task that goes row by row.
const ROWS_PER_TASK: usize = 8;

/// Numbers of a token's queries, of its keys, and of all three.
const fn widths(shape: &AttentionShape) -> (usize, usize, usize) {
    let (queries, keys) = (
        shape.heads * shape.head_dim,
        shape.kv_heads * shape.head_dim,
    );
    (queries, keys, queries + 2 * keys)
}

impl Attention {
    fn ends(&self) -> Ends<'_> {
        Ends {
            inputs: &self.sublayer.inputs,
            output: &self.sublayer.output,
            each: &self.each,
        }
    }

    fn heads<'a>(&self, qkv: &'a [f32]) -> [HeadRows<'a>; 3] {
        let (queries, keys, all) = widths(&self.sublayer.shape);
        [0, queries, queries + keys].map(|first| HeadRows::from(qkv, first, all))
    }

    /// Norms and rotates queries and keys; keeps what they were before norms.
    fn turn(&self, qkv: &mut [f32]) -> Option<Buffer> {
        let (queries, keys, all) = widths(&self.sublayer.shape);
        let dim = self.sublayer.shape.head_dim;
        let raw = self.sublayer.qk_norms.as_ref().map(|[q_norm, k_norm]| {
            let mut raw = self.home.lend(qkv.len() / all * (queries + keys));
            raw.par_chunks_mut(queries + keys)
                .zip(qkv.par_chunks_mut(all))
                .with_min_len(ROWS_PER_TASK)
                .for_each(|(raw, row)| {
                    raw.copy_from_slice(&row[..queries + keys]);
                    let (q, rest) = row.split_at_mut(queries);
                    q_norm.in_place(q);
                    k_norm.in_place(&mut rest[..keys]);
                });
            raw
        });
        if let Some(Rotation { table, positions }) = &self.rotation {
            qkv.par_chunks_mut(all)
                .zip(positions.par_iter())
                .with_min_len(ROWS_PER_TASK)
                .for_each(|(row, at)| table.rotate(&mut row[..queries + keys], dim, *at as usize));
        }
        raw
    }
}

impl Sublayer for Attention {
    fn width(&self) -> usize {
        self.sublayer.inputs.inputs()
    }

    fn update_len(&self) -> usize {
        self.ends().update_len()
    }

    fn forward(&self, x: &[f32], numbers: &[f32], out: &mut [f32]) -> Box<dyn WayBack> {
        let layer = &*self.sublayer;
        let rows = x.len() / self.width();
        let (queries, _, all) = widths(&layer.shape);
        let [first, second] = self.ends().updates(numbers);
        let mut low = [first, second].map(|updates| self.home.lend(rows * updates.ranks()));
        let mut qkv = self.home.lend(rows * all);
        let normed = normed(&layer.norm, x, &self.home);
        layer.inputs.forward(&normed, first, &mut qkv, &mut low[0]);
        drop(normed);
        let raw = self.turn(&mut qkv);
        let mut attended = self.home.lend(rows * queries);
        self.attention.forward(self.heads(&qkv), &mut attended);
        layer.output.forward(&attended, second, out, &mut low[1]);
        let before = end(layer.out_norm.as_ref(), x, out, &self.home);
        Box::new(Kept {
            pass: self.clone(),
            raw,
            qkv,
            attended,
            low,
            before,
        })
    }
}

impl Kept {
    /// Gradients of the projections' outputs, from those of what attention made.
    fn heads_back(&self, d_attended: &[f32], d_qkv: &mut [f32]) {
        let layer = &*self.pass.sublayer;
        let (queries, keys, all) = widths(&layer.shape);
        let dim = layer.shape.head_dim;
        let grad = HeadRows::dense(d_attended, queries);
        let heads = self.pass.heads(&self.qkv);
        let found = self.pass.attention.backward(heads, grad);
        d_qkv
            .par_chunks_mut(all)
            .enumerate()
            .with_min_len(ROWS_PER_TASK)
            .for_each(|(token, row)| {
                let (q, rest) = row.split_at_mut(queries);
                let (k, v) = rest.split_at_mut(keys);
                found.write(token, [q, k, v]);
                let turned = &mut row[..queries + keys];
                if let Some(Rotation { table, positions }) = &self.pass.rotation {
                    table.rotate_back(turned, dim, positions[token] as usize);
                }
                if let (Some([q_norm, k_norm]), Some(raw)) = (&layer.qk_norms, &self.raw) {
                    let raw = &raw[token * (queries + keys)..][..queries + keys];
                    let grad = turned.to_vec();
                    turned.fill(0.0);
                    let (q, k) = turned.split_at_mut(queries);
                    q_norm.back_onto_rows(&raw[..queries], &grad[..queries], q);
                    k_norm.back_onto_rows(&raw[queries..], &grad[queries..], k);
                }
            });
    }
}

impl WayBack for Kept {
    fn backward(&self, x: &[f32], numbers: &[f32], grad: &[f32], to: Gradients<'_>) {
        let Attention {
            sublayer: layer,
            home,
            ..
        } = &self.pass;
        let rows = x.len() / self.pass.width();
        let (queries, _, all) = widths(&layer.shape);
        let [first, second] = self.pass.ends().updates(numbers);
        let dy = end_back(layer.out_norm.as_ref(), self.before.as_ref(), grad, home);
        let dy = dy.as_deref().unwrap_or(grad);

        let mut d_low = [first, second].map(|updates| home.lend(rows * updates.ranks()));
        layer.output.low_gradients(dy, second, &mut d_low[1]);
        let mut d_attended = home.lend(rows * queries);
        layer
            .output
            .input_gradient((dy, &d_low[1]), second, &mut d_attended);
        let mut d_qkv = home.lend(rows * all);
        self.heads_back(&d_attended, &mut d_qkv);
        drop(d_attended);
        layer.inputs.low_gradients(&d_qkv, first, &mut d_low[0]);

        if let Some(found) = to.updates {
            let (one, two) = found.split_at_mut(first.numbers.len());
            let inputs = (&*normed(&layer.norm, x, home), &*self.low[0]);
            layer
                .inputs
                .update_gradients(inputs, (&d_qkv, &d_low[0]), first, one);
            let inputs = (&*self.attended, &*self.low[1]);
            layer
                .output
                .update_gradients(inputs, (dy, &d_low[1]), second, two);
        }
        if let Some(dx) = to.x {
            let mut d_normed = home.lend(x.len());
            layer
                .inputs
                .input_gradient((&d_qkv, &d_low[0]), first, &mut d_normed);
            dx.copy_from_slice(grad);
            layer.norm.back_onto(x, &d_normed, dx);
        }
    }
}
