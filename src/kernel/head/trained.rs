//! Log-probabilities under a weight that is trained.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::super::matmul::{Dims, Mode, Operand, gemm};
use super::super::storage::{elements, with_elements};
use super::{HeadSettings, logprob, logprob_and_slopes};

/// Gradients reach the hidden rows and the weight; logits are made again in backward.
pub(super) struct TokenLogprobs {
    pub(super) targets: Arc<[u32]>,
    pub(super) settings: HeadSettings,
    /// Whether the weight wants a gradient.
    pub(super) weight_grad: bool,
}

/// Rows whose logits exist at once.
const CHUNK: usize = 512;

impl TokenLogprobs {
    fn logits(&self, hidden: &[f32], weight: &[f32], width: usize, out: &mut [f32]) {
        let rows = hidden.len() / width;
        let vocabulary = weight.len() / width;
        let dims = Dims {
            m: rows,
            n: vocabulary,
            k: width,
        };
        let left = Operand::row_major(hidden, width);
        let right = Operand::row_major(weight, width).transposed();
        gemm(dims, left, right, out, self.settings.precision.into());
    }

    fn forward(&self, hidden: &[f32], weight: &[f32], width: usize) -> Vec<f32> {
        let vocabulary = weight.len() / width;
        let mut logits = vec![0f32; CHUNK.min(hidden.len() / width) * vocabulary];
        let mut out = Vec::with_capacity(self.targets.len());
        for (hidden, targets) in hidden.chunks(CHUNK * width).zip(self.targets.chunks(CHUNK)) {
            let logits = &mut logits[..targets.len() * vocabulary];
            self.logits(hidden, weight, width, logits);
            let rows = logits.par_chunks_mut(vocabulary).zip(targets.par_iter());
            out.par_extend(rows.map(|(row, target)| logprob(row, *target, self.settings.softcap)));
        }
        out
    }

    /// Gradients of hidden and, where asked, of weight.
    fn backward(
        &self,
        hidden: &[f32],
        weight: &[f32],
        grad: &[f32],
    ) -> (Vec<f32>, Option<Vec<f32>>) {
        let width = hidden.len() / self.targets.len();
        let vocabulary = weight.len() / width;
        let precision = self.settings.precision;
        let mut d_hidden = vec![0f32; hidden.len()];
        let mut d_weight = self.weight_grad.then(|| vec![0f32; weight.len()]);
        let mut logits = vec![0f32; CHUNK.min(self.targets.len()) * vocabulary];
        let chunks = hidden
            .chunks(CHUNK * width)
            .zip(d_hidden.chunks_mut(CHUNK * width))
            .zip(self.targets.chunks(CHUNK).zip(grad.chunks(CHUNK)));
        for ((hidden, d_hidden), (targets, grad)) in chunks {
            let rows = targets.len();
            let logits = &mut logits[..rows * vocabulary];
            self.logits(hidden, weight, width, logits);
            self.logit_gradients(logits, targets, grad);
            let left = Operand::row_major(logits, vocabulary);
            let right = Operand::row_major(weight, width);
            let dims = Dims {
                m: rows,
                n: width,
                k: vocabulary,
            };
            gemm(dims, left, right, d_hidden, precision.into());
            if let Some(d_weight) = &mut d_weight {
                let left = Operand::row_major(logits, vocabulary).transposed();
                let right = Operand::row_major(hidden, width);
                let dims = Dims {
                    m: vocabulary,
                    n: width,
                    k: rows,
                };
                gemm(
                    dims,
                    left,
                    right,
                    d_weight,
                    Mode {
                        precision,
                        accumulate: true,
                    },
                );
            }
        }
        (d_hidden, d_weight)
    }

    /// Replaces logits by the gradient with respect to the products before the soft-cap.
    fn logit_gradients(&self, logits: &mut [f32], targets: &[u32], grad: &[f32]) {
        let vocabulary = logits.len() / targets.len();
        let rows = targets.par_iter().zip(grad.par_iter());
        logits
            .par_chunks_mut(vocabulary)
            .zip(rows)
            .for_each(|(row, (target, grad))| {
                logprob_and_slopes(row, *target, self.settings.softcap);
                row.iter_mut().for_each(|d| *d *= grad);
            });
    }
}

impl CustomOp2 for TokenLogprobs {
    fn name(&self) -> &'static str {
        "token_logprobs"
    }

    fn cpu_fwd(
        &self,
        hidden: &CpuStorage,
        hidden_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = hidden_layout.shape().dims2()?;
        let hidden = elements(hidden, hidden_layout)?;
        let out = self.forward(hidden, elements(weight, weight_layout)?, width);
        Ok((CpuStorage::F32(out), Shape::from(rows)))
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        weight: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (d_hidden, d_weight) = with_elements(hidden, |hidden| {
            with_elements(weight, |weight| {
                with_elements(grad, |grad| self.backward(hidden, weight, grad))
            })
        })???;
        let d_hidden = Tensor::from_vec(d_hidden, hidden.shape(), hidden.device())?;
        let d_weight = d_weight
            .map(|d| Tensor::from_vec(d, weight.shape(), weight.device()))
            .transpose()?;
        Ok((Some(d_hidden), d_weight))
    }
}
