//! The score head of causal models: a bias-free layer over the last token that is not padding.

use candle_core::Tensor;

use super::super::tensors::{TensorFiles, TensorSource};
use crate::model::ModelError;

const SCORE: &str = "score.weight";

/// `score.weight`, (labels, hidden).
pub(super) fn load_score(
    files: &mut TensorFiles,
    labels: usize,
    hidden: usize,
) -> Result<Tensor, ModelError> {
    files.tensor(SCORE, &[labels, hidden])
}

/// Scores of the chosen rows of hidden states, (rows, labels); differentiable.
pub(super) fn score_rows(
    score: &Tensor,
    hidden: &Tensor,
    rows: &Tensor,
) -> Result<Tensor, ModelError> {
    Ok(hidden.index_select(rows, 0)?.matmul(&score.t()?)?)
}
