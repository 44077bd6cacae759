//! Register tiles of 4 rows by 16 columns, or 2 by 32, of 16-bit multiply-adds.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _mm_and_si128, _mm_loadu_si128, _mm_set1_epi8, _mm_srli_epi16,
    _mm_sub_epi8, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps, _mm256_cvtph_ps,
    _mm256_fmadd_ps, _mm256_madd_epi16, _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_storeu_ps,
};

use super::layout::Layout;
use super::{Bits, Line, Tile, blocks};
use crate::kernel::matmul::avx2::Present;
use crate::kernel::matmul::{PANEL, out::OutBlock};

/// Rows of one register tile.
const TILE: usize = 4;
/// Columns of one vector of sums.
const WIDTH: usize = 8;

/// Lengths are checked by the caller.
pub(super) fn tile(_: Present, tile: Tile<'_>, out: &mut OutBlock<'_>) {
    let parts = if tile.height <= 2 { 4 } else { 2 };
    for column in (0..out.columns()).step_by(parts * WIDTH) {
        for (row, rows) in strips(tile.height) {
            let corner = Corner {
                tile: &tile,
                row,
                column,
                out: out.start().wrapping_add(row * out.stride() + column),
                out_stride: out.stride(),
                columns: (out.columns() - column).min(parts * WIDTH),
            };
            // SAFETY: `Present` proves the instructions, the caller has checked the lengths, and the
            // corner's rows and columns lie inside the block.
            unsafe {
                match tile.bits {
                    Bits::Eight => corner.of_rows::<false>(rows, parts),
                    Bits::Four => corner.of_rows::<true>(rows, parts),
                }
            }
        }
    }
}

/// Some rows and columns of a tile.
struct Corner<'a> {
    tile: &'a Tile<'a>,
    row: usize,
    column: usize,
    out: *mut f32,
    out_stride: usize,
    columns: usize,
}

macro_rules! each {
    ($count:ident, $index:ident, $body:block) => { each!(@ $count, $index, $body, 0 1 2 3) };
    (@ $count:ident, $index:ident, $body:block, $($at:literal)*) => {
        $( if $at < $count { const $index: usize = $at; $body } )*
    };
}

impl Corner<'_> {
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn of_rows<const FOUR: bool>(self, rows: usize, parts: usize) {
        // SAFETY: passed on to the caller.
        unsafe {
            match (rows, parts) {
                (1, 4) => self.run::<1, 4, FOUR>(),
                (_, 4) => self.run::<2, 4, FOUR>(),
                (1, _) => self.run::<1, 2, FOUR>(),
                (2, _) => self.run::<2, 2, FOUR>(),
                (3, _) => self.run::<3, 2, FOUR>(),
                _ => self.run::<TILE, 2, FOUR>(),
            }
        }
    }

    /// # Safety
    /// The tile has `ROWS` rows from `row` on, and `out` as many rows of `columns`, at most
    /// `PARTS * WIDTH`.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn run<const ROWS: usize, const PARTS: usize, const FOUR: bool>(self) {
        let mut sums = [[_mm256_setzero_ps(); PARTS]; ROWS];
        let height = self.tile.height;
        let step = if FOUR { Bits::Four } else { Bits::Eight }.lines();
        let mut line = self.tile.panel.as_ptr();
        let mut lanes = self.tile.rows.as_ptr().wrapping_add(self.row);
        for _ in blocks(self.tile) {
            // SAFETY: block by block, `line` advances over the panel and `lanes` over the rows,
            // whose lengths the caller has checked.
            unsafe {
                let products = self.block::<ROWS, PARTS, FOUR>(line, lanes);
                let mut scales = [_mm256_setzero_ps(); PARTS];
                each!(PARTS, PART, {
                    scales[PART] = _mm256_cvtph_ps(load(line, self.column + WIDTH * PART));
                });
                each!(ROWS, ROW, {
                    let own = _mm256_set1_ps(f32::from_bits(lanes.add(ROW).read()));
                    each!(PARTS, PART, {
                        let scale = _mm256_mul_ps(scales[PART], own);
                        let products = _mm256_cvtepi32_ps(products[ROW][PART]);
                        sums[ROW][PART] = _mm256_fmadd_ps(products, scale, sums[ROW][PART]);
                    });
                });
            }
            line = line.wrapping_add(step);
            lanes = lanes.wrapping_add(Layout::Pairs.row_lanes() * height);
        }
        each!(ROWS, ROW, {
            // SAFETY: the row is the caller's own.
            unsafe { self.write_row(ROW, sums[ROW]) };
        });
    }

    /// The products of one block, in whole numbers.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn block<const ROWS: usize, const PARTS: usize, const FOUR: bool>(
        &self,
        line: *const Line,
        lanes: *const u32,
    ) -> [[__m256i; PARTS]; ROWS] {
        let mut sums = [[_mm256_setzero_si256(); PARTS]; ROWS];
        let height = self.tile.height;
        macro_rules! add_pair {
            ($weights:ident, $pair:expr) => {
                each!(ROWS, ROW, {
                    let two = lanes.wrapping_add((1 + $pair) * height + ROW).read();
                    let two = _mm256_set1_epi32(two.cast_signed());
                    each!(PARTS, PART, {
                        let products = _mm256_madd_epi16(two, $weights[PART]);
                        sums[ROW][PART] = _mm256_add_epi32(sums[ROW][PART], products);
                    });
                });
            };
        }
        // SAFETY: the block has 16 lines of weights, or 8 of 4 bits, after its scales, and the rows
        // have 16 pairs after theirs.
        unsafe {
            if FOUR {
                let (mask, eight) = (_mm_set1_epi8(15), _mm_set1_epi8(8));
                for pair in 0..8 {
                    let mut low = [_mm256_setzero_si256(); PARTS];
                    let mut high = [_mm256_setzero_si256(); PARTS];
                    each!(PARTS, PART, {
                        let both = load(line.wrapping_add(1 + pair), self.column + WIDTH * PART);
                        let upper = _mm_and_si128(_mm_srli_epi16::<4>(both), mask);
                        let lower = _mm_and_si128(both, mask);
                        low[PART] = _mm256_cvtepi8_epi16(_mm_sub_epi8(lower, eight));
                        high[PART] = _mm256_cvtepi8_epi16(_mm_sub_epi8(upper, eight));
                    });
                    add_pair!(low, pair);
                    add_pair!(high, 8 + pair);
                }
            } else {
                for pair in 0..16 {
                    let mut weights = [_mm256_setzero_si256(); PARTS];
                    each!(PARTS, PART, {
                        let bytes = load(line.wrapping_add(1 + pair), self.column + WIDTH * PART);
                        weights[PART] = _mm256_cvtepi8_epi16(bytes);
                    });
                    add_pair!(weights, pair);
                }
            }
        }
        sums
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn write_row<const PARTS: usize>(&self, row: usize, sums: [__m256; PARTS]) {
        let mut buffer = [0.0f32; PANEL];
        // SAFETY: the row is `columns` elements of the caller's own block, and the buffer holds all parts.
        unsafe {
            for (numbers, part) in buffer.chunks_exact_mut(WIDTH).zip(sums) {
                _mm256_storeu_ps(numbers.as_mut_ptr(), part);
            }
            let to = self.out.wrapping_add(row * self.out_stride);
            to.copy_from_nonoverlapping(buffer.as_ptr(), self.columns);
        }
    }
}

/// The two bytes of each of 8 columns.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load(line: *const Line, column: usize) -> __m128i {
    // SAFETY: the caller's line is inside the panel, and column + 8 <= 32.
    unsafe { _mm_loadu_si128(line.cast::<u8>().add(2 * column).cast()) }
}

/// Rows of a tile, a few at a time: `(first, count)`.
fn strips(height: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..height)
        .step_by(TILE)
        .map(move |row| (row, TILE.min(height - row)))
}
