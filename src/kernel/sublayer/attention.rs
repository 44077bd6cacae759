//! `x + output(attention(rotated projections of norm(x)))`, as one node of the graph.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::super::attention::{AttentionShape, CausalAttention, HeadRows, SpanRange};
use super::super::rope::RopeTable;
use super::{
    Buffer, Found, FrozenNorm, LowRank, LowRanks, Projections, Sublayer, Updates, Wanted,
    BufferPool, add_residual, apply, norm_branch, norm_branch_back,
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
    /// What becomes of the residual stream `x`, (tokens, width); differentiable in it and in the
    /// updates' numbers.
    ///
    /// # Errors
    /// If `x`, its place or the updates do not fit.
    pub fn forward(
        self: &Arc<Self>,
        x: &Tensor,
        place: &Place,
        updates: LowRanks,
        pool: &Arc<BufferPool>,
    ) -> Result<Tensor> {
        let tokens = x.dim(0)?;
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
            home: Arc::clone(pool),
        };
        apply(pass, x, &updates.numbers)
    }
}

struct Attention {
    sublayer: Arc<AttentionSublayer>,
    attention: CausalAttention,
    rotation: Option<Rotation>,
    each: Vec<Option<LowRank>>,
    home: Arc<BufferPool>,
}

struct Kept {
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
    fn updates<'a>(&'a self, numbers: &'a [f32]) -> [Updates<'a>; 2] {
        let count = self.sublayer.inputs.len();
        let (first, second) = self.each.split_at(count.min(self.each.len()));
        let (a, b) = numbers.split_at(self.sublayer.inputs.update_len(first));
        [(first, a), (second, b)].map(|(each, numbers)| Updates { each, numbers })
    }

    fn normed(&self, x: &[f32]) -> Buffer {
        let mut normed = self.home.lend(x.len());
        self.sublayer.norm.forward(x, &mut normed);
        normed
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

    /// Gradients of the projections' outputs, from those of what attention made.
    fn heads_back(&self, kept: &Kept, d_attended: &[f32], d_qkv: &mut [f32]) {
        let (queries, keys, all) = widths(&self.sublayer.shape);
        let dim = self.sublayer.shape.head_dim;
        let grad = HeadRows::dense(d_attended, queries);
        let found = self.attention.backward(self.heads(&kept.qkv), grad);
        d_qkv
            .par_chunks_mut(all)
            .enumerate()
            .with_min_len(ROWS_PER_TASK)
            .for_each(|(token, row)| {
                let (q, rest) = row.split_at_mut(queries);
                let (k, v) = rest.split_at_mut(keys);
                found.write(token, [q, k, v]);
                if let Some(Rotation { table, positions }) = &self.rotation {
                    let at = positions[token] as usize;
                    table.rotate_back(&mut row[..queries + keys], dim, at);
                }
                if let (Some([q_norm, k_norm]), Some(raw)) = (&self.sublayer.qk_norms, &kept.raw) {
                    let raw = &raw[token * (queries + keys)..][..queries + keys];
                    let grad = row[..queries + keys].to_vec();
                    row[..queries + keys].fill(0.0);
                    let (q, rest) = row.split_at_mut(queries);
                    q_norm.back_onto_rows(&raw[..queries], &grad[..queries], q);
                    k_norm.back_onto_rows(&raw[queries..], &grad[queries..], &mut rest[..keys]);
                }
            });
    }
}

impl Sublayer for Attention {
    const NAME: &'static str = "attention_sublayer";
    type Kept = Kept;

    fn width(&self) -> usize {
        self.sublayer.inputs.inputs()
    }

    fn update_len(&self) -> usize {
        let count = self.sublayer.inputs.len();
        let (first, second) = self.each.split_at(count.min(self.each.len()));
        self.sublayer.inputs.update_len(first) + self.sublayer.output.update_len(second)
    }

    fn forward(&self, x: &[f32], numbers: &[f32], out: &mut [f32]) -> Kept {
        let layer = &*self.sublayer;
        let rows = x.len() / self.width();
        let (queries, _, all) = widths(&self.sublayer.shape);
        let [first, second] = self.updates(numbers);
        let mut low = [first, second].map(|updates| self.home.lend(rows * updates.ranks()));
        let mut qkv = self.home.lend(rows * all);
        let normed = self.normed(x);
        layer.inputs.forward(&normed, first, &mut qkv, &mut low[0]);
        drop(normed);
        let raw = self.turn(&mut qkv);
        let mut attended = self.home.lend(rows * queries);
        self.attention.forward(self.heads(&qkv), &mut attended);
        layer.output.forward(&attended, second, out, &mut low[1]);
        let before = norm_branch(layer.out_norm.as_ref(), out, &self.home);
        add_residual(x, out);
        Kept {
            raw,
            qkv,
            attended,
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
        let rows = x.len() / self.width();
        let (queries, _, all) = widths(&self.sublayer.shape);
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
        layer.output.low_gradients(dy, second, &mut d_low[1]);
        let mut d_attended = lend(rows * queries);
        layer
            .output
            .input_gradient((dy, &d_low[1]), second, &mut d_attended);
        let mut d_qkv = lend(rows * all);
        self.heads_back(kept, &d_attended, &mut d_qkv);
        layer.inputs.low_gradients(&d_qkv, first, &mut d_low[0]);

        let updates = wanted.updates.then(|| {
            let mut found = vec![0f32; numbers.len()];
            let (one, two) = found.split_at_mut(first.numbers.len());
            let normed = self.normed(x);
            let inputs = (&*normed, &*kept.low[0]);
            layer
                .inputs
                .update_gradients(inputs, (&d_qkv, &d_low[0]), first, one);
            let inputs = (&*kept.attended, &*kept.low[1]);
            layer
                .output
                .update_gradients(inputs, (dy, &d_low[1]), second, two);
            found
        });
        let x = wanted.x.then(|| {
            let mut d_normed = lend(x.len());
            layer
                .inputs
                .input_gradient((&d_qkv, &d_low[0]), first, &mut d_normed);
            let mut dx = grad.to_vec();
            layer.norm.back_onto(x, &d_normed, &mut dx);
            dx
        });
        Found { x, updates }
    }
}
