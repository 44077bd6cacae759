//! A weight matrix packed once and multiplied many times.

use std::ops::Range;

use rayon::prelude::*;

use super::blocks::Blocks;
use super::columns::{Columns, pack_columns};
use super::driver::{self, Term};
use super::out::OutBlock;
use super::source::Source;
use super::tier::Tier;
use super::{Form, Operand, PANEL, Packing, Precision, TILE_ROWS, Target};
use crate::kernel::Pages;

/// A weight of `n` output by `k` input features, packed for `y = x · Wᵀ`.
///
/// Results are batch invariant: a row's outputs do not depend on the rows beside it or on the threads.
pub struct PackedMatrix {
    body: Body,
    n: usize,
    k: usize,
    tier: Tier,
}

enum Body {
    /// `[panel][depth lanes][32]`
    Lanes(Pages<u32>, Precision),
    Blocks(Blocks),
}

/// Panels that are read and packed at a time.
const PANELS_AT_ONCE: usize = 64;

impl PackedMatrix {
    /// Packs `weight`, row-major `n` by `k` as checkpoints hold it.
    ///
    /// # Panics
    /// If `weight` does not hold `n * k` numbers.
    #[must_use]
    pub fn pack(weight: &[f32], n: usize, k: usize, packing: impl Into<Packing>) -> Self {
        Self::pack_on(Tier::detect(), weight, (n, k), packing.into())
    }

    pub(super) fn pack_on(
        tier: Tier,
        weight: &[f32],
        (n, k): (usize, usize),
        packing: Packing,
    ) -> Self {
        assert_eq!(
            Some(weight.len()),
            n.checked_mul(k),
            "a {n}x{k} weight has the wrong length"
        );
        let mut packed = Self::zero(tier, (n, k), packing);
        packed.set(0, weight);
        packed
    }

    /// Packs what `read` tells, some rows at a time and in order, so that no second copy of the
    /// whole is ever in memory. It replaces the numbers by those of the rows that it is asked for.
    ///
    /// # Errors
    /// If `read` fails.
    ///
    /// # Panics
    /// If `read` gives another count of numbers.
    pub fn pack_from<E>(
        (n, k): (usize, usize),
        packing: Packing,
        mut read: impl FnMut(Range<usize>, &mut Vec<f32>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut packed = Self::zero(Tier::detect(), (n, k), packing);
        let mut numbers = Vec::new();
        for first in (0..n).step_by(PANELS_AT_ONCE * PANEL) {
            let rows = first..n.min(first + PANELS_AT_ONCE * PANEL);
            read(rows.clone(), &mut numbers)?;
            assert_eq!(numbers.len(), rows.len() * k, "rows {rows:?} of {n}x{k}");
            packed.set(first / PANEL, &numbers);
        }
        Ok(packed)
    }

    /// Packs the transpose of `weight`, row-major `n` by `k`, for `y = x · W`.
    ///
    /// # Panics
    /// If `weight` does not hold `n * k` numbers.
    #[must_use]
    pub fn pack_transposed(weight: &[f32], (n, k): (usize, usize), precision: Precision) -> Self {
        let mut packed = Self::zero(Tier::detect(), (k, n), precision.into());
        let source = Source::new(weight, (k, 1), (n, k));
        if let Body::Lanes(lanes, precision) = &mut packed.body {
            pack_columns(packed.tier, *precision, source, lanes);
        }
        packed
    }

    fn zero(tier: Tier, (n, k): (usize, usize), packing: Packing) -> Self {
        let body = match packing {
            Packing::Plain(precision) => {
                let lanes = n.div_ceil(PANEL) * PANEL * precision.form().lanes(k);
                Body::Lanes(Pages::new(lanes), precision)
            }
            Packing::Blocks(bits) => Body::Blocks(Blocks::new(tier, bits, n, k)),
        };
        Self { body, n, k, tier }
    }

    /// Packs the rows `weight` from the given panel on; all of them, or up to the end of a panel.
    fn set(&mut self, panel: usize, weight: &[f32]) {
        if self.k == 0 {
            return;
        }
        let rows = weight.len() / self.k;
        match &mut self.body {
            Body::Lanes(lanes, precision) => {
                let source = Source::new(weight, (rows, self.k), (self.k, 1));
                let panel_len = precision.form().lanes(self.k) * PANEL;
                let to = panel * panel_len..(panel + rows.div_ceil(PANEL)) * panel_len;
                pack_columns(self.tier, *precision, source, &mut lanes[to]);
            }
            Body::Blocks(blocks) => blocks.set(panel, weight),
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

    /// How the weights are held.
    #[must_use]
    pub const fn packing(&self) -> Packing {
        match &self.body {
            Body::Lanes(_, precision) => Packing::Plain(*precision),
            Body::Blocks(blocks) => Packing::Blocks(blocks.bits()),
        }
    }

    /// Writes one output feature's weights as they are multiplied, (k,).
    ///
    /// # Panics
    /// If there is no such row, or `to` is of another length.
    pub fn row_into(&self, row: usize, to: &mut [f32]) {
        assert!(
            row < self.n && to.len() == self.k,
            "row {row} of {}x{}",
            self.n,
            self.k
        );
        match &self.body {
            Body::Lanes(lanes, precision) => {
                let form = precision.form();
                let first = row / PANEL * form.lanes(self.k) * PANEL + row % PANEL;
                for (step, to) in to.iter_mut().enumerate() {
                    let lane = lanes[first + step / form.per_lane() * PANEL];
                    *to = f32::from_bits(match form {
                        Form::Pairs if step % 2 == 0 => lane << 16,
                        Form::Pairs => lane & 0xffff_0000,
                        Form::F32 | Form::Widened => lane,
                    });
                }
            }
            Body::Blocks(blocks) => blocks.row_into(row, to),
        }
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
        let out = Target {
            data: out,
            stride: self.n,
        };
        self.times(Operand::row_major(x, self.k), rows, out);
    }

    /// As `matmul_into`, for rows that lie at strides, to rows that lie apart.
    ///
    /// # Panics
    /// If `x` or `out` does not hold what `rows` asks for.
    pub(super) fn times(&self, x: Operand<'_>, rows: usize, out: Target<'_>) {
        let source = Source::new(x.data, (rows, x.row_stride), (self.k, x.col_stride));
        let out = OutBlock::strided(out.data, (rows, self.n), out.stride);
        if rows * self.n == 0 {
            return;
        }
        match &self.body {
            Body::Lanes(lanes, precision) => {
                let term = Term {
                    rows: source,
                    columns: self.columns_of(lanes, *precision),
                };
                driver::multiply(self.tier, &[term], &out, false);
            }
            Body::Blocks(blocks) => self.packed(source, |packed| {
                (0..self.panels()).into_par_iter().for_each(|panel| {
                    let columns = self.columns(&(panel..panel + 1));
                    // SAFETY: each panel has columns of its own.
                    let out = unsafe { out.part((0, rows), (columns.start, columns.len())) };
                    blocks.part_of_packed(self.tier, packed, panel, &out);
                });
            }),
        }
    }

    /// As the right-hand operand of a sum, unless it is held in blocks.
    pub(super) fn plain_columns(&self) -> Option<Columns<'_>> {
        match &self.body {
            Body::Lanes(lanes, precision) => Some(self.columns_of(lanes, *precision)),
            Body::Blocks(_) => None,
        }
    }

    /// Panels of output features, by which a product is shared out.
    pub(in crate::kernel) const fn panels(&self) -> usize {
        self.n.div_ceil(PANEL)
    }

    /// The output features of some panels.
    pub(in crate::kernel) fn columns(&self, panels: &Range<usize>) -> Range<usize> {
        (panels.start * PANEL).min(self.n)..(panels.end * PANEL).min(self.n)
    }

    /// The features of some panels of `x[rows, k] · Wᵀ`, on this thread alone, to rows that start
    /// at `to.0` and lie `to.1` numbers apart.
    ///
    /// # Safety
    /// Nobody else reaches `rows` times the columns of these panels at that place and distance.
    ///
    /// # Panics
    /// If `x` does not hold what `rows` asks for, or there are no such panels.
    pub(in crate::kernel) unsafe fn part_into(
        &self,
        x: Operand<'_>,
        rows: usize,
        panels: Range<usize>,
        to: (*mut f32, usize),
    ) {
        let source = Source::new(x.data, (rows, x.row_stride), (self.k, x.col_stride));
        let width = self.width(&panels);
        if rows == 0 || width == 0 {
            return;
        }
        // SAFETY: the caller vouches for the place.
        let out = unsafe { OutBlock::at(to, rows, width) };
        match &self.body {
            Body::Lanes(lanes, precision) => {
                let columns = self.columns_of(lanes, *precision);
                driver::part(self.tier, (source, columns), panels.start, &out);
            }
            Body::Blocks(blocks) => self.packed(source, |packed| {
                blocks.part_of_packed(self.tier, packed, panels.start, &out);
            }),
        }
    }

    /// Whether rows that are packed for one of the two are packed for the other.
    pub(in crate::kernel) fn packs_rows_like(&self, other: &Self) -> bool {
        match (&self.body, &other.body) {
            (Body::Lanes(_, one), Body::Lanes(_, two)) => *one as u8 == *two as u8,
            (Body::Blocks(one), Body::Blocks(two)) => one.packs_rows_like(two),
            _ => false,
        }
    }

    /// Tiles into which `pack_tile` packs so many rows.
    pub(in crate::kernel) fn tiles(&self, rows: usize) -> usize {
        rows.div_ceil(self.tile_rows())
    }

    /// Most rows of a tile.
    fn tile_rows(&self) -> usize {
        match &self.body {
            Body::Lanes(..) => TILE_ROWS,
            Body::Blocks(blocks) => blocks.tile_rows(),
        }
    }

    /// Lanes of each row that `pack_tile` packs.
    pub(in crate::kernel) fn row_lanes(&self) -> usize {
        match &self.body {
            Body::Lanes(_, precision) => driver::row_lanes(self.tier, *precision, self.k),
            Body::Blocks(blocks) => blocks.row_lanes(),
        }
    }

    /// Where the tile of that index lies among so many packed rows.
    pub(in crate::kernel) fn tile_lanes(&self, rows: usize, index: usize) -> Range<usize> {
        let (first, count) = driver::nth_tile(rows, self.tile_rows(), index);
        let lanes = self.row_lanes();
        first * lanes..(first + count) * lanes
    }

    /// Packs one tile of the rows `x` for `part_of_packed` of any matrix with these inputs and this
    /// packing.
    ///
    /// # Panics
    /// If `to` is not as long as `tile_lanes` says.
    pub(in crate::kernel) fn pack_tile(&self, x: &[f32], index: usize, to: &mut [u32]) {
        let rows = x.len() / self.k;
        self.pack_source(Source::new(x, (rows, self.k), (self.k, 1)), index, to);
    }

    fn pack_source(&self, rows: Source<'_>, index: usize, to: &mut [u32]) {
        let expected = self.tile_lanes(rows.lanes(), index).len();
        assert_eq!(to.len(), expected, "lanes of a tile");
        match &self.body {
            Body::Lanes(_, precision) => {
                driver::pack_tile(self.tier, (rows, *precision), index, to);
            }
            Body::Blocks(blocks) => {
                let tile = driver::nth_tile(rows.lanes(), blocks.tile_rows(), index);
                blocks.pack_tile(self.tier, rows, tile, to);
            }
        }
    }

    /// Runs `work` on all rows, packed into a buffer of this thread.
    fn packed(&self, rows: Source<'_>, work: impl FnOnce(&[u32])) {
        let count = rows.lanes();
        driver::with_scratch(count * self.row_lanes(), |lanes| {
            for index in 0..self.tiles(count) {
                self.pack_source(rows, index, &mut lanes[self.tile_lanes(count, index)]);
            }
            work(lanes);
        });
    }

    /// As `part_into`, of rows that are packed.
    ///
    /// # Safety
    /// As there.
    pub(in crate::kernel) unsafe fn part_of_packed(
        &self,
        (packed, rows): (&[u32], usize),
        panels: Range<usize>,
        to: (*mut f32, usize),
    ) {
        assert_eq!(packed.len(), rows * self.row_lanes(), "{rows} packed rows");
        let width = self.width(&panels);
        if packed.is_empty() || width == 0 {
            return;
        }
        // SAFETY: the caller vouches for the place.
        let out = unsafe { OutBlock::at(to, rows, width) };
        match &self.body {
            Body::Lanes(lanes, precision) => {
                let columns = self.columns_of(lanes, *precision);
                driver::part_of_packed(self.tier, (packed, columns), panels.start, &out);
            }
            Body::Blocks(blocks) => blocks.part_of_packed(self.tier, packed, panels.start, &out),
        }
    }

    /// Columns of some panels.
    fn width(&self, panels: &Range<usize>) -> usize {
        let all = self.panels();
        assert!(
            panels.start <= panels.end && panels.end <= all && self.k > 0,
            "panels {panels:?} of {all}"
        );
        self.columns(panels).len()
    }

    fn columns_of<'a>(&self, lanes: &'a [u32], precision: Precision) -> Columns<'a> {
        Columns {
            lanes,
            k: self.k,
            precision,
        }
    }
}
