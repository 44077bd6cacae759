//! The AVX2 tier: register tiles of FMA, bf16 pairs widened in registers, and packing of f32 by
//! 8x8 transposition.

use std::arch::x86_64::{
    __m256, __m256i, _mm256_and_si256, _mm256_castsi256_ps, _mm256_cmpgt_epi32, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_maskstore_ps, _mm256_permute2f128_ps,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_ps, _mm256_shuffle_ps,
    _mm256_slli_epi32, _mm256_storeu_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
};

use super::out::OutBlock;
use super::source::Source;
use super::tier::Tile;
use super::{Form, PANEL, portable};

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

/// Packs `source` into `[depth lanes][width]`; lengths are checked by the caller.
pub(super) fn pack(_: Present, form: Form, source: Source<'_>, width: usize, to: &mut [u32]) {
    match (form, source.depth_stride(), source.lane_stride()) {
        // SAFETY: `Present` proves the instructions; the lengths are those that `Tier::pack` asserts.
        (Form::F32, 1, _) => unsafe { pack_deep(source, width, to) },
        (Form::F32, _, 1) => pack_wide(source, width, to),
        _ => portable::pack(form, source, width, to),
    }
}

/// Packs lanes whose depth is contiguous: 8 lanes by 8 steps are transposed at a time, the last steps
/// one by one.
///
/// # Safety
/// `source.depth_stride()` is 1 and `to` holds `depth * width`.
#[target_feature(enable = "avx2,fma")]
unsafe fn pack_deep(source: Source<'_>, width: usize, to: &mut [u32]) {
    let (lanes, depth) = (source.lanes(), source.depth());
    let whole_steps = depth / 8 * 8;
    for lane in (0..width).step_by(8) {
        let (held, stored) = (lanes.saturating_sub(lane).min(8), first(width - lane));
        for step in (0..whole_steps).step_by(8) {
            let mut block = [_mm256_setzero_ps(); 8];
            for (index, row) in block.iter_mut().enumerate().take(held) {
                let from = (lane + index) * source.lane_stride() + step;
                // SAFETY: lane + index < lanes and step + 8 <= depth, so `Source` keeps the read inside its data.
                *row = unsafe { _mm256_loadu_ps(source.data().as_ptr().wrapping_add(from)) };
            }
            for (index, row) in transpose(block).into_iter().enumerate() {
                let place = to.as_mut_ptr().wrapping_add((step + index) * width + lane);
                // SAFETY: step + index < depth, and the mask keeps the store below `width`.
                unsafe { _mm256_maskstore_ps(place.cast(), stored, row) };
            }
        }
    }
    let rest = source.part(0, lanes, whole_steps, depth - whole_steps);
    portable::pack(Form::F32, rest, width, &mut to[whole_steps * width..]);
}

/// A mask of the first `count` of 8 lanes.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn first(count: usize) -> __m256i {
    let index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count.min(8) as i32), index)
}

/// Packs lanes that are contiguous at each step.
fn pack_wide(source: Source<'_>, width: usize, to: &mut [u32]) {
    let lanes = source.lanes();
    for (step, row) in to.chunks_exact_mut(width).enumerate() {
        let (copied, unused) = row.split_at_mut(lanes);
        let from = &source.data()[step * source.depth_stride()..][..lanes];
        copied
            .iter_mut()
            .zip(from)
            .for_each(|(place, number)| *place = number.to_bits());
        unused.fill(0);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn transpose(r: [__m256; 8]) -> [__m256; 8] {
    // Within each half of a register: pairs of rows, then quads of rows.
    let mut pairs = [_mm256_setzero_ps(); 8];
    let mut quads = [_mm256_setzero_ps(); 8];
    macro_rules! each {
        ($($i:literal)*) => { $(
            pairs[2 * $i] = _mm256_unpacklo_ps(r[2 * $i], r[2 * $i + 1]);
            pairs[2 * $i + 1] = _mm256_unpackhi_ps(r[2 * $i], r[2 * $i + 1]);
        )* };
        (% $($i:literal)*) => { $(
            quads[4 * $i] = _mm256_shuffle_ps::<0x44>(pairs[4 * $i], pairs[4 * $i + 2]);
            quads[4 * $i + 1] = _mm256_shuffle_ps::<0xee>(pairs[4 * $i], pairs[4 * $i + 2]);
            quads[4 * $i + 2] = _mm256_shuffle_ps::<0x44>(pairs[4 * $i + 1], pairs[4 * $i + 3]);
            quads[4 * $i + 3] = _mm256_shuffle_ps::<0xee>(pairs[4 * $i + 1], pairs[4 * $i + 3]);
        )* };
        (@ $($i:literal)*) => { [
            $( _mm256_permute2f128_ps::<0x20>(quads[$i], quads[4 + $i]), )*
            $( _mm256_permute2f128_ps::<0x31>(quads[$i], quads[4 + $i]), )*
        ] };
    }
    each!(0 1 2 3);
    each!(% 0 1);
    each!(@ 0 1 2 3)
}
