//! The matrix multiply under training and serving: packed panels, register tiles, one tier per instruction set.
//!
//! Every output element is one chain of multiply-adds over the inner dimension, in ascending order, whatever
//! the number of rows, threads or tiles. Inside one tier a row alone therefore equals that row in any batch, bit for bit.

mod ahead;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocks;
mod columns;
mod driver;
mod form;
mod linear;
mod out;
mod packed;
mod packing;
mod portable;
mod source;
mod sum;
mod tier;

#[cfg(test)]
mod tests;

pub use blocks::Bits;
pub use linear::{frozen_linear, linear, linear_onto};
pub use packed::PackedMatrix;
pub use packing::Packing;
pub(in crate::kernel) use sum::{Product, sum_of_products};

use form::Form;
use out::OutBlock;
use source::Source;
use tier::Tier;

/// Columns of one packed panel, and of one register tile.
const PANEL: usize = 32;
/// Most rows of one register tile.
pub(in crate::kernel) const TILE_ROWS: usize = 12;

/// In what numbers the products are taken; sums are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Plain f32 multiply-adds.
    F32,
    /// Both operands rounded to bf16 (nearest, ties to even), products summed in f32.
    Bf16,
}

impl Precision {
    /// Its usual name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// Whether this processor has kernels for it that work on vectors.
    #[must_use]
    pub fn has_vectors(self) -> bool {
        Tier::detect() != Tier::Portable
    }

    /// How the right-hand operand is packed.
    const fn form(self) -> Form {
        match self {
            Self::F32 => Form::F32,
            Self::Bf16 => Form::Pairs,
        }
    }
}

/// The three sizes of a product: `out[m, n] = A[m, k] · B[k, n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Rows of the output.
    pub m: usize,
    /// Columns of the output.
    pub n: usize,
    /// The inner dimension.
    pub k: usize,
}

/// How a product is taken and what becomes of the output's old contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// In what numbers the products are taken.
    pub precision: Precision,
    /// Add to what the output holds instead of replacing it.
    pub accumulate: bool,
}

impl From<Precision> for Mode {
    fn from(precision: Precision) -> Self {
        Self {
            precision,
            accumulate: false,
        }
    }
}

/// A matrix as a strided view: element `(row, column)` lies at `row * row_stride + column * col_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    /// The numbers.
    pub data: &'a [f32],
    /// Distance between rows.
    pub row_stride: usize,
    /// Distance between columns.
    pub col_stride: usize,
}

impl<'a> Operand<'a> {
    /// A row-major matrix of `columns` columns.
    #[must_use]
    pub const fn row_major(data: &'a [f32], columns: usize) -> Self {
        Self {
            data,
            row_stride: columns,
            col_stride: 1,
        }
    }

    /// The same numbers, read as the transposed matrix.
    #[must_use]
    pub const fn transposed(self) -> Self {
        Self {
            data: self.data,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }
}

/// Where a product goes: rows of a matrix that begin `stride` numbers apart. Less than `stride` columns of it are
/// some of a wider matrix.
pub(in crate::kernel) struct Target<'a> {
    /// From the first element on.
    pub(in crate::kernel) data: &'a mut [f32],
    /// Distance between rows.
    pub(in crate::kernel) stride: usize,
}

/// `out[m, n] = A[m, k] · B[k, n]` (or `+=`, by the mode), with `out` row-major and dense.
///
/// # Panics
/// If an operand or `out` does not hold what `dims` and the strides reach.
pub fn gemm(dims: Dims, a: Operand<'_>, b: Operand<'_>, out: &mut [f32], mode: Mode) {
    let Dims { m, n, .. } = dims;
    assert_eq!(
        Some(out.len()),
        m.checked_mul(n),
        "the output of a {m}x{n} product has the wrong length"
    );
    let out = Target {
        data: out,
        stride: n,
    };
    gemm_into(dims, (a, b), out, mode);
}

/// As `gemm`, to rows that lie apart.
///
/// # Panics
/// If an operand or `out` does not hold what `dims` and the strides reach.
pub(in crate::kernel) fn gemm_into(
    dims: Dims,
    operands: (Operand<'_>, Operand<'_>),
    out: Target<'_>,
    mode: Mode,
) {
    gemm_on(Tier::detect(), (dims, mode), operands, out);
}

fn gemm_on(
    tier: Tier,
    (dims, mode): (Dims, Mode),
    (a, b): (Operand<'_>, Operand<'_>),
    out: Target<'_>,
) {
    let Dims { m, n, k } = dims;
    let rows = Source::new(a.data, (m, a.row_stride), (k, a.col_stride));
    let columns = Source::new(b.data, (n, b.col_stride), (k, b.row_stride));
    let out = OutBlock::strided(out.data, (m, n), out.stride);
    if m * n > 0 {
        driver::product(tier, (rows, columns), &out, mode);
    }
}
