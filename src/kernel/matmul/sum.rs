//! Sums of products into one output, each block of which gets all of them while it is in a cache.

use super::columns::{Columns, pack_columns, packed_len};
use super::driver::{self, Term, with_scratch};
use super::out::OutBlock;
use super::source::Source;
use super::tier::Tier;
use super::{Operand, PackedMatrix, Precision, Target};

/// One product of a sum.
#[derive(Clone, Copy)]
pub(in crate::kernel) enum Product<'a> {
    /// Rows times the transpose of a weight that is packed as plain numbers.
    Packed(Operand<'a>, &'a PackedMatrix),
    /// Two matrices in f32, and their inner dimension; best a small one, for the second is packed
    /// whole.
    Plain(Operand<'a>, Operand<'a>, usize),
}

/// `out[m, n] =` the sum of the products, taken in their order.
///
/// # Panics
/// If an operand or `out` does not hold what the sizes reach, or a weight is held in blocks.
pub(in crate::kernel) fn sum_of_products(
    (m, n): (usize, usize),
    products: &[Product<'_>],
    out: Target<'_>,
) {
    let out = OutBlock::strided(out.data, (m, n), out.stride);
    if m * n == 0 {
        return;
    }
    let tier = Tier::detect();
    let plain: Vec<Option<Source<'_>>> = products
        .iter()
        .map(|product| match product {
            Product::Packed(..) => None,
            Product::Plain(_, b, k) => {
                let (lanes, depth) = ((n, b.col_stride), (*k, b.row_stride));
                Some(Source::new(b.data, lanes, depth))
            }
        })
        .collect();
    let length = |source: &Option<Source<'_>>| source.map_or(0, |s| packed_len(s, Precision::F32));
    with_scratch(plain.iter().map(length).sum(), |mut lanes| {
        let mut terms = Vec::with_capacity(products.len());
        for (product, source) in products.iter().zip(&plain) {
            let (own, rest) = std::mem::take(&mut lanes).split_at_mut(length(source));
            lanes = rest;
            if let Some(source) = source {
                pack_columns(tier, Precision::F32, *source, own);
            }
            terms.push(term((m, n), product, own));
        }
        driver::multiply(tier, &terms, &out, false);
    });
}

/// A product whose plain right-hand matrix is packed in `lanes`.
fn term<'a>((m, n): (usize, usize), product: &Product<'a>, lanes: &'a [u32]) -> Term<'a> {
    let (x, columns) = match *product {
        Product::Packed(x, matrix) => {
            assert_eq!(matrix.out_features(), n, "outputs of a packed weight");
            let columns = matrix.plain_columns();
            (x, columns.expect("weights in blocks are only served"))
        }
        Product::Plain(a, _, k) => {
            let precision = Precision::F32;
            let columns = Columns {
                lanes,
                k,
                precision,
            };
            (a, columns)
        }
    };
    let rows = Source::new(x.data, (m, x.row_stride), (columns.k, x.col_stride));
    Term { rows, columns }
}
