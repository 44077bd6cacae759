//! Log-probabilities under a frozen weight.
//!
//! Only the hidden rows get a gradient, and it is a number of the loss times a row that the logits
//! alone decide: that row is made while the logits exist, so that backward makes none of them again.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::super::buffers::{Buffer, BufferPool};
use super::super::matmul::{PackedMatrix, TILE_ROWS};
use super::super::storage::{elements, with_elements};
use super::{logprob, logprob_and_slopes};

pub(super) struct FrozenLogprobs {
    pub(super) packed: Arc<PackedMatrix>,
    /// Its transpose.
    pub(super) back: Arc<PackedMatrix>,
    pub(super) buffers: Arc<BufferPool>,
    pub(super) targets: Arc<[u32]>,
    pub(super) softcap: Option<f32>,
    /// Whether there will be a way back.
    pub(super) keeps_slopes: bool,
    /// (rows, width): slopes of each row's log-probability with respect to its hidden state.
    pub(super) slopes: OnceLock<Buffer>,
}

/// Logits that exist at once, about: 16 MiB, so that they are still in a cache when they are read.
const CHUNK: usize = 1 << 22;
/// Fewest and most rows of a chunk.
const ROWS: (usize, usize) = (48, 512);

impl FrozenLogprobs {
    /// Rows of each chunk: whole register tiles, and chunks that are about as large as each other.
    fn rows_at_once(&self) -> usize {
        let most = (CHUNK / self.packed.out_features()).clamp(ROWS.0, ROWS.1);
        let rows = self.targets.len();
        let chunks = rows.div_ceil(most).max(1);
        rows.div_ceil(chunks).next_multiple_of(TILE_ROWS)
    }

    fn forward(&self, hidden: &[f32], slopes: Option<&mut [f32]>) -> Vec<f32> {
        let (vocabulary, width) = (self.packed.out_features(), self.packed.in_features());
        let rows = self.rows_at_once();
        let mut logits = self.buffers.lend(rows.min(self.targets.len()) * vocabulary);
        let mut out = Vec::with_capacity(self.targets.len());
        let mut slopes = slopes.map(|slopes| slopes.chunks_mut(rows * width));
        for (hidden, targets) in hidden.chunks(rows * width).zip(self.targets.chunks(rows)) {
            let logits = &mut logits[..targets.len() * vocabulary];
            self.packed.matmul_into(hidden, targets.len(), logits);
            let each = logits.par_chunks_mut(vocabulary).zip(targets.par_iter());
            if let Some(slopes) = slopes.as_mut().and_then(Iterator::next) {
                out.par_extend(
                    each.map(|(row, target)| logprob_and_slopes(row, *target, self.softcap)),
                );
                self.back.matmul_into(logits, targets.len(), slopes);
            } else {
                out.par_extend(each.map(|(row, target)| logprob(row, *target, self.softcap)));
            }
        }
        out
    }
}

impl CustomOp1 for FrozenLogprobs {
    fn name(&self) -> &'static str {
        "frozen_token_logprobs"
    }

    fn cpu_fwd(&self, hidden: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        if width != self.packed.in_features() {
            bail!(
                "token_logprobs: hidden states of {width} against a weight of {}",
                self.packed.in_features()
            );
        }
        let hidden = elements(hidden, layout)?;
        let mut slopes = self.keeps_slopes.then(|| self.buffers.lend(hidden.len()));
        let out = self.forward(hidden, slopes.as_deref_mut());
        if let Some(slopes) = slopes {
            // an operation runs once
            let _ = self.slopes.set(slopes);
        }
        Ok((CpuStorage::F32(out), Shape::from(rows)))
    }

    fn bwd(&self, hidden: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let Some(slopes) = self.slopes.get() else {
            bail!("token_logprobs: the forward pass kept nothing for a way back");
        };
        let width = self.packed.in_features();
        let mut d_hidden = slopes.to_vec();
        with_elements(grad, |grad| {
            d_hidden
                .par_chunks_mut(width)
                .zip(grad.par_iter())
                .with_min_len(16)
                .for_each(|(row, grad)| row.iter_mut().for_each(|d| *d *= grad));
        })?;
        let d_hidden = Tensor::from_vec(d_hidden, hidden.shape(), hidden.device())?;
        Ok(Some(d_hidden))
    }
}
