//! The AVX2 tier: register tiles of FMA, bf16 pairs widened in registers, and packing of f32 by
//! 8x8 transposition.

use std::arch::x86_64::{
    __m256, __m256i, _CMP_UNORD_Q, _mm256_add_epi32, _mm256_and_si256, _mm256_blendv_ps,
    _mm256_castps_si256, _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_cmpgt_epi32, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_maskstore_ps, _mm256_or_si256,
    _mm256_permute2f128_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_shuffle_ps, _mm256_slli_epi32,
    _mm256_srli_epi32, _mm256_storeu_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
};

use super::out::OutBlock;
use super::source::Source;
use super::tier::Tile;
use super::{Form, PANEL, portable};

/// Columns of one register tile: half a panel.
const HALF: usize = 16;

/// Proof that this processor has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Present(());

impl Present {
    /// The proof, where it holds.
    pub(super) fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        present.then_some(Self(()))
    }
}

/// One tile of up to 12x32, as tiles of 4x16, or of 2x32 where there are so few rows: a panel is then
/// read along, once. Lengths are checked by the caller.
pub(super) fn tile(_: Present, form: Form, tile: Tile<'_>, mut out: OutBlock<'_>) {
    let (rows, columns) = (out.rows(), out.columns());
    let (height, width) = if rows <= 2 { (2, PANEL) } else { (4, HALF) };
    for column in (0..columns).step_by(width) {
        for row in (0..rows).step_by(height) {
            let corner = Corner {
                left: tile.rows[row..].as_ptr().cast(),
                left_step: rows,
                right: tile.panels[column..].as_ptr(),
                depth: tile.depth,
                accumulate: tile.accumulate,
                out: out.start().wrapping_add(row * out.stride() + column),
                out_stride: out.stride(),
                columns: (columns - column).min(width),
            };
            // SAFETY: `Present` proves the instructions; the packed lengths are asserted by `Tier::tile`, and the
            // corner's rows and columns lie inside the block.
            unsafe {
                if form == Form::F32 {
                    corner.of_rows::<false>((rows - row).min(height), width == PANEL);
                } else {
                    corner.of_rows::<true>((rows - row).min(height), width == PANEL);
                }
            }
        }
    }
}

/// Up to 4 rows by 16 columns of a tile, or 2 by 32.
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
    unsafe fn of_rows<const PAIRS: bool>(self, rows: usize, whole_panel: bool) {
        // SAFETY: passed on to the caller.
        unsafe {
            match (rows, whole_panel) {
                (1, true) => self.run::<1, 4, PAIRS>(),
                (_, true) => self.run::<2, 4, PAIRS>(),
                (1, false) => self.run::<1, 2, PAIRS>(),
                (2, false) => self.run::<2, 2, PAIRS>(),
                (3, false) => self.run::<3, 2, PAIRS>(),
                (_, false) => self.run::<4, 2, PAIRS>(),
            }
        }
    }

    /// # Safety
    /// `left` reaches `ROWS` lanes at each of `depth` steps (twice as many of pairs), `right` `8 * WIDTH` lanes at each
    /// panel's width, and `out` `ROWS` rows of `columns`.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn run<const ROWS: usize, const WIDTH: usize, const PAIRS: bool>(self) {
        let mut sums = [[_mm256_setzero_ps(); WIDTH]; ROWS];
        // Written out because the loops must be gone at every optimisation level.
        macro_rules! each_row {
            ($row:ident, $body:block) => { each_row!(@ $row, $body, 0 1 2 3) };
            (@ $row:ident, $body:block, $($index:literal)*) => {
                $( if $index < ROWS { const $row: usize = $index; $body } )*
            };
        }
        macro_rules! each_part {
            ($part:ident, $body:block) => { each_part!(@ $part, $body, 0 1 2 3) };
            (@ $part:ident, $body:block, $($index:literal)*) => {
                $( if $index < WIDTH { const $part: usize = $index; $body } )*
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
                let mut columns = [_mm256_setzero_si256(); WIDTH];
                each_part!(PART, {
                    columns[PART] = _mm256_loadu_si256(right.add(8 * PART).cast());
                });
                if PAIRS {
                    // The upper step first, as VDPBF16PS does, so that the tiers agree.
                    let mut high = [_mm256_setzero_ps(); WIDTH];
                    each_part!(PART, {
                        high[PART] = upper(columns[PART]);
                    });
                    each_row!(ROW, {
                        let one = _mm256_set1_ps(left.add(self.left_step + ROW).read());
                        each_part!(PART, {
                            sums[ROW][PART] = _mm256_fmadd_ps(one, high[PART], sums[ROW][PART]);
                        });
                    });
                }
                let mut low = [_mm256_setzero_ps(); WIDTH];
                each_part!(PART, {
                    low[PART] = if PAIRS {
                        lower(columns[PART])
                    } else {
                        _mm256_castsi256_ps(columns[PART])
                    };
                });
                each_row!(ROW, {
                    let one = _mm256_set1_ps(left.add(ROW).read());
                    each_part!(PART, {
                        sums[ROW][PART] = _mm256_fmadd_ps(one, low[PART], sums[ROW][PART]);
                    });
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
    unsafe fn read_row<const WIDTH: usize>(&self, row: usize) -> [__m256; WIDTH] {
        let mut buffer = [0.0f32; PANEL];
        let mut parts = [_mm256_setzero_ps(); WIDTH];
        // SAFETY: the row is `columns` elements of the caller's own block, and the buffer is wide enough.
        unsafe {
            let from = self.out.wrapping_add(row * self.out_stride);
            from.copy_to_nonoverlapping(buffer.as_mut_ptr(), self.columns);
            for (part, numbers) in parts.iter_mut().zip(buffer.chunks_exact(8)) {
                *part = _mm256_loadu_ps(numbers.as_ptr());
            }
        }
        parts
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn write_row<const WIDTH: usize>(&self, row: usize, sums: [__m256; WIDTH]) {
        let mut buffer = [0.0f32; PANEL];
        // SAFETY: as in `read_row`.
        unsafe {
            for (numbers, part) in buffer.chunks_exact_mut(8).zip(sums) {
                _mm256_storeu_ps(numbers.as_mut_ptr(), part);
            }
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
        (Form::F32, 1, _) => unsafe { pack_deep::<false>(source, width, to) },
        // SAFETY: as above.
        (Form::Widened, 1, _) => unsafe { pack_deep::<true>(source, width, to) },
        (Form::F32, _, 1) => pack_wide(source, width, to),
        _ => portable::pack(form, source, width, to),
    }
}

/// Packs lanes whose depth is contiguous: 8 lanes by 8 steps are transposed at a time, the last steps
/// one by one. Rounded to bf16 where `WIDENED`, and else as they are.
///
/// # Safety
/// `source.depth_stride()` is 1 and `to` holds `depth * width`.
#[target_feature(enable = "avx2,fma")]
unsafe fn pack_deep<const WIDENED: bool>(source: Source<'_>, width: usize, to: &mut [u32]) {
    let (lanes, depth) = (source.lanes(), source.depth());
    let whole_steps = depth / 8 * 8;
    for lane in (0..width).step_by(8) {
        let (held, stored) = (lanes.saturating_sub(lane).min(8), first(width - lane));
        for step in (0..whole_steps).step_by(8) {
            let mut block = [_mm256_setzero_ps(); 8];
            for (index, row) in block.iter_mut().enumerate().take(held) {
                let from = (lane + index) * source.lane_stride() + step;
                // SAFETY: lane + index < lanes and step + 8 <= depth, so `Source` keeps the read inside its data.
                let numbers = unsafe { _mm256_loadu_ps(source.data().as_ptr().wrapping_add(from)) };
                *row = if WIDENED { rounded(numbers) } else { numbers };
            }
            for (index, row) in transpose(block).into_iter().enumerate() {
                let place = to.as_mut_ptr().wrapping_add((step + index) * width + lane);
                // SAFETY: step + index < depth, and the mask keeps the store below `width`.
                unsafe { _mm256_maskstore_ps(place.cast(), stored, row) };
            }
        }
    }
    let rest = source.part(0, lanes, whole_steps, depth - whole_steps);
    let form = if WIDENED { Form::Widened } else { Form::F32 };
    portable::pack(form, rest, width, &mut to[whole_steps * width..]);
}

/// Rounded to bf16, to nearest and ties to even; NaN stays NaN, made quiet.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn rounded(numbers: __m256) -> __m256 {
    let bits = _mm256_castps_si256(numbers);
    let upper = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let bias = _mm256_add_epi32(_mm256_set1_epi32(0x7fff), odd);
    let nearest = _mm256_and_si256(_mm256_add_epi32(bits, bias), upper);
    let quiet = _mm256_and_si256(_mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000)), upper);
    let is_nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(numbers, numbers);
    _mm256_blendv_ps(
        _mm256_castsi256_ps(nearest),
        _mm256_castsi256_ps(quiet),
        is_nan,
    )
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
