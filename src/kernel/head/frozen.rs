//! Log-probabilities under a frozen weight.
//!
//! Only the hidden rows get a gradient, and it is a number of the loss times a row that the logits
//! alone decide: that row is made while the logits exist, so that backward makes none of them again.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::super::matmul::{PackedMatrix};
use super::super::storage::{elements, with_elements};
use super::{logprob, logprob_and_slopes};

pub(super) struct FrozenLogprobs {
    packed: Arc<PackedMatrix>,
    back: Arc<PackedMatrix>,
    targets: Arc<[u32]>,
    softcap: Option<f32>,
    keeps_slopes: bool,
    /// (rows, width): slopes of each row's log-probability with respect to its hidden state.
    slopes: OnceLock<Vec<f32>>,
}

/// Logits that exist at once, about: 16 MiB, so that they are still in a cache when they are read.
const CHUNK: usize = 1 << 22;
/// Fewest and most rows of a chunk; multiples of a register tile's rows.
const ROWS: (usize, usize) = (48, 480);

impl FrozenLogprobs {
    pub(super) fn new(
        packed: Arc<PackedMatrix>,
        back: Arc<PackedMatrix>,
        targets: Arc<[u32]>,
        softcap: Option<f32>,
    ) -> Self {
        Self {
            packed,
            back,
            targets,
            softcap,
            keeps_slopes: false,
            slopes: OnceLock::new(),
        }
    }

    /// Whether there will be a way back.
    pub(super) fn keeping_slopes(self, keeps_slopes: bool) -> Self {
        Self {
            keeps_slopes,
            ..self
        }
    }

    fn forward(&self, hidden: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (vocabulary, width) = (self.packed.out_features(), self.packed.in_features());
        let rows = (CHUNK / vocabulary / 12 * 12).clamp(ROWS.0, ROWS.1);
        let mut logits = vec![0f32; rows.min(self.targets.len()) * vocabulary];
        let mut out = Vec::with_capacity(self.targets.len());
        let mut slopes = vec![0f32; if self.keeps_slopes { hidden.len() } else { 0 }];
        for (index, targets) in self.targets.chunks(rows).enumerate() {
            let logits = &mut logits[..targets.len() * vocabulary];
            let here = index * rows * width..(index * rows + targets.len()) * width;
            self.packed
                .matmul_into(&hidden[here.clone()], targets.len(), logits);
            let each = logits.par_chunks_mut(vocabulary).zip(targets.par_iter());
            if self.keeps_slopes {
                out.par_extend(
                    each.map(|(row, target)| logprob_and_slopes(row, *target, self.softcap)),
                );
                self.back
                    .matmul_into(logits, targets.len(), &mut slopes[here]);
            } else {
                out.par_extend(each.map(|(row, target)| logprob(row, *target, self.softcap)));
            }
        }
        (out, slopes)
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
        let (out, slopes) = self.forward(elements(hidden, layout)?);
        if self.keeps_slopes {
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
        let mut d_hidden = slopes.clone();
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
