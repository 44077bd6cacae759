//! All that is on the device: tensors, keys and values, buffers, and recorded steps.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::kernel::BLOCK_TOKENS;
use crate::kernel::cuda::{Attention, Buffer, Cache, Gpu, Graph, Pinned, Products, Rotation};

use super::super::ModelError;
use super::super::config::DecoderConfig;
use super::super::kv::BlockId;
use super::super::serving::{ServedStep, placed};
use super::adapters::DeviceAdapters;
use super::inputs::Inputs;
use super::layers::DeviceTensors;
use super::pass::Pass;
use super::workspace::{Need, Workspace};
use super::{CudaDecoder, Loaded, fail};

/// Rows up to which steps of single tokens are recorded and repeated.
const MOST_RECORDED: usize = 256;

/// Rows that a launch can have.
const MOST_ROWS: usize = 65_535;

/// Logits that one thread copies.
const COPIED: usize = 1 << 18;

/// What a recorded step of single tokens is recorded for: it serves all steps of the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct GraphKey {
    rows: usize,
    /// Partitions with blocks of their own.
    parts: usize,
    is_adapted: bool,
}

/// A device with a decoder's tensors, and blocks of keys and values.
pub struct CudaPool {
    // Dropped in this order; the device last.
    graphs: HashMap<GraphKey, Graph>,
    adapters: DeviceAdapters,
    buffers: Workspace,
    attention: Attention,
    products: Products,
    /// Of each layer, in `cached`.
    caches: Vec<Cache>,
    _cached: [Buffer<u16>; 2],
    rotations: Vec<Rotation>,
    tensors: DeviceTensors,
    logits: Pinned<f32>,
    blocks: usize,
    gpu: Gpu,
}

impl CudaPool {
    pub(super) fn new(
        loaded: Loaded,
        decoder: &CudaDecoder,
        blocks: usize,
    ) -> Result<Self, ModelError> {
        let Loaded { gpu, tensors } = loaded;
        let config = &decoder.config;
        let heads = (config.num_heads, config.num_kv_heads);
        let attention = Attention::load(&gpu, heads, decoder.width)?;
        // One more, for the rows that fill up a recorded step.
        let each = attention.cache_numbers(blocks + 1);
        let all = each * config.num_layers();
        let (keys, values) = (gpu.zeros("keys", all)?, gpu.zeros("values", all)?);
        let caches = (0..config.num_layers()).map(|layer| Cache {
            keys: keys.at(layer * each),
            values: values.at(layer * each),
        });
        let caches = caches.collect();
        let rotations = decoder
            .ropes
            .iter()
            // no sequence is longer than the pool
            .map(|table| Rotation::upload(&gpu, table, blocks * BLOCK_TOKENS));
        Ok(Self {
            graphs: HashMap::new(),
            adapters: DeviceAdapters::default(),
            buffers: Workspace::new(&gpu)?,
            attention,
            products: Products::new(&gpu)?,
            caches,
            _cached: [keys, values],
            rotations: rotations.collect::<Result<_, _>>()?,
            tensors,
            logits: gpu.pinned(1)?,
            blocks,
            gpu,
        })
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// See [`CudaDecoder::step`].
    pub(super) fn step(
        &mut self,
        config: &DecoderConfig,
        step: ServedStep<'_>,
        logits: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        step.batch.check(config.vocab_size)?;
        if step.batch.len() > MOST_ROWS {
            let rows = step.batch.len();
            return Err(fail(format!(
                "{rows} tokens in one step; a device takes at most {MOST_ROWS}"
            )));
        }
        placed(step, self.blocks, config.max_positions)?;
        let adapters = self.adapters.of_rows(&self.gpu, config, step.batch)?;
        let is_adapted = !adapters.entries.is_empty();
        let group = config.num_heads / config.num_kv_heads;
        let recorded = recorded_rows(step);
        let inputs = Inputs::of(step, (group, recorded), self.blocks as BlockId);
        let rows = recorded.unwrap_or(step.batch.len());
        let need = Need {
            rows,
            draws: recorded.unwrap_or(step.draws.len()),
            inputs: inputs.numbers.len(),
            rank: adapters.most_rank,
        };
        self.fit(config, (need, &inputs))?;
        self.gpu
            .write(&mut self.buffers.inputs, 0, &inputs.numbers)?;
        if is_adapted {
            let mut entries = adapters.entries;
            entries.resize(rows, 0);
            self.gpu.write(&mut self.buffers.adapters, 0, &entries)?;
        }
        match recorded {
            None => self.pass(config, &inputs, is_adapted).run()?,
            Some(_) => self.repeat(config, &inputs, is_adapted)?,
        }
        self.tell(step.draws.len() * config.vocab_size, logits)
    }

    /// Makes room. Recorded steps are forgotten where what they reach has moved.
    fn fit(
        &mut self,
        config: &DecoderConfig,
        (need, inputs): (Need, &Inputs),
    ) -> Result<(), ModelError> {
        let shape = (config, self.attention_width(config));
        let moved = self.buffers.fit(&self.gpu, shape, need);
        // Some may have moved before there was no room for others.
        if !matches!(moved, Ok(false)) {
            self.graphs.clear();
        }
        moved?;
        let placement = inputs.on(&self.buffers.inputs).placement;
        if self.attention.fit(&self.gpu, &placement)? {
            self.graphs.clear();
        }
        Ok(())
    }

    fn attention_width(&self, config: &DecoderConfig) -> usize {
        // There is one, or the decoder would not have been made.
        Attention::width(config.head_dim).unwrap_or(config.head_dim)
    }

    fn pass<'a>(
        &'a self,
        config: &'a DecoderConfig,
        inputs: &Inputs,
        is_adapted: bool,
    ) -> Pass<'a> {
        Pass {
            gpu: &self.gpu,
            config,
            tensors: &self.tensors,
            rotations: &self.rotations,
            products: &self.products,
            attention: &self.attention,
            caches: &self.caches,
            buffers: &self.buffers,
            inputs: inputs.on(&self.buffers.inputs),
            is_adapted,
        }
    }

    /// Runs a step as it was recorded, or records it.
    fn repeat(
        &mut self,
        config: &DecoderConfig,
        inputs: &Inputs,
        is_adapted: bool,
    ) -> Result<(), ModelError> {
        let placement = inputs.on(&self.buffers.inputs).placement;
        let key = GraphKey {
            rows: placement.rows,
            parts: self.attention.parts_apart(&self.gpu, &placement),
            is_adapted,
        };
        if !self.graphs.contains_key(&key) {
            let pass = self.pass(config, inputs, is_adapted);
            let graph = self.gpu.record(|| pass.run())?;
            self.graphs.insert(key, graph);
        }
        match self.graphs.get_mut(&key) {
            Some(graph) => Ok(graph.launch()?),
            None => Ok(()),
        }
    }

    /// Waits for the step and copies its logits.
    fn tell(&mut self, count: usize, logits: &mut Vec<f32>) -> Result<(), ModelError> {
        if count > self.logits.capacity() {
            self.logits = self.gpu.pinned(count.next_power_of_two())?;
        }
        let fetched = self
            .gpu
            .fetch(&self.buffers.logits, count, &mut self.logits)?;
        logits.resize(count, 0.0);
        logits
            .par_chunks_mut(COPIED)
            .zip(fetched.par_chunks(COPIED))
            .for_each(|(to, from)| to.copy_from_slice(from));
        Ok(())
    }
}

/// Rows of the recorded step that serves a step of single tokens: a few more, so that few are recorded.
fn recorded_rows(step: ServedStep<'_>) -> Option<usize> {
    let rows = step.batch.len();
    let is_single = step.draws.len() == rows && step.batch.spans.len() == rows;
    (is_single && rows <= MOST_RECORDED).then(|| {
        let above = rows.next_power_of_two();
        let between = above / 4 * 3;
        if rows <= between && above >= 4 {
            between
        } else {
            above
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ForwardBatch;
    use crate::types::TokenId;

    /// Rows of the recorded step for spans of so many tokens each.
    fn rows(spans: &[usize]) -> Option<usize> {
        let mut batch = ForwardBatch::default();
        let tokens: Vec<TokenId> = vec![1; spans.iter().sum()];
        for len in spans {
            batch.push(&tokens[..*len], 0, None);
        }
        let draws: Vec<u32> = (0..spans.len() as u32).collect();
        recorded_rows(ServedStep {
            batch: &batch,
            tables: &[],
            draws: &draws,
        })
    }

    #[test]
    fn single_tokens_are_recorded_in_a_few_sizes() {
        for (count, expected) in [
            (1, 1),
            (2, 2),
            (3, 3),
            (4, 4),
            (5, 6),
            (7, 8),
            (9, 12),
            (13, 16),
        ] {
            assert_eq!(rows(&vec![1; count]), Some(expected), "{count}");
        }
        assert_eq!(rows(&[1, 2]), None, "a prompt");
        assert_eq!(rows(&vec![1; 257]), None, "too many");
    }
}
