//! Rotary position embedding (arXiv 2104.09864), in the half-split layout of Hugging Face models.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::storage::{elements, with_elements};

/// Positions that are tabulated together.
const PART: usize = 1024;

/// Cosines and sines of every position up to a limit, tabulated where they are first asked for: a
/// model may state a context that nobody will ever fill.
pub struct RopeTable {
    parts: Box<[OnceLock<Part>]>,
    inverse_frequencies: Box<[f32]>,
    positions: usize,
    amplitude: f32,
}

/// Cosines and sines of neighbouring positions, (positions, half).
struct Part {
    cos: Box<[f32]>,
    sin: Box<[f32]>,
}

impl RopeTable {
    /// A table of `positions` rows for the given inverse frequencies (radians a position).
    ///
    /// Twice as many dimensions of a head are rotated as there are frequencies; the rest pass
    /// through. `amplitude` scales what is rotated; 1 for all but YaRN.
    pub fn new(inverse_frequencies: &[f32], positions: usize, amplitude: f32) -> Self {
        let parts = positions.div_ceil(PART);
        Self {
            parts: (0..parts).map(|_| OnceLock::new()).collect(),
            inverse_frequencies: inverse_frequencies.into(),
            positions,
            amplitude,
        }
    }

    fn tabulate(&self, positions: Range<usize>) -> Part {
        let angles = || {
            positions.clone().flat_map(|position| {
                let frequencies = self.inverse_frequencies.iter();
                frequencies.map(move |frequency| position as f32 * frequency)
            })
        };
        Part {
            cos: angles().map(|a| a.cos() * self.amplitude).collect(),
            sin: angles().map(|a| a.sin() * self.amplitude).collect(),
        }
    }

    fn half(&self) -> usize {
        self.inverse_frequencies.len()
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
        let (part, row) = (position / PART, position % PART);
        let part = self.parts[part].get_or_init(|| {
            let first = part * PART;
            self.tabulate(first..(first + PART).min(self.positions))
        });
        let at = row * self.half()..(row + 1) * self.half();
        Angles {
            cos: &part.cos[at.clone()],
            sin: &part.sin[at],
            sign: 1.0,
        }
    }

    /// Cosines and sines of the first positions, (positions, half), and how many there are of each.
    #[cfg(feature = "cuda")]
    pub(super) fn first(&self, positions: usize) -> (Box<[f32]>, Box<[f32]>, usize) {
        let Part { cos, sin } = self.tabulate(0..positions.min(self.positions));
        (cos, sin, self.half())
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
        if head_dim < 2 * self.half() {
            bail!(
                "rope: head of {head_dim} is narrower than {} rotated dimensions",
                2 * self.half()
            );
        }
        if let Some(position) = positions.iter().find(|p| **p as usize >= self.positions) {
            bail!(
                "rope: position {position} is past the table's {} positions",
                self.positions
            );
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_for_is_tabulated() {
        let table = RopeTable::new(&[1.0, 0.01], 3 * PART + 5, 2.0);
        for position in [0, PART - 1, PART, 3 * PART + 4] {
            let angles = table.angles(position);
            let angle = position as f32 * 0.01;
            assert_eq!(
                (angles.cos[1], angles.sin[1]),
                (angle.cos() * 2.0, angle.sin() * 2.0)
            );
        }
        let made: Vec<bool> = table
            .parts
            .iter()
            .map(|part| part.get().is_some())
            .collect();
        assert_eq!(made, [true, true, false, true]);
        assert!(table.check((1, 4), &[3 * PART as u32 + 4]).is_ok());
        assert!(table.check((1, 4), &[3 * PART as u32 + 5]).is_err());
    }
}
