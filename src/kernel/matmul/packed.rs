//! A weight matrix packed once and multiplied many times.

use super::driver::{self, Columns};
use super::source::Source;
use super::tier::Tier;
use super::{Operand, Precision};

/// A weight of `n` output by `k` input features, packed for `y = x · Wᵀ`.
///
/// Results are batch invariant: a row's outputs do not depend on the rows beside it or on the threads.
pub struct PackedMatrix {
    lanes: Vec<u32>,
    n: usize,
    k: usize,
    precision: Precision,
    tier: Tier,
}

impl PackedMatrix {
    /// Packs `weight`, row-major `n` by `k` as checkpoints hold it.
    ///
    /// # Panics
    /// If `weight` does not hold `n * k` numbers.
    #[must_use]
    pub fn pack(weight: &[f32], n: usize, k: usize, precision: Precision) -> Self {
        Self::pack_on(Tier::detect(), weight, (n, k), precision)
    }

    pub(super) fn pack_on(
        tier: Tier,
        weight: &[f32],
        (n, k): (usize, usize),
        precision: Precision,
    ) -> Self {
        assert_eq!(
            Some(weight.len()),
            n.checked_mul(k),
            "a {n}x{k} weight has the wrong length"
        );
        let source = Source::new(weight, (n, k), (k, 1));
        let mut lanes = vec![0; driver::packed_len(source, precision)];
        driver::pack_columns(tier, precision, source, &mut lanes);
        Self {
            lanes,
            n,
            k,
            precision,
            tier,
        }
    }

    /// Output features.
    #[must_use]
    pub const fn out_features(&self) -> usize {
        self.n
    }

    /// Input features.
    #[must_use]
    pub const fn in_features(&self) -> usize {
        self.k
    }

    /// What the weight is packed as, and what activations are rounded to.
    #[must_use]
    pub const fn precision(&self) -> Precision {
        self.precision
    }

    /// `out[rows, n] = x[rows, k] · Wᵀ`.
    ///
    /// # Panics
    /// If `x` or `out` does not have the length that `rows` asks for.
    pub fn matmul_into(&self, x: &[f32], rows: usize, out: &mut [f32]) {
        assert_eq!(
            Some(x.len()),
            rows.checked_mul(self.k),
            "{rows} rows of {} inputs expected",
            self.k
        );
        self.strided_into(Operand::row_major(x, self.k), rows, out);
    }

    /// As `matmul_into`, for rows that lie at strides.
    ///
    /// # Panics
    /// If `x` or `out` does not hold what `rows` asks for.
    pub fn strided_into(&self, x: Operand<'_>, rows: usize, out: &mut [f32]) {
        assert_eq!(
            Some(out.len()),
            rows.checked_mul(self.n),
            "{rows} rows of {} outputs expected",
            self.n
        );
        let source = Source::new(x.data, (rows, x.row_stride), (self.k, x.col_stride));
        if out.is_empty() {
            return;
        }
        let columns = Columns {
            lanes: &self.lanes,
            n: self.n,
            k: self.k,
            precision: self.precision,
        };
        driver::multiply(self.tier, source, columns, out, false);
    }
}
