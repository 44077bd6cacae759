//! The AVX2 tier: register tiles of FMA, bf16 pairs widened in registers.

use std::arch::x86_64::{
    __m256, __m256i, _mm256_and_si256, _mm256_castsi256_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi32,
    _mm256_storeu_ps,
};

use super::out::OutBlock;
use super::tier::Tile;
use super::{Form, PANEL};

/// Columns of one register tile: half a panel.
const HALF: usize = 16;

/// Proof that this processor has AVX2 and FMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Present(());

impl Present {
    /// The proof, where it holds.
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

/// One tile of up to 12x32, as tiles of 4x16; lengths are checked by the caller.
pub(super) fn tile(_: Present, form: Form, tile: Tile<'_>, mut out: OutBlock<'_>) {
    let (rows, columns) = (out.rows(), out.columns());
    for column in (0..columns).step_by(HALF) {
        for row in (0..rows).step_by(4) {
            let corner = Corner {
                left: tile.rows[row..].as_ptr().cast(),
                left_step: rows,
                right: tile.panels[column..].as_ptr(),
                depth: tile.depth,
                accumulate: tile.accumulate,
                out: out.start().wrapping_add(row * out.stride() + column),
                out_stride: out.stride(),
                columns: (columns - column).min(HALF),
            };
            // SAFETY: `Present` proves the instructions; the packed lengths are asserted by `Tier::tile`, and the
            // corner's rows and columns lie inside the block.
            unsafe {
                if form == Form::F32 {
                    corner.of_rows::<false>((rows - row).min(4))
                } else {
                    corner.of_rows::<true>((rows - row).min(4))
                }
            }
        }
    }
}

/// Up to 4 rows by 16 columns of a tile.
struct Corner {
    left: *const f32,
    left_step: usize,
    right: *const u32,
    depth: usize,
    accumulate: bool,
    out: *mut f32,
    out_stride: usize,
    columns: usize,
}

impl Corner {
    #[target_feature(enable = "avx2,fma")]
    unsafe fn of_rows<const PAIRS: bool>(self, rows: usize) {
        // SAFETY: passed on to the caller.
        unsafe {
            match rows {
                1 => self.run::<1, PAIRS>(),
                2 => self.run::<2, PAIRS>(),
                3 => self.run::<3, PAIRS>(),
                _ => self.run::<4, PAIRS>(),
            }
        }
    }

    /// # Safety
    /// `left` reaches `ROWS` lanes at each of `depth` steps (twice as many of pairs), `right` 16 lanes, and `out` `ROWS` rows of `columns`.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn run<const ROWS: usize, const PAIRS: bool>(self) {
        let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
        macro_rules! each_row {
            ($row:ident, $body:block) => { each_row!(@ $row, $body, 0 1 2 3) };
            (@ $row:ident, $body:block, $($index:literal)*) => {
                $( if $index < ROWS { const $row: usize = $index; $body } )*
            };
        }
        // SAFETY: the caller vouches for the reach of the three pointers; partial rows of `out` go through a buffer.
        unsafe {
            if self.accumulate {
                each_row!(ROW, {
                    sums[ROW] = self.read_row(ROW);
                });
            }
            let (mut left, mut right) = (self.left, self.right);
            for _ in 0..self.depth {
                let columns = [
                    _mm256_loadu_si256(right.cast()),
                    _mm256_loadu_si256(right.add(8).cast()),
                ];
                if PAIRS {
                    // The upper step first, as VDPBF16PS does, so that the tiers agree.
                    let high = [upper(columns[0]), upper(columns[1])];
                    each_row!(ROW, {
                        let one = _mm256_set1_ps(left.add(self.left_step + ROW).read());
                        sums[ROW][0] = _mm256_fmadd_ps(one, high[0], sums[ROW][0]);
                        sums[ROW][1] = _mm256_fmadd_ps(one, high[1], sums[ROW][1]);
                    });
                }
                let low = if PAIRS {
                    [lower(columns[0]), lower(columns[1])]
                } else {
                    [
                        _mm256_castsi256_ps(columns[0]),
                        _mm256_castsi256_ps(columns[1]),
                    ]
                };
                each_row!(ROW, {
                    let one = _mm256_set1_ps(left.add(ROW).read());
                    sums[ROW][0] = _mm256_fmadd_ps(one, low[0], sums[ROW][0]);
                    sums[ROW][1] = _mm256_fmadd_ps(one, low[1], sums[ROW][1]);
                });
                left = left.wrapping_add(if PAIRS {
                    2 * self.left_step
                } else {
                    self.left_step
                });
                right = right.wrapping_add(PANEL);
            }
            each_row!(ROW, {
                self.write_row(ROW, sums[ROW]);
            });
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn read_row(&self, row: usize) -> [__m256; 2] {
        let mut buffer = [0.0f32; HALF];
        // SAFETY: the row is `columns` elements of the caller's own block, and the buffer is wide enough.
        unsafe {
            let from = self.out.wrapping_add(row * self.out_stride);
            from.copy_to_nonoverlapping(buffer.as_mut_ptr(), self.columns);
            [
                _mm256_loadu_ps(buffer.as_ptr()),
                _mm256_loadu_ps(buffer.as_ptr().add(8)),
            ]
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn write_row(&self, row: usize, sums: [__m256; 2]) {
        let mut buffer = [0.0f32; HALF];
        // SAFETY: as in `read_row`.
        unsafe {
            _mm256_storeu_ps(buffer.as_mut_ptr(), sums[0]);
            _mm256_storeu_ps(buffer.as_mut_ptr().add(8), sums[1]);
            let to = self.out.wrapping_add(row * self.out_stride);
            to.copy_from_nonoverlapping(buffer.as_ptr(), self.columns);
        }
    }
}

/// The upper bf16 of each pair.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn upper(pair: __m256i) -> __m256 {
    _mm256_castsi256_ps(_mm256_and_si256(
        pair,
        _mm256_set1_epi32(0xffff_0000_u32.cast_signed()),
    ))
}

/// The lower bf16 of each pair.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn lower(pair: __m256i) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pair))
}
