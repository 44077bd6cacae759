//! Small dense blocks of one head: gathered, multiplied, made into probabilities.

use std::ops::Range;

use super::super::math::{exp_shifted, max, mul_add};
use super::{AttentionShape, SpanRange};

/// Rows computed together; with 16 columns they fill eight vector registers.
pub(super) const ROWS: usize = 8;
pub(super) const COLS: usize = 16;

pub(super) fn padded(n: usize, to: usize) -> usize {
    n.div_ceil(to) * to
}

/// The heads of all tokens inside rows that may be wider: number `d` of a token's head lies at
/// `token * stride + head * head_dim + d`.
#[derive(Clone, Copy)]
pub(in super::super) struct HeadRows<'a> {
    pub(in super::super) data: &'a [f32],
    pub(in super::super) stride: usize,
}

impl<'a> HeadRows<'a> {
    /// Rows of these heads alone.
    pub(in super::super) const fn dense(data: &'a [f32], stride: usize) -> Self {
        Self { data, stride }
    }

    /// Rows whose heads begin at number `first` of each.
    pub(in super::super) fn from(data: &'a [f32], first: usize, stride: usize) -> Self {
        let data = data.get(first..).unwrap_or_default();
        Self { data, stride }
    }
}

/// One sequence's view of q, k, v (or a gradient) for one head, copied out and padded.
pub(super) struct HeadMatrix {
    /// (tokens padded to ROWS and COLS, head_dim padded to COLS), row-major.
    pub(super) rows: Vec<f32>,
    pub(super) width: usize,
}

impl HeadMatrix {
    pub(super) fn gather(from: HeadRows<'_>, span: SpanRange, head: usize, dim: usize) -> Self {
        let width = padded(dim, COLS);
        let mut rows = vec![0f32; padded(span.len, COLS) * width];
        for (i, row) in rows.chunks_exact_mut(width).take(span.len).enumerate() {
            let at = (span.start + i) * from.stride + head * dim;
            row[..dim].copy_from_slice(&from.data[at..at + dim]);
        }
        Self { rows, width }
    }

    pub(super) fn scaled(mut self, factor: f32) -> Self {
        self.rows.iter_mut().for_each(|x| *x *= factor);
        self
    }

    /// (width, tokens padded), row-major.
    pub(super) fn transposed(&self) -> Self {
        let count = self.rows.len() / self.width;
        let mut rows = vec![0f32; self.rows.len()];
        for (i, row) in self.rows.chunks_exact(self.width).enumerate() {
            for (d, x) in row.iter().enumerate() {
                rows[d * count + i] = *x;
            }
        }
        Self { rows, width: count }
    }
}

/// Left operand of a block product: element (r, k) is `data[offset + r * row + k * col]`.
pub(super) struct Left<'a> {
    pub(super) data: &'a [f32],
    pub(super) offset: usize,
    pub(super) row: usize,
    pub(super) col: usize,
}

/// `out[r][c] = sum over k in ks of left(r, k) * right[k][c]` for ROWS rows and `cols`.
#[inline(always)]
pub(super) fn block_product<const FMA: bool>(
    left: Left<'_>,
    right: &HeadMatrix,
    ks: Range<usize>,
    cols: Range<usize>,
    out: &mut [f32],
) {
    let stride = out.len() / ROWS;
    for col in cols.step_by(COLS) {
        let mut sums = [[0f32; COLS]; ROWS];
        for k in ks.clone() {
            let at = k * right.width + col;
            let b = &right.rows[at..at + COLS];
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = left.data[left.offset + r * left.row + k * left.col];
                for c in 0..COLS {
                    sums[c] = mul_add::<FMA>(a, b[c], sums[c]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            out[r * stride + col..r * stride + col + COLS].copy_from_slice(sums);
        }
    }
}

/// Scores and probabilities of ROWS queries starting at `first`.
pub(super) struct ScoreBlock {
    pub(super) first: usize,
    /// Keys that any of the rows sees, widened to whole column blocks.
    pub(super) keys: Range<usize>,
}

impl ScoreBlock {
    pub(super) fn at(first: usize, len: usize, shape: &AttentionShape) -> Self {
        let last = (first + ROWS).min(len) - 1;
        let low = shape.first_visible(first) / COLS * COLS;
        Self {
            first,
            keys: low..padded(last + 1, COLS),
        }
    }

    pub(super) fn rows(&self, len: usize) -> Range<usize> {
        self.first..(self.first + ROWS).min(len)
    }
}

/// Fills `p` (ROWS x padded tokens) with probabilities; entries that a row may not see become 0.
#[inline(always)]
pub(super) fn probabilities<const FMA: bool>(
    q: &HeadMatrix,
    k_transposed: &HeadMatrix,
    block: &ScoreBlock,
    head: (&AttentionShape, usize),
    p: &mut [f32],
) {
    let (shape, len) = head;
    let stride = p.len() / ROWS;
    let left = Left {
        data: &q.rows,
        offset: block.first * q.width,
        row: q.width,
        col: 1,
    };
    block_product::<FMA>(left, k_transposed, 0..q.width, block.keys.clone(), p);
    for i in block.rows(len) {
        let row = &mut p[(i - block.first) * stride..][..stride];
        let visible = shape.first_visible(i)..i + 1;
        row[block.keys.start..visible.start].fill(0.0);
        row[visible.end..block.keys.end].fill(0.0);
        let scores = &mut row[visible];
        if let Some(cap) = shape.softcap {
            scores.iter_mut().for_each(|s| *s = cap * (*s / cap).tanh());
        }
        let top = max(scores);
        let total = exp_shifted::<FMA>(scores, top);
        scores.iter_mut().for_each(|s| *s /= total);
    }
    for row in block.rows(len).len()..ROWS {
        p[row * stride..][block.keys.clone()].fill(0.0);
    }
}
