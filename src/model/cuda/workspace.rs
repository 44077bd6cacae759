//! The buffers of passes on a device, kept from one to the next. They grow with the largest batch.

use crate::kernel::cuda::{Buffer, Gpu, Numbers, padded};

use super::super::ModelError;
use super::super::config::DecoderConfig;

/// Changes of adapters that are made at once: of queries, keys and values.
const CHANGES: usize = 3;

/// How much a pass needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) rows: usize,
    pub(super) draws: usize,
    /// Numbers of [`super::inputs::Inputs`].
    pub(super) inputs: usize,
    /// Largest rank of an adapter; 0 without any.
    pub(super) rank: usize,
}

/// What a pass works with. Nothing in it outlasts a pass but its memory, and the zeros behind the rows of
/// `normed`, `attended` and `gated`, which nobody writes to.
pub(super) struct Workspace {
    /// There is room for so much.
    room: Need,
    /// (rows, hidden) f32
    pub(super) x: Buffer<f32>,
    /// (rows, padded hidden) bf16
    pub(super) normed: Buffer<u16>,
    /// (rows, queries + keys + values) f32
    pub(super) qkv: Buffer<f32>,
    /// (rows, heads, width) bf16
    pub(super) queries: Buffer<u16>,
    /// (rows, padded heads · head_dim) bf16
    pub(super) attended: Buffer<u16>,
    /// (rows, hidden) f32
    pub(super) branch: Buffer<f32>,
    /// (rows, 2 · inner) f32
    pub(super) gate_up: Buffer<f32>,
    /// (rows, padded inner) bf16
    pub(super) gated: Buffer<u16>,
    /// (draws, vocabulary) f32
    pub(super) logits: Buffer<f32>,
    pub(super) inputs: Buffer<u32>,
    /// (rows,)
    pub(super) adapters: Buffer<u64>,
    /// (rows, CHANGES · rank) f32
    pub(super) low: Buffer<f32>,
}

impl Workspace {
    /// Without room for anything.
    pub(super) fn new(gpu: &Gpu) -> Result<Self, ModelError> {
        fn none<T: Numbers>(gpu: &Gpu) -> Result<Buffer<T>, ModelError> {
            Ok(gpu.zeros("", 0)?)
        }
        Ok(Self {
            room: Need {
                rows: 0,
                draws: 0,
                inputs: 0,
                rank: 0,
            },
            x: none(gpu)?,
            normed: none(gpu)?,
            qkv: none(gpu)?,
            queries: none(gpu)?,
            attended: none(gpu)?,
            branch: none(gpu)?,
            gate_up: none(gpu)?,
            gated: none(gpu)?,
            logits: none(gpu)?,
            inputs: none(gpu)?,
            adapters: none(gpu)?,
            low: none(gpu)?,
        })
    }

    /// The largest rank that there is room for.
    pub(super) fn rank(&self) -> usize {
        self.room.rank
    }

    /// Makes room, with some to spare. True if older addresses hold no more.
    pub(super) fn fit(
        &mut self,
        gpu: &Gpu,
        (config, width): (&DecoderConfig, usize),
        need: Need,
    ) -> Result<bool, ModelError> {
        let what = "a batch";
        let before = self.room;
        if need.inputs > before.inputs {
            self.inputs = gpu.zeros(what, need.inputs.next_power_of_two())?;
            self.room.inputs = self.inputs.len();
        }
        if need.draws > before.draws {
            let draws = need.draws.next_power_of_two();
            self.logits = gpu.zeros("logits", draws * config.vocab_size)?;
            self.room.draws = draws;
        }
        let grows = need.rows > before.rows;
        let rows = match grows {
            true => need.rows.next_power_of_two(),
            false => before.rows,
        };
        if grows {
            let queries = config.num_heads * config.head_dim;
            let keys = config.num_kv_heads * config.head_dim;
            let (hidden, inner) = (config.hidden_size, config.intermediate_size);
            self.x = gpu.zeros(what, rows * hidden)?;
            self.normed = gpu.zeros(what, rows * padded(hidden))?;
            self.qkv = gpu.zeros(what, rows * (queries + 2 * keys))?;
            self.queries = gpu.zeros(what, rows * config.num_heads * width)?;
            self.attended = gpu.zeros(what, rows * padded(queries))?;
            self.branch = gpu.zeros(what, rows * hidden)?;
            self.gate_up = gpu.zeros(what, rows * 2 * inner)?;
            self.gated = gpu.zeros(what, rows * padded(inner))?;
            self.adapters = gpu.zeros(what, rows)?;
        }
        let rank = before.rank.max(need.rank);
        if rank > before.rank || (grows && rank > 0) {
            self.low = gpu.zeros("adapters", rows * CHANGES * rank)?;
        }
        (self.room.rows, self.room.rank) = (rows, rank);
        Ok(self.room != before)
    }
}
