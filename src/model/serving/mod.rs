//! A decoder's forward pass as it is served: many sequences' next tokens in, logits out.
//!
//! Walked through by a team of threads over plain buffers that are used again and again. Without
//! gradients; `Decoder::forward` is the same function with them.

mod adapter;
mod layer;
mod pass;
mod workspace;

use crate::kernel::team::Placed;
use crate::kernel::{BLOCK_TOKENS, with_elements};

use super::ModelError;
use super::batch::{ForwardBatch, Segment};
use super::config::DecoderConfig;
use super::decoder::Decoder;
use super::embedding::Embedding;
use super::kv::{BlockId, KvPool};

pub(super) use adapter::PackedAdapter;
pub(super) use layer::{SLOTS, ServedLayer, ServedLinear, ServedNorm, Slot};
pub(super) use workspace::Workspace;

use pass::{AdaptedRows, Pass, Table};

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
