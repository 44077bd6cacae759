//! Adapters on a device, kept as long as somebody may ask for them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use candle_core::Tensor;

use crate::kernel::cuda::{Buffer, Gpu, LowRankEntry};
use crate::kernel::with_elements;

use super::super::ModelError;
use super::super::batch::ForwardBatch;
use super::super::config::DecoderConfig;
use super::super::lora::{LoraAdapter, LoraPair};
use super::super::serving::{SLOTS, place_of_module};
use super::fail;

/// One adapter's pairs.
struct DeviceAdapter {
    /// (layers, SLOTS)
    entries: Buffer<LowRankEntry>,
    /// What the entries point to.
    _numbers: Vec<Buffer<f32>>,
    most_rank: usize,
}

/// Those that were asked for, by their generations.
#[derive(Default)]
pub(super) struct DeviceAdapters {
    kept: HashMap<u64, (Weak<LoraAdapter>, DeviceAdapter)>,
}

/// For each row the address of its adapter's entries, or 0; and the largest rank.
#[derive(Debug, Default)]
pub(super) struct RowAdapters {
    pub(super) entries: Vec<u64>,
    pub(super) most_rank: usize,
}

impl DeviceAdapters {
    /// The adapters of a batch's rows, uploaded where they are new; no entries where no row has one.
    /// Nothing that was launched is under way.
    pub(super) fn of_rows(
        &mut self,
        gpu: &Gpu,
        config: &DecoderConfig,
        batch: &ForwardBatch,
    ) -> Result<RowAdapters, ModelError> {
        let mut rows = RowAdapters::default();
        if batch.spans.iter().all(|span| span.adapter.is_none()) {
            return Ok(rows);
        }
        for span in &batch.spans {
            let address = match &span.adapter {
                None => 0,
                Some(adapter) => {
                    let kept = self.keep(gpu, config, adapter)?;
                    rows.most_rank = rows.most_rank.max(kept.most_rank);
                    kept.entries.at(0)
                }
            };
            rows.entries.extend(std::iter::repeat_n(address, span.len));
        }
        Ok(rows)
    }

    fn keep(
        &mut self,
        gpu: &Gpu,
        config: &DecoderConfig,
        adapter: &Arc<LoraAdapter>,
    ) -> Result<&DeviceAdapter, ModelError> {
        let generation = adapter.generation().ok_or_else(|| {
            fail("an adapter in training changes; it is served on the CPU only".to_owned())
        })?;
        if !self.kept.contains_key(&generation) {
            self.kept.retain(|_, (owner, _)| owner.strong_count() > 0);
            let uploaded = upload(gpu, config, adapter)?;
            let owner = Arc::downgrade(adapter);
            self.kept.insert(generation, (owner, uploaded));
        }
        Ok(&self.kept[&generation].1)
    }
}

fn upload(
    gpu: &Gpu,
    config: &DecoderConfig,
    adapter: &LoraAdapter,
) -> Result<DeviceAdapter, ModelError> {
    let mut entries = vec![LowRankEntry::default(); config.num_layers() * SLOTS];
    let (mut numbers, mut most_rank) = (Vec::new(), 0);
    for (path, pair) in adapter.pairs() {
        let LoraPair { a, b, scale } = pair;
        let stray = || ModelError::Tensor {
            name: path.to_owned(),
            reason: "has no place in this decoder's linear layers".into(),
        };
        let (layer, slot) = place_of_module(path).ok_or_else(stray)?;
        let entry = entries
            .get_mut(layer * SLOTS + slot as usize)
            .ok_or_else(stray)?;
        let mut upload = |tensor: &Tensor| -> Result<u64, ModelError> {
            let buffer = with_elements(tensor, |it| gpu.upload("an adapter", it))??;
            numbers.push(buffer);
            Ok(numbers[numbers.len() - 1].at(0))
        };
        let rank = a.dim(0)?;
        most_rank = most_rank.max(rank);
        *entry = LowRankEntry {
            down: upload(a)?,
            // (rank, out): neighbouring threads read neighbouring outputs
            up: upload(&b.t()?.contiguous()?)?,
            rank: rank as u32,
            scale: *scale as f32,
        };
    }
    Ok(DeviceAdapter {
        entries: gpu.upload("an adapter", &entries)?,
        _numbers: numbers,
        most_rank,
    })
}
