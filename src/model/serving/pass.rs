//! One pass through the layers, phase by phase, as every member of the team walks it.

use std::ops::Range;
use std::sync::Arc;

use crate::kernel::matmul::PackedMatrix;
use crate::kernel::team::{
    self, Branch, CachedBlocks, Delta, Member, Placed, Projection, Rows, Tiles,
};
use crate::kernel::{AttentionShape, RopeTable};

use super::super::config::DecoderConfig;
use super::super::decoder::Decoder;
use super::super::kv::KvPool;
use super::{PackedAdapter, Served, ServedLayer, ServedNorm, ServedStep};

/// Neighbouring rows, and the adapter that they go through.
pub(super) type AdaptedRows = (Range<usize>, Arc<PackedAdapter>);

/// What the members of one pass share.
pub(super) struct Pass<'a> {
    pub(super) decoder: &'a Decoder,
    pub(super) served: &'a Served,
    pub(super) step: ServedStep<'a>,
    pub(super) rows: Vec<Placed<'a>>,
    pub(super) adapters: Vec<AdaptedRows>,
    pub(super) table: Table<'a>,
}

/// The embedding, (vocabulary, hidden).
#[derive(Clone, Copy)]
pub(super) enum Table<'a> {
    Rows(&'a [f32]),
    Packed(&'a PackedMatrix),
}

/// The buffers of one pass, each (tokens, what its name says).
pub(super) struct Buffers<'a> {
    pub(super) x: Rows<'a>,
    pub(super) normed: Rows<'a>,
    pub(super) qkv: Rows<'a>,
    pub(super) attended: Rows<'a>,
    pub(super) branch: Rows<'a>,
    pub(super) gate_up: Rows<'a>,
    pub(super) gated: Rows<'a>,
    pub(super) low: Rows<'a>,
    /// Inputs of linear layers as these read them, in one row.
    pub(super) packed: Rows<'a, u32>,
    /// (draws, vocabulary)
    pub(super) logits: Rows<'a>,
}

impl Pass<'_> {
    /// Walks through it, and sets `logits` to those of the rows that draw, (draws, vocabulary).
    pub(super) fn run(&self, pool: &mut KvPool, logits: &mut Vec<f32>) {
        let config = self.decoder.config();
        let tokens = self.rows.len();
        let draws = self.step.draws.len();
        logits.resize(draws * config.vocab_size, 0.0);
        let logits = Rows::of(logits, draws, config.vocab_size);
        let rank = self.adapters.iter().map(|(_, it)| it.most_rank).max();
        let sizes = (tokens, rank.unwrap_or(0));
        pool.lend(|workspace, cache| {
            let (team, buffers) = workspace.lend(config, sizes, logits);
            // Layers differ in what they see, not in their heads.
            let shape = &self.served.layers[0].shape;
            let tiles = Tiles::new(&self.rows, shape, team.members());
            let work = |member: &Member<'_>| self.walk(member, (&buffers, &tiles), cache);
            // SAFETY: the phases are those of `walk`, the same and in the same order on every member.
            unsafe { team.walk(&work) };
        });
    }

    /// One member's way through the layers.
    fn walk(
        &self,
        member: &Member<'_>,
        (buffers, tiles): (&Buffers<'_>, &Tiles),
        cache: CachedBlocks<'_>,
    ) {
        let layers = &self.served.layers;
        let (last, draws) = (layers.len() - 1, self.step.draws);
        let lookup = |row: usize, to: &mut [f32]| self.embed(row, to);
        let first = layers[0].input_norm.plain();
        team::embed(member, &lookup, &buffers.x, (first, &buffers.normed));
        for index in 0..last {
            let deltas = self.deltas(index, Range::clone);
            let low = (deltas.as_slice(), &buffers.low);
            self.attention(member, index, (buffers, tiles, cache.at(index)), low);
            self.rest(member, index, buffers, low);
        }
        let deltas = self.deltas(last, Range::clone);
        let low = (deltas.as_slice(), &buffers.low);
        self.attention(member, last, (buffers, tiles, cache.at(last)), low);
        if draws.is_empty() {
            return;
        }
        // Nothing looks back at the last layer's outputs: only rows that draw go on.
        team::keep(member, &[&buffers.x, &buffers.attended], draws);
        let buffers = &buffers.first(draws.len());
        let place = |row: usize| draws.partition_point(|draw| (*draw as usize) < row);
        let deltas = self.deltas(last, |rows| place(rows.start)..place(rows.end));
        self.rest(member, last, buffers, (&deltas, &buffers.low));
        let head = [self.served.head.projection(0)];
        let rows = (&buffers.normed, &buffers.packed, &buffers.logits);
        team::project(member, &head, rows, (&[], &buffers.low));
        if let Some(cap) = self.decoder.config().final_softcap {
            team::cap(member, &buffers.logits, cap);
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

    /// What adapters change in one layer, and in which of the rows that are left of theirs.
    fn deltas(&self, layer: usize, left: impl Fn(&Range<usize>) -> Range<usize>) -> Vec<Delta<'_>> {
        let deltas = self.adapters.iter().map(|(rows, adapter)| Delta {
            rows: left(rows),
            slots: &adapter.layers[layer],
        });
        deltas.filter(|delta| !delta.rows.is_empty()).collect()
    }

    /// A layer up to what its queries have seen.
    fn attention(
        &self,
        member: &Member<'_>,
        index: usize,
        (buffers, tiles, cache): (&Buffers<'_>, &Tiles, CachedBlocks<'_>),
        low: (&[Delta<'_>], &Rows<'_>),
    ) {
        let Buffers {
            normed,
            qkv,
            packed,
            ..
        } = buffers;
        let layer = &self.served.layers[index];
        let projections = layer.qkv();
        team::lower(member, &projections, normed, low);
        team::project(member, &projections, (normed, packed, qkv), low);
        let rope = self.decoder.config().layers[index].rope;
        let norms = layer.qk_norms.as_ref();
        let turn = team::Turn {
            norms: norms.map(|both| both.each_ref().map(ServedNorm::plain)),
            rope: rope.map(|rope| -> &RopeTable { &self.decoder.ropes[rope] }),
        };
        let shape: &AttentionShape = &layer.shape;
        team::place(member, (qkv, &self.rows), (shape, turn), &cache);
        let queries = (qkv, &*self.rows, tiles);
        team::attend(member, queries, (shape, &cache), &buffers.attended);
    }

    /// What is left of a layer, up to the norm after it.
    fn rest(
        &self,
        member: &Member<'_>,
        index: usize,
        buffers: &Buffers<'_>,
        low: (&[Delta<'_>], &Rows<'_>),
    ) {
        let Buffers {
            x,
            normed,
            attended,
            branch,
            packed,
            ..
        } = buffers;
        let layer = &self.served.layers[index];
        let output = [layer.output.projection(0)];
        team::lower(member, &output, attended, low);
        team::project(member, &output, (attended, packed, branch), low);
        let norm = (layer.mlp_norm.plain(), normed);
        team::join(
            member,
            x,
            added(branch, layer.attention_out_norm.as_ref()),
            norm,
        );
        feed_forward(member, (layer, self.decoder.config()), buffers, low);
        let next = self.served.layers.get(index + 1);
        let norm = next.map_or(&self.served.norm, |next| &next.input_norm);
        let norm = (norm.plain(), normed);
        team::join(member, x, added(branch, layer.mlp_out_norm.as_ref()), norm);
    }
}

/// What a branch adds to the residual stream.
fn added<'a>(out: &'a Rows<'a>, norm: Option<&'a ServedNorm>) -> Branch<'a> {
    Branch {
        out,
        norm: norm.map(ServedNorm::plain),
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

impl Buffers<'_> {
    /// Their first rows.
    fn first(&self, rows: usize) -> Self {
        Self {
            x: self.x.first(rows),
            normed: self.normed.first(rows),
            qkv: self.qkv.first(rows),
            attended: self.attended.first(rows),
            branch: self.branch.first(rows),
            gate_up: self.gate_up.first(rows),
            gated: self.gated.first(rows),
            low: self.low.first(rows),
            packed: self.packed.first(1),
            logits: self.logits.first(rows),
        }
    }
}
