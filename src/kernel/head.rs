//! Log-probabilities of given next tokens, without keeping (tokens x vocabulary) in memory: logits
//! are made a chunk of rows at a time.

mod frozen;
mod trained;

use std::sync::{Arc, OnceLock};

use candle_core::{Result, Tensor, bail};

use super::buffers::BufferPool;
use super::math::{exp_shifted, max};
use super::matmul::{PackedMatrix, Precision};
use super::storage::wants_gradient;
use frozen::FrozenLogprobs;
use trained::TokenLogprobs;

/// How logits follow from a hidden state.
#[derive(Debug, Clone, Copy)]
pub struct HeadSettings {
    /// Logits become `cap * tanh(logit / cap)`.
    pub softcap: Option<f32>,
    /// Arithmetic of the products with a weight that is no packed one.
    pub precision: Precision,
}

/// The output embedding, (vocabulary, width).
#[derive(Clone, Copy)]
pub enum HeadWeight<'a> {
    /// A tensor, to which a gradient may go.
    Tensor(&'a Tensor),
    /// Packed, and its transpose packed for gradients of the hidden states.
    Frozen {
        /// For logits.
        packed: &'a Arc<PackedMatrix>,
        /// For gradients.
        back: &'a Arc<PackedMatrix>,
        /// Where logits lie while they exist.
        buffers: &'a Arc<BufferPool>,
    },
}

impl HeadWeight<'_> {
    fn vocabulary(self) -> Result<usize> {
        match self {
            Self::Tensor(weight) => weight.dim(0),
            Self::Frozen { packed, .. } => Ok(packed.out_features()),
        }
    }
}

/// `log p(targets[i] | hidden[i])` for each row, f32; `hidden` is (rows, width).
pub fn token_logprobs(
    hidden: &Tensor,
    weight: HeadWeight<'_>,
    targets: &Arc<[u32]>,
    settings: HeadSettings,
) -> Result<Tensor> {
    let (rows, vocabulary) = (hidden.dim(0)?, weight.vocabulary()?);
    if rows != targets.len() {
        bail!("token_logprobs: {rows} rows but {} targets", targets.len());
    }
    if let Some(target) = targets.iter().find(|t| **t as usize >= vocabulary) {
        bail!("token_logprobs: target {target} is outside the vocabulary of {vocabulary}");
    }
    let hidden = hidden.contiguous()?;
    let targets = Arc::clone(targets);
    match weight {
        HeadWeight::Tensor(weight) => {
            let op = TokenLogprobs {
                targets,
                settings,
                weight_grad: wants_gradient(weight),
            };
            hidden.apply_op2(&weight.contiguous()?, op)
        }
        HeadWeight::Frozen {
            packed,
            back,
            buffers,
        } => {
            let op = FrozenLogprobs {
                packed: Arc::clone(packed),
                back: Arc::clone(back),
                buffers: Arc::clone(buffers),
                targets,
                softcap: settings.softcap,
                keeps_slopes: wants_gradient(&hidden),
                slopes: OnceLock::new(),
            };
            hidden.apply_op1(op)
        }
    }
}

simd_dispatch! {
    /// Turns logits into negative probabilities in place and writes the log of the normaliser.
    fn negative_softmax(row: &mut [f32], log_normaliser: &mut f32) = negative_softmax_body;
}

#[inline(always)]
fn negative_softmax_body<const FMA: bool>(row: &mut [f32], log_normaliser: &mut f32) {
    let top = max(row);
    let total = exp_shifted::<FMA>(row, top);
    let factor = -1.0 / total;
    row.iter_mut().for_each(|p| *p *= factor);
    *log_normaliser = top + total.ln();
}

simd_dispatch! {
    /// Writes the log of the sum of exponentials; the row's contents are lost.
    fn log_sum_exp(row: &mut [f32], log_normaliser: &mut f32) = log_sum_exp_body;
}

#[inline(always)]
fn log_sum_exp_body<const FMA: bool>(row: &mut [f32], log_normaliser: &mut f32) {
    let top = max(row);
    *log_normaliser = top + exp_shifted::<FMA>(row, top).ln();
}

fn soft_cap(row: &mut [f32], softcap: Option<f32>) {
    if let Some(cap) = softcap {
        row.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
    }
}

/// The log-probability of `target` under a row of products, whose contents are lost.
fn logprob(row: &mut [f32], target: u32, softcap: Option<f32>) -> f32 {
    soft_cap(row, softcap);
    let chosen = row[target as usize];
    let mut log_normaliser = 0.0;
    log_sum_exp(row, &mut log_normaliser);
    chosen - log_normaliser
}

/// The same; the row becomes the log-probability's slopes with respect to its products.
fn logprob_and_slopes(row: &mut [f32], target: u32, softcap: Option<f32>) -> f32 {
    soft_cap(row, softcap);
    let chosen = row[target as usize];
    let cap_slopes: Option<Vec<f32>> =
        softcap.map(|cap| row.iter().map(|x| 1.0 - (x / cap) * (x / cap)).collect());
    let mut log_normaliser = 0.0;
    negative_softmax(row, &mut log_normaliser);
    row[target as usize] += 1.0;
    if let Some(slopes) = cap_slopes {
        row.iter_mut()
            .zip(slopes)
            .for_each(|(d, slope)| *d *= slope);
    }
    chosen - log_normaliser
}
