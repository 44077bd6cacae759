//! Weights in blocks of 32 along the inner dimension: whole numbers of 8 or 4 bits and one scale.
//!
//! The numbers are those of ggml's Q8_0 and Q4_0. Activations are rounded to 8 bits by the same rule,
//! products within a block are exact whole numbers, and blocks are added up in ascending order in
//! f32: every tier gives the same bits, and a row the same alone as in any batch.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod layout;
mod portable;
mod quantize;

use std::ops::Range;

use rayon::prelude::*;

use layout::Layout;

use super::PANEL;
use super::ahead::Ahead;
use super::driver::nth_tile;
use super::out::OutBlock;
use super::source::Source;
use super::tier::Tier;
use crate::kernel::{Pages, Zeroed};

/// Weights that share a scale.
pub(super) const BLOCK: usize = 32;

/// Bits of one weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bits {
    /// Whole numbers from -127 to 127.
    Eight,
    /// Whole numbers from -8 to 7.
    Four,
}

impl Bits {
    /// Cache lines of one block of a panel: scales, then weights.
    const fn lines(self) -> usize {
        match self {
            Self::Eight => 1 + 16,
            Self::Four => 1 + 8,
        }
    }
}

/// 64 bytes that lie in one line of the cache.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

// SAFETY: bytes.
unsafe impl Zeroed for Line {
    const ZERO: Self = Self([0; 64]);
}

/// A matrix of `n` output by `k` input features, as `[panel][block][line]`, where
/// a panel has 32 columns.
pub(super) struct Blocks {
    lines: Pages<Line>,
    bits: Bits,
    layout: Layout,
    k: usize,
}

impl Blocks {
    /// Room for a matrix, all zero.
    pub(super) fn new(tier: Tier, bits: Bits, n: usize, k: usize) -> Self {
        let count = n.div_ceil(PANEL) * k.div_ceil(BLOCK) * bits.lines();
        Self {
            lines: Pages::new(count),
            bits,
            layout: Layout::of(tier),
            k,
        }
    }

    pub(super) const fn bits(&self) -> Bits {
        self.bits
    }

    fn panel_lines(&self) -> usize {
        self.k.div_ceil(BLOCK) * self.bits.lines()
    }

    /// Sets the panels from the given one on: `weights` are their columns one after the other, `k`
    /// each. What is set has been zero.
    pub(super) fn set(&mut self, panel: usize, weights: &[f32]) {
        let (bits, layout) = (self.bits, self.layout);
        let (k, lines) = (self.k, self.panel_lines());
        let panels = self.lines[panel * lines..].par_chunks_mut(lines);
        let weights = weights.par_chunks(PANEL * k);
        panels.zip(weights).for_each(|(panel, weights)| {
            for (column, weights) in weights.chunks_exact(k).enumerate() {
                let blocks = panel.chunks_exact_mut(bits.lines());
                for (lines, weights) in blocks.zip(weights.chunks(BLOCK)) {
                    layout.put(bits, lines, column, weights);
                }
            }
        });
    }

    /// Writes the weights of one output feature, as they are multiplied.
    pub(super) fn row_into(&self, row: usize, to: &mut [f32]) {
        let lines = self.panel_lines();
        let panel = &self.lines[row / PANEL * lines..(row / PANEL + 1) * lines];
        let column = row % PANEL;
        let blocks = panel.chunks_exact(self.bits.lines());
        for (lines, to) in blocks.zip(to.chunks_mut(BLOCK)) {
            let scale = layout::scale_of(&lines[0], column);
            for (index, to) in to.iter_mut().enumerate() {
                *to = f32::from(self.layout.number(self.bits, lines, column, index)) * scale;
            }
        }
    }

    /// Lanes of one packed row.
    pub(super) fn row_lanes(&self) -> usize {
        self.k.div_ceil(BLOCK) * self.layout.row_lanes()
    }

    /// Most rows of a tile.
    pub(super) const fn tile_rows(&self) -> usize {
        self.layout.tile_rows()
    }

    /// Whether rows that are packed for one are packed for the other.
    pub(super) fn packs_rows_like(&self, other: &Self) -> bool {
        self.layout == other.layout
    }

    /// Packs some rows of `x` for any matrix of these inputs and this layout, as `[block][lane][row]`.
    pub(super) fn pack_tile(
        &self,
        tier: Tier,
        x: Source<'_>,
        (row, count): (usize, usize),
        to: &mut [u32],
    ) {
        #[cfg(target_arch = "x86_64")]
        if let (Tier::Avx512(present), Layout::Quads, 1) = (tier, self.layout, x.depth_stride()) {
            for at in 0..count {
                let steps = &x.part(row + at, 1, 0, x.depth()).data()[..x.depth()];
                avx512::pack_row(present, steps, (at, count), to);
            }
            return;
        }
        let mut block = [0.0f32; BLOCK];
        let blocks = to.chunks_exact_mut(self.layout.row_lanes() * count);
        for (index, lanes) in blocks.enumerate() {
            let first = index * BLOCK;
            let held = BLOCK.min(x.depth() - first);
            block[held..].fill(0.0);
            for at in 0..count {
                x.part(row + at, 1, first, held)
                    .copy_lane(&mut block[..held]);
                self.layout.pack_block(&block, (at, count), lanes);
            }
        }
    }

    /// The panels from `panel` on of `out = rows · columns`, as many as `out` has columns for.
    /// `packed` are rows as `pack_tile` packs them.
    pub(super) fn part_of_packed(
        &self,
        tier: Tier,
        packed: &[u32],
        panel: usize,
        out: &OutBlock<'_>,
    ) {
        let (rows, lanes) = (out.rows(), self.row_lanes());
        assert_eq!(packed.len(), rows * lanes, "{rows} packed rows");
        let panel_lines = self.panel_lines();
        for at in 0..out.columns().div_ceil(PANEL) {
            let first = (panel + at) * panel_lines;
            let column = at * PANEL;
            let width = PANEL.min(out.columns() - column);
            let here = &self.lines[first..first + panel_lines];
            let next = &self.lines[first + panel_lines..];
            let passes = rows.div_ceil(self.tile_rows());
            let steps = (self.k.div_ceil(BLOCK), self.bits.lines());
            for index in 0..passes {
                let (row, height) = nth_tile(rows, self.tile_rows(), index);
                // SAFETY: one tile at a time is alive here, and the block is this call's own.
                let mut out = unsafe { out.part((row, height), (column, width)) };
                let tile = Tile {
                    bits: self.bits,
                    layout: self.layout,
                    rows: &packed[row * lanes..(row + height) * lanes],
                    panel: here,
                    height,
                    ahead: Ahead::share((here, next), (index, passes), rows, steps),
                };
                run(tier, tile, &mut out);
            }
        }
    }
}

/// Some rows and one panel.
#[derive(Clone, Copy)]
struct Tile<'a> {
    bits: Bits,
    layout: Layout,
    /// `[block][lane][height]`
    rows: &'a [u32],
    /// `[block][line]`
    panel: &'a [Line],
    height: usize,
    /// What is fetched meanwhile.
    ahead: Ahead,
}

fn run(tier: Tier, tile: Tile<'_>, out: &mut OutBlock<'_>) {
    let blocks = tile.panel.len() / tile.bits.lines();
    assert_eq!(
        tile.rows.len(),
        blocks * tile.layout.row_lanes() * tile.height,
        "a tile's packed rows"
    );
    assert!(
        out.rows() == tile.height && out.columns() <= PANEL,
        "a tile of one panel"
    );
    match tier {
        #[cfg(target_arch = "x86_64")]
        Tier::Avx2(present) => avx2::tile(present, tile, out),
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512(present) => avx512::tile(present, &tile, out),
        Tier::Portable => portable::tile(tile, out),
    }
}

/// The blocks of a tile.
fn blocks(tile: &Tile<'_>) -> Range<usize> {
    0..tile.panel.len() / tile.bits.lines()
}

#[cfg(test)]
mod tests {
    use super::super::{PackedMatrix, Packing, Target};
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    const SHAPES: [(usize, usize, usize); 9] = [
        (1, 1, 1),
        (1, 33, 31),
        (2, 32, 32),
        (3, 70, 33),
        (4, 9, 64),
        (5, 100, 96),
        (12, 64, 40),
        (13, 31, 128),
        (30, 65, 300),
    ];

    fn product(tier: Tier, packing: Packing, (m, n, k): (usize, usize, usize)) -> Vec<f32> {
        let packed = PackedMatrix::pack_on(tier, &numbers(n * k, 1), (n, k), packing);
        let mut out = vec![0.0; m * n];
        packed.matmul_into(&numbers(m * k, 2), m, &mut out);
        out
    }

    #[test]
    fn every_tier_gives_the_bits_of_the_portable_one() {
        for bits in [Bits::Eight, Bits::Four] {
            for shape in SHAPES {
                let expected = product(Tier::Portable, Packing::Blocks(bits), shape);
                for tier in Tier::all() {
                    let got = product(tier, Packing::Blocks(bits), shape);
                    assert!(got == expected, "{tier:?} {bits:?} {shape:?}");
                }
            }
        }
    }

    #[test]
    fn products_are_near_those_of_the_weights_as_they_are_multiplied() {
        for (bits, (m, n, k)) in [Bits::Eight, Bits::Four]
            .into_iter()
            .flat_map(|bits| SHAPES.map(|shape| (bits, shape)))
        {
            let packing = Packing::Blocks(bits);
            let packed = PackedMatrix::pack(&numbers(n * k, 1), n, k, packing);
            let got = product(Tier::detect(), packing, (m, n, k));
            let x = numbers(m * k, 2);
            let mut weights = vec![0.0; k];
            for column in 0..n {
                packed.row_into(column, &mut weights);
                for row in 0..m {
                    let pairs = x[row * k..(row + 1) * k].iter().zip(&weights);
                    let exact: f64 = pairs.map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                    // Activations are off by at most half a step of 1/127.
                    let bound = (k as f64).sqrt() * 0.01 + 1e-6;
                    let error = (f64::from(got[row * n + column]) - exact).abs();
                    assert!(error < bound, "{bits:?} {m}x{n}x{k}: {error}");
                }
            }
        }
    }

    #[test]
    fn a_row_alone_has_the_bits_it_has_in_a_batch() {
        let (m, n, k) = (29, 70, 100);
        let x = numbers(m * k, 2);
        for bits in [Bits::Eight, Bits::Four] {
            let weights = numbers(n * k, 1);
            let packed = PackedMatrix::pack(&weights, n, k, Packing::Blocks(bits));
            let together = product(Tier::detect(), Packing::Blocks(bits), (m, n, k));
            for row in 0..m {
                let mut alone = vec![0.0; n];
                packed.matmul_into(&x[row * k..(row + 1) * k], 1, &mut alone);
                assert!(
                    alone == together[row * n..(row + 1) * n],
                    "{bits:?} row {row}"
                );
            }
        }
    }

    #[test]
    fn rows_that_lie_apart_have_the_bits_of_rows_that_do_not() {
        let (m, n, k) = (7, 40, 75);
        let (weights, x) = (numbers(n * k, 1), numbers(m * k, 2));
        // (m, k) and its transpose
        let turned: Vec<f32> = (0..k * m).map(|i| x[i % m * k + i / m]).collect();
        let packed = PackedMatrix::pack(&weights, n, k, Packing::Blocks(Bits::Eight));
        let (mut one, mut other) = (vec![0.0; m * n], vec![0.0; m * n]);
        packed.matmul_into(&x, m, &mut one);
        let apart = super::super::Operand::row_major(&turned, m).transposed();
        let target = Target {
            data: &mut other,
            stride: n,
        };
        packed.times(apart, m, target);
        assert!(one == other);
    }

    #[test]
    fn packing_in_parts_is_packing_at_once() {
        let (n, k) = (3 * 64 * PANEL + 5, 33);
        let weights = numbers(n * k, 3);
        for packing in [
            Packing::Blocks(Bits::Eight),
            super::super::Precision::Bf16.into(),
        ] {
            let whole = PackedMatrix::pack(&weights, n, k, packing);
            let parts = PackedMatrix::pack_from((n, k), packing, |rows, numbers| {
                numbers.clear();
                numbers.extend(&weights[rows.start * k..rows.end * k]);
                Ok::<_, ()>(())
            });
            let parts = parts.unwrap();
            let (mut one, mut other) = (vec![0.0; k], vec![0.0; k]);
            for row in 0..n {
                whole.row_into(row, &mut one);
                parts.row_into(row, &mut other);
                assert_eq!(one, other, "row {row}");
            }
        }
    }

    #[test]
    fn what_is_no_number_does_not_pass_for_one() {
        let (n, k) = (3, 64);
        let packed = PackedMatrix::pack(&numbers(n * k, 1), n, k, Packing::Blocks(Bits::Eight));
        let mut x = numbers(k, 2);
        x[40] = f32::NAN;
        let mut out = [0.0; 3];
        packed.matmul_into(&x, 1, &mut out);
        assert!(out.iter().all(|x| x.is_nan()), "{out:?}");
    }
}
