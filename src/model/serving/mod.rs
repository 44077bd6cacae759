//! A decoder's forward pass as it is served: many sequences' next tokens in, logits out.
//!
//! Walked through by a team of threads over plain buffers that are used again and again. Without
//! gradients; `Decoder::forward` is the same function with them.

mod adapter;
mod layer;
mod workspace;

use std::ops::Range;
use std::sync::Arc;

use crate::kernel::matmul::PackedMatrix;
use crate::kernel::team::{
    self, Branch, CachedBlocks, Delta, Member, NormTensor, Picked, Placed, Projection, Rows,
};
use crate::kernel::{AttentionShape, BLOCK_TOKENS, RopeTable, with_elements};

use super::ModelError;
use super::batch::{ForwardBatch, Segment};
use super::config::DecoderConfig;
use super::decoder::Decoder;
use super::embedding::Embedding;
use super::kv::{BlockId, KvPool};

pub(super) use adapter::PackedAdapter;
pub(super) use layer::{SLOTS, ServedLayer, ServedLinear, ServedNorm, Slot};
pub(super) use workspace::Workspace;

/// What a pass computes, and of which rows it tells the logits.
#[derive(Clone, Copy)]
pub struct ServedStep<'a> {
    /// The next tokens of each sequence.
    pub batch: &'a ForwardBatch,
    /// Each span's blocks, enough for its tokens too.
    pub tables: &'a [&'a [BlockId]],
    /// Rows of the batch whose logits are wanted, ascending.
    pub draws: &'a [u32],
}

/// All layers in plain numbers.
pub(super) struct Served {
    pub(super) layers: Vec<ServedLayer>,
    pub(super) norm: ServedNorm,
    pub(super) head: ServedLinear,
}

/// Neighbouring rows, and the adapter that they go through.
type AdaptedRows = (Range<usize>, Arc<PackedAdapter>);

/// What the members of one pass share.
struct Pass<'a> {
    decoder: &'a Decoder,
    served: &'a Served,
    step: ServedStep<'a>,
    rows: Vec<Placed<'a>>,
    adapters: Vec<AdaptedRows>,
    table: Table<'a>,
}

/// The embedding, (vocabulary, hidden).
#[derive(Clone, Copy)]
enum Table<'a> {
    Rows(&'a [f32]),
    Packed(&'a PackedMatrix),
}

/// The buffers of one pass, each (tokens, what its name says).
struct Buffers<'a> {
    x: Rows<'a>,
    normed: Rows<'a>,
    qkv: Rows<'a>,
    attended: Rows<'a>,
    branch: Rows<'a>,
    gate_up: Rows<'a>,
    gated: Rows<'a>,
    low: Rows<'a>,
    /// Inputs of linear layers as these read them, in one row.
    packed: Rows<'a, u32>,
    /// (draws, vocabulary)
    logits: Rows<'a>,
}

impl Decoder {
    /// Continues each span after what its blocks hold, writes its tokens to them and to nothing
    /// else, and sets `logits` to those of the rows that draw, (draws, vocabulary).
    ///
    /// # Errors
    /// If the batch does not fit the model or the pool, or the decoder is in training.
    pub fn step(
        &self,
        step: ServedStep<'_>,
        pool: &mut KvPool,
        logits: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        self.check(step.batch)?;
        let served = self.served.as_ref().ok_or_else(|| {
            fail("its tensors change in training, and such a decoder is not served")
        })?;
        let rows = placed(step, pool, self.config().max_positions)?;
        let adapters = packed_adapters(step.batch, self.config())?;
        let run = |table: Table<'_>| {
            let pass = Pass {
                decoder: self,
                served,
                step,
                rows,
                adapters,
                table,
            };
            pass.run(pool, logits);
        };
        match &self.embedding {
            Embedding::Packed(packed, _) => run(Table::Packed(packed)),
            Embedding::Tensor(tensor) => with_elements(tensor, |rows| run(Table::Rows(rows)))?,
        }
        Ok(())
    }
}

fn fail(reason: impl Into<String>) -> ModelError {
    ModelError::Compute(candle_core::Error::Msg(reason.into()))
}

/// Where each row lies in the pool, once it is known that this is inside it and nobody else's.
fn placed<'a>(
    step: ServedStep<'a>,
    pool: &KvPool,
    max_positions: usize,
) -> Result<Vec<Placed<'a>>, ModelError> {
    let ServedStep {
        batch,
        tables,
        draws,
    } = step;
    if tables.len() != batch.spans.len() {
        let (tables, spans) = (tables.len(), batch.spans.len());
        return Err(fail(format!("{tables} block tables for {spans} spans")));
    }
    let ascending = draws.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending
        || draws
            .last()
            .is_some_and(|last| *last as usize >= batch.len())
    {
        return Err(fail(format!(
            "rows {draws:?} of {} are to draw",
            batch.len()
        )));
    }
    let mut rows = Vec::with_capacity(batch.len());
    let mut written: Vec<BlockId> = Vec::with_capacity(tables.len());
    for (span, blocks) in batch.spans.iter().zip(tables) {
        let positions = &batch.positions[span.start..span.start + span.len];
        let first = positions.first().map_or(0, |first| *first as usize);
        let end = first + span.len;
        let needed = end.div_ceil(BLOCK_TOKENS);
        if end > max_positions {
            return Err(fail(format!(
                "{end} tokens in a context of {max_positions}"
            )));
        }
        if blocks.len() < needed {
            let held = blocks.len();
            return Err(fail(format!(
                "{held} blocks for {end} tokens, expected {needed}"
            )));
        }
        if let Some(stray) = blocks.iter().find(|it| **it as usize >= pool.blocks()) {
            return Err(fail(format!("block {stray} of {}", pool.blocks())));
        }
        written.extend(&blocks[first / BLOCK_TOKENS..needed]);
        rows.extend((first..end).map(|position| Placed { blocks, position }));
    }
    written.sort_unstable();
    match written.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(fail(format!("block {} is written twice", pair[0]))),
        None => Ok(rows),
    }
}

/// The adapters of neighbouring rows, packed.
fn packed_adapters(
    batch: &ForwardBatch,
    config: &DecoderConfig,
) -> Result<Vec<AdaptedRows>, ModelError> {
    let segments = batch.segments();
    let adapted = segments.iter().filter_map(|segment| {
        let Segment {
            start,
            len,
            adapter,
        } = segment;
        let packed = adapter.as_ref()?.packed(config);
        Some(packed.map(|packed| (*start..start + len, packed)))
    });
    adapted.collect()
}

impl Pass<'_> {
    fn run(&self, pool: &mut KvPool, logits: &mut Vec<f32>) {
        let config = self.decoder.config();
        let tokens = self.rows.len();
        let draws = self.step.draws.len();
        logits.resize(draws * config.vocab_size, 0.0);
        let logits = Rows::of(logits, draws, config.vocab_size);
        let (workspace, cache) = pool.parts();
        let rank = self.adapters.iter().map(|(_, it)| it.most_rank).max();
        let (team, buffers) = workspace.lend(config, (tokens, rank.unwrap_or(0)), logits);
        // SAFETY: the phases are those of `walk`, the same and in the same order on every member.
        unsafe { team.walk(&|member: &Member<'_>| self.walk(member, &buffers, &cache)) };
    }

    /// One member's way through the layers.
    fn walk(&self, member: &Member<'_>, buffers: &Buffers<'_>, cache: &[CachedBlocks<'_>]) {
        let Buffers { x, normed, .. } = buffers;
        let layers = &self.served.layers;
        let lookup = |row: usize, to: &mut [f32]| self.embed(row, to);
        let first = layers[0].input_norm.plain();
        team::embed(member, &lookup, x, (first, normed));
        for (index, (layer, cache)) in layers.iter().zip(cache).enumerate() {
            let deltas = self.deltas(index);
            let low = (deltas.as_slice(), &buffers.low);
            self.attention(member, (layer, index), (buffers, cache), low);
            let branch = Branch {
                out: &buffers.branch,
                norm: layer.attention_out_norm.as_ref().map(ServedNorm::plain),
            };
            let norm = (layer.mlp_norm.plain(), normed);
            team::join(member, (x, Picked::All), branch, norm);
            feed_forward(member, (layer, self.decoder.config()), buffers, low);
            let branch = Branch {
                out: &buffers.branch,
                norm: layer.mlp_out_norm.as_ref().map(ServedNorm::plain),
            };
            let (picked, norm) = match layers.get(index + 1) {
                Some(next) => (Picked::All, &next.input_norm),
                // The head reads every tensor of the vocabulary: only rows that draw go through it.
                None => (Picked::These(self.step.draws), &self.served.norm),
            };
            team::join(member, (x, picked), branch, (norm.plain(), normed));
        }
        if !self.step.draws.is_empty() {
            let head = [self.served.head.projection(0)];
            let none = (&[][..], &buffers.low);
            team::project(
                member,
                &head,
                (normed, &buffers.packed, &buffers.logits),
                none,
            );
            if let Some(cap) = self.decoder.config().final_softcap {
                team::cap(member, &buffers.logits, cap);
            }
        }
    }

    fn embed(&self, row: usize, to: &mut [f32]) {
        let token = self.step.batch.token_ids[row] as usize;
        match self.table {
            Table::Rows(rows) => {
                to.copy_from_slice(&rows[token * to.len()..(token + 1) * to.len()]);
            }
            Table::Packed(packed) => packed.row_into(token, to),
        }
        let scale = self.decoder.config().embedding_scale;
        if scale != 1.0 {
            to.iter_mut().for_each(|x| *x *= scale);
        }
    }

    /// What adapters change in one layer.
    fn deltas(&self, layer: usize) -> Vec<Delta<'_>> {
        let adapters = self.adapters.iter();
        let deltas = adapters.map(|(rows, adapter)| Delta {
            rows: rows.clone(),
            slots: &adapter.layers[layer],
        });
        deltas.collect()
    }

    fn attention(
        &self,
        member: &Member<'_>,
        (layer, index): (&ServedLayer, usize),
        (buffers, cache): (&Buffers<'_>, &CachedBlocks<'_>),
        low: (&[Delta<'_>], &Rows<'_>),
    ) {
        let Buffers {
            normed,
            qkv,
            attended,
            branch,
            packed,
            ..
        } = buffers;
        let projections = layer.qkv();
        team::lower(member, &projections, normed, low);
        team::project(member, &projections, (normed, packed, qkv), low);
        let rope = self.decoder.config().layers[index].rope;
        let turn = team::Turn {
            norms: layer
                .qk_norms
                .as_ref()
                .map(|both| both.each_ref().map(ServedNorm::plain)),
            rope: rope.map(|rope| -> &RopeTable { &self.decoder.ropes[rope] }),
        };
        let shape: &AttentionShape = &layer.shape;
        team::place(member, (qkv, &self.rows), (shape, turn), cache);
        team::attend(member, (qkv, &self.rows), (shape, cache), attended);
        let output = [layer.output.projection(0)];
        team::lower(member, &output, attended, low);
        team::project(member, &output, (attended, packed, branch), low);
    }
}

fn feed_forward(
    member: &Member<'_>,
    (layer, config): (&ServedLayer, &DecoderConfig),
    buffers: &Buffers<'_>,
    low: (&[Delta<'_>], &Rows<'_>),
) {
    let Buffers {
        normed,
        gate_up,
        gated,
        branch,
        packed,
        ..
    } = buffers;
    let projections = layer.gate_up();
    team::lower(member, &projections, normed, low);
    team::project(member, &projections, (normed, packed, gate_up), low);
    team::gate(member, gate_up, config.activation, gated);
    let down: [Projection<'_>; 1] = [layer.down.projection(0)];
    team::lower(member, &down, gated, low);
    team::project(member, &down, (gated, packed, branch), low);
}

impl ServedNorm {
    fn plain(&self) -> NormTensor<'_> {
        NormTensor {
            weight: &self.weight,
            eps: self.eps,
            offset: self.offset,
        }
    }
}
