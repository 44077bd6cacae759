//! Log-probabilities of given next tokens, without keeping (tokens x vocabulary) in memory.
//!
//! Logits are made a chunk of rows at a time and made again in backward.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::math::{exp_shifted, max};
use super::matmul::{Dims, Mode, Operand, Precision, gemm};
use super::storage::{elements, wants_gradient, with_elements};

/// How logits follow from a hidden state.
#[derive(Debug, Clone, Copy)]
pub struct HeadSettings {
    /// Logits become `cap * tanh(logit / cap)`.
    pub softcap: Option<f32>,
    /// Arithmetic of the products.
    pub precision: Precision,
}

/// `log p(targets[i] | hidden[i])` for each row, f32.
///
/// `hidden` is (rows, width), `weight` the output embedding, (vocabulary, width).
pub fn token_logprobs(
    hidden: &Tensor,
    weight: &Tensor,
    targets: &Arc<[u32]>,
    settings: HeadSettings,
) -> Result<Tensor> {
    let (rows, vocabulary) = (hidden.dim(0)?, weight.dim(0)?);
    if rows != targets.len() {
        bail!("token_logprobs: {rows} rows but {} targets", targets.len());
    }
    if let Some(target) = targets.iter().find(|t| **t as usize >= vocabulary) {
        bail!("token_logprobs: target {target} is outside the vocabulary of {vocabulary}");
    }
    let op = TokenLogprobs {
        targets: targets.clone(),
        settings,
        weight_grad: wants_gradient(weight),
    };
    hidden.contiguous()?.apply_op2(&weight.contiguous()?, op)
}

struct TokenLogprobs {
    targets: Arc<[u32]>,
    settings: HeadSettings,
    weight_grad: bool,
}

/// Rows whose logits exist at once.
const CHUNK: usize = 512;

simd_dispatch! {
    /// Turns logits into probabilities in place and writes the log of the normaliser.
    fn softmax_row(row: &mut [f32], log_normaliser: &mut f32) = softmax_body;
}

#[inline(always)]
fn softmax_body<const FMA: bool>(row: &mut [f32], log_normaliser: &mut f32) {
    let top = max(row);
    let total = exp_shifted::<FMA>(row, top);
    let inverse = 1.0 / total;
    row.iter_mut().for_each(|p| *p *= inverse);
    *log_normaliser = top + total.ln();
}

impl TokenLogprobs {
    fn logits(&self, hidden: &[f32], weight: &[f32], width: usize, out: &mut [f32]) {
        let rows = hidden.len() / width;
        let vocabulary = weight.len() / width;
        let dims = Dims {
            m: rows,
            n: vocabulary,
            k: width,
        };
        let left = Operand {
            data: hidden,
            row_stride: width,
            col_stride: 1,
        };
        let right = Operand {
            data: weight,
            row_stride: 1,
            col_stride: width,
        };
        gemm(dims, left, right, out, self.settings.precision.into());
        if let Some(cap) = self.settings.softcap {
            out.par_iter_mut()
                .for_each(|x| *x = cap * (*x / cap).tanh());
        }
    }

    fn forward(&self, hidden: &[f32], weight: &[f32], width: usize) -> Vec<f32> {
        let vocabulary = weight.len() / width;
        let mut logits = vec![0f32; CHUNK.min(hidden.len() / width) * vocabulary];
        let mut out = Vec::with_capacity(self.targets.len());
        for (hidden, targets) in hidden.chunks(CHUNK * width).zip(self.targets.chunks(CHUNK)) {
            let logits = &mut logits[..targets.len() * vocabulary];
            self.logits(hidden, weight, width, logits);
            let rows = logits.par_chunks_mut(vocabulary).zip(targets.par_iter());
            out.par_extend(rows.map(|(row, target)| {
                let chosen = row[*target as usize];
                let mut log_normaliser = 0.0;
                softmax_row(row, &mut log_normaliser);
                chosen - log_normaliser
            }));
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
            let left = Operand {
                data: logits,
                row_stride: vocabulary,
                col_stride: 1,
            };
            let right = Operand {
                data: weight,
                row_stride: width,
                col_stride: 1,
            };
            let dims = Dims {
                m: rows,
                n: width,
                k: vocabulary,
            };
            gemm(dims, left, right, d_hidden, precision.into());
            if let Some(d_weight) = &mut d_weight {
                let left = Operand {
                    data: logits,
                    row_stride: 1,
                    col_stride: vocabulary,
                };
                let right = Operand {
                    data: hidden,
                    row_stride: width,
                    col_stride: 1,
                };
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
                let slopes: Option<Vec<f32>> = self
                    .settings
                    .softcap
                    .map(|cap| row.iter().map(|x| 1.0 - (x / cap) * (x / cap)).collect());
                softmax_row(row, &mut 0.0);
                row.iter_mut().for_each(|p| *p *= -grad);
                row[*target as usize] += grad;
                if let Some(slopes) = slopes {
                    row.iter_mut()
                        .zip(slopes)
                        .for_each(|(d, slope)| *d *= slope);
                }
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
