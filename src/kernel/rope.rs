//! Rotary position embedding (arXiv 2104.09864), in the half-split layout of Hugging Face models.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::storage::{elements, with_elements};

/// Cosines and sines of every position up to a limit.
pub struct RopeTable {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl RopeTable {
    /// Tabulates `positions` rows for the given inverse frequencies (radians a position).
    ///
    /// Twice as many dimensions of a head are rotated as there are frequencies; the rest pass
    /// through. `amplitude` scales what is rotated; 1 for all but YaRN.
    pub fn new(inverse_frequencies: &[f32], positions: usize, amplitude: f32) -> Self {
        let half = inverse_frequencies.len();
        let mut cos = Vec::with_capacity(positions * half);
        let mut sin = Vec::with_capacity(positions * half);
        for position in 0..positions {
            for frequency in inverse_frequencies {
                let angle = position as f32 * frequency;
                cos.push(angle.cos() * amplitude);
                sin.push(angle.sin() * amplitude);
            }
        }
        Self { cos, sin, half }
    }

    /// Rotates each head of a row by its position, which is within the table.
    pub(super) fn rotate(&self, row: &mut [f32], head_dim: usize, position: usize) {
        rotate(row, head_dim, self.angles(position));
    }

    /// Undoes `rotate`, for gradients.
    pub(super) fn rotate_back(&self, row: &mut [f32], head_dim: usize, position: usize) {
        let angles = self.angles(position);
        rotate(
            row,
            head_dim,
            Angles {
                sign: -1.0,
                ..angles
            },
        );
    }

    /// Cosines and sines of one position.
    fn angles(&self, position: usize) -> Angles<'_> {
        let at = position * self.half..(position + 1) * self.half;
        Angles {
            cos: &self.cos[at.clone()],
            sin: &self.sin[at],
            sign: 1.0,
        }
    }

    /// Refuses tokens of heads that this table cannot rotate.
    pub(super) fn check(
        &self,
        (tokens, head_dim): (usize, usize),
        positions: &[u32],
    ) -> Result<()> {
        if tokens != positions.len() {
            bail!("rope: {tokens} tokens but {} positions", positions.len());
        }
        if head_dim < 2 * self.half {
            bail!(
                "rope: head of {head_dim} is narrower than {} rotated dimensions",
                2 * self.half
            );
        }
        if let Some(position) = positions.iter().find(|p| **p as usize >= self.positions()) {
            bail!(
                "rope: position {position} is past the table's {} positions",
                self.positions()
            );
        }
        Ok(())
    }

    /// Number of positions tabulated.
    pub fn positions(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(0)
    }
}

/// By what the pairs of a head are rotated; a sign of -1 rotates back.
#[derive(Clone, Copy)]
struct Angles<'a> {
    cos: &'a [f32],
    sin: &'a [f32],
    sign: f32,
}

simd_dispatch! {
    fn rotate(row: &mut [f32], head_dim: usize, angles: Angles<'_>) = rotate_body;
}

/// One rounding a product whether there is a fused multiply-add or not.
#[inline(always)]
fn rotate_body<const FMA: bool>(row: &mut [f32], head_dim: usize, angles: Angles<'_>) {
    let Angles { cos, sin, sign } = angles;
    let half = cos.len();
    for head in row.chunks_exact_mut(head_dim) {
        let (low, rest) = head.split_at_mut(half);
        let (high, sin) = (&mut rest[..half], &sin[..half]);
        for i in 0..half {
            let (a, b, s) = (low[i], high[i], sign * sin[i]);
            low[i] = a * cos[i] - b * s;
            high[i] = b * cos[i] + a * s;
        }
    }
}

/// Rotates `x`, (tokens, heads, head_dim) f32, by each token's position.
pub fn rope(x: &Tensor, table: &Arc<RopeTable>, positions: &Arc<[u32]>) -> Result<Tensor> {
    let (tokens, _, head_dim) = x.dims3()?;
    table.check((tokens, head_dim), positions)?;
    let rotation = Rotation {
        table: table.clone(),
        positions: positions.clone(),
        inverse: false,
    };
    x.contiguous()?.apply_op1(rotation)
}

struct Rotation {
    table: Arc<RopeTable>,
    positions: Arc<[u32]>,
    inverse: bool,
}

impl Rotation {
    fn run(&self, x: &[f32], heads: usize, head_dim: usize) -> Vec<f32> {
        let mut out = x.to_vec();
        let sign = if self.inverse { -1.0 } else { 1.0 };
        out.par_chunks_mut(heads * head_dim)
            .zip(self.positions.par_iter())
            .with_min_len(16)
            .for_each(|(row, position)| {
                let angles = self.table.angles(*position as usize);
                rotate(row, head_dim, Angles { sign, ..angles });
            });
        out
    }
}

impl CustomOp1 for Rotation {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, heads, head_dim) = layout.shape().dims3()?;
        let out = self.run(elements(x, layout)?, heads, head_dim);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, _arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, heads, head_dim) = grad.dims3()?;
        let back = Rotation {
            table: self.table.clone(),
            positions: self.positions.clone(),
            inverse: !self.inverse,
        };
        let dx = with_elements(grad, |grad| back.run(grad, heads, head_dim))?;
        Ok(Some(Tensor::from_vec(dx, grad.shape(), grad.device())?))
    }
}
