//! The AVX-512 tier: 12x32 register tiles of FMA or VDPBF16PS, and packing by 16x16 transposition.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cvtne2ps_pbh,
    _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_si512, _mm512_mask_storeu_epi32,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16, _mm512_set_epi16,
    _mm512_set1_epi32, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_i32x4,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::mem::transmute;

use super::out::OutBlock;
use super::source::Source;
use super::tier::Tile;
use super::{PANEL, Precision, portable};

/// Proof that this processor has AVX-512 F, BW, VL and BF16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Present(());

impl Present {
    /// The proof, where it holds.
    pub(super) fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bf16");
        present.then_some(Self(()))
    }
}

/// One register tile; lengths are checked by the caller.
pub(super) fn tile(_: Present, precision: Precision, tile: Tile<'_>, out: OutBlock<'_>) {
    // SAFETY: `Present` proves the instructions; the lengths the kernel relies on are asserted by `Tier::tile`.
    unsafe {
        match precision {
            Precision::F32 => tile_of_rows::<false>(tile, out),
            Precision::Bf16 => tile_of_rows::<true>(tile, out),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn tile_of_rows<const PAIRS: bool>(tile: Tile<'_>, out: OutBlock<'_>) {
    // SAFETY: passed on to the caller.
    unsafe {
        match out.rows() {
            1 => rows::<1, PAIRS>(tile, out),
            2 => rows::<2, PAIRS>(tile, out),
            3 => rows::<3, PAIRS>(tile, out),
            4 => rows::<4, PAIRS>(tile, out),
            5 => rows::<5, PAIRS>(tile, out),
            6 => rows::<6, PAIRS>(tile, out),
            7 => rows::<7, PAIRS>(tile, out),
            8 => rows::<8, PAIRS>(tile, out),
            9 => rows::<9, PAIRS>(tile, out),
            10 => rows::<10, PAIRS>(tile, out),
            11 => rows::<11, PAIRS>(tile, out),
            _ => rows::<12, PAIRS>(tile, out),
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn multiply_add<const PAIRS: bool>(sum: __m512, left: __m512i, right: __m512i) -> __m512 {
    if PAIRS {
        // SAFETY: both types are 64 plain bytes.
        let (left, right) = unsafe {
            (
                transmute::<__m512i, __m512bh>(left),
                transmute::<__m512i, __m512bh>(right),
            )
        };
        _mm512_dpbf16_ps(sum, left, right)
    } else {
        _mm512_fmadd_ps(_mm512_castsi512_ps(left), _mm512_castsi512_ps(right), sum)
    }
}

/// The first `columns` of 32, as the masks of two registers.
const fn masks(columns: usize) -> (u16, u16) {
    let mask = if columns >= PANEL {
        u32::MAX
    } else {
        (1u32 << columns) - 1
    };
    ((mask & 0xffff) as u16, (mask >> 16) as u16)
}

/// `ROWS` by 32 sums, held in registers over the whole depth.
///
/// # Safety
/// `out` has `ROWS` rows and at most 32 columns; `tile.rows` holds `depth * ROWS` and `tile.panel` `depth * 32` lanes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn rows<const ROWS: usize, const PAIRS: bool>(tile: Tile<'_>, mut out: OutBlock<'_>) {
    let (low, high) = masks(out.columns());
    let (start, stride) = (out.start(), out.stride());
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    // The rows are written out because the loops must be gone at every optimisation level.
    macro_rules! each_row {
        ($row:ident, $body:block) => {
            each_row!(@ $row, $body, 0 1 2 3 4 5 6 7 8 9 10 11)
        };
        (@ $row:ident, $body:block, $($index:literal)*) => {
            $( if $index < ROWS { const $row: usize = $index; $body } )*
        };
    }
    let mut left = tile.rows.as_ptr();
    let mut right = tile.panel.as_ptr().cast::<__m512i>();
    // SAFETY: `left` and `right` advance `depth` times by ROWS and 32 lanes, the lengths of their slices; each row of
    // `out` is `columns` elements that this call owns, and masked lanes are not touched.
    unsafe {
        if tile.accumulate {
            each_row!(ROW, {
                let row = start.wrapping_add(ROW * stride);
                sums[ROW][0] = _mm512_maskz_loadu_ps(low, row);
                sums[ROW][1] = _mm512_maskz_loadu_ps(high, row.wrapping_add(16));
            });
        }
        for _ in 0..tile.depth {
            let columns = [_mm512_loadu_si512(right), _mm512_loadu_si512(right.add(1))];
            each_row!(ROW, {
                let one = _mm512_set1_epi32(left.add(ROW).read().cast_signed());
                sums[ROW][0] = multiply_add::<PAIRS>(sums[ROW][0], one, columns[0]);
                sums[ROW][1] = multiply_add::<PAIRS>(sums[ROW][1], one, columns[1]);
            });
            left = left.add(ROWS);
            right = right.add(2);
        }
        each_row!(ROW, {
            let row = start.wrapping_add(ROW * stride);
            _mm512_mask_storeu_ps(row, low, sums[ROW][0]);
            _mm512_mask_storeu_ps(row.wrapping_add(16), high, sums[ROW][1]);
        });
    }
}

/// Packs `source` into `[depth lanes][width]`; lengths are checked by the caller.
pub(super) fn pack(
    present: Present,
    precision: Precision,
    source: Source<'_>,
    width: usize,
    to: &mut [u32],
) {
    let _ = present;
    // SAFETY: `Present` proves the instructions; `Source` keeps every element it names inside its data, and the
    // length of `to` is asserted by `Tier::pack`.
    unsafe {
        match (source.depth_stride(), source.lane_stride(), precision) {
            (1, _, Precision::F32) => pack_deep::<false>(source, width, to),
            (1, _, Precision::Bf16) => pack_deep::<true>(source, width, to),
            (_, 1, Precision::F32) => pack_wide::<false>(source, width, to),
            (_, 1, Precision::Bf16) => pack_wide::<true>(source, width, to),
            _ => portable::pack(precision, source, width, to),
        }
    }
}

/// A mask of the first `count` of 16 lanes.
const fn first(count: usize) -> u16 {
    if count >= 16 {
        u16::MAX
    } else {
        (1u16 << count) - 1
    }
}

/// Packs lanes whose depth is contiguous: 16 lanes by 16 packed steps are transposed at a time.
///
/// # Safety
/// `source.depth_stride()` is 1 and `to` holds `lanes(depth) * width`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn pack_deep<const PAIRS: bool>(source: Source<'_>, width: usize, to: &mut [u32]) {
    let per_lane = if PAIRS { 2 } else { 1 };
    let steps = source.depth().div_ceil(per_lane);
    for lane in (0..width).step_by(16) {
        let store = first(width - lane);
        for step in (0..steps).step_by(16) {
            let left = source.depth() - step * per_lane;
            let mut block = [_mm512_setzero_si512(); 16];
            for (index, row) in block.iter_mut().enumerate() {
                if lane + index < source.lanes() {
                    let from = source
                        .data()
                        .as_ptr()
                        .wrapping_add((lane + index) * source.lane_stride() + step * per_lane);
                    // SAFETY: the masks keep the reads inside this lane's depth.
                    *row = unsafe { load_lanes::<PAIRS>(from, left) };
                }
            }
            let block = transpose(block);
            for (index, row) in block.iter().enumerate().take(steps - step) {
                let place = to.as_mut_ptr().wrapping_add((step + index) * width + lane);
                // SAFETY: step + index < steps and the mask keeps the store below `width`.
                unsafe { _mm512_mask_storeu_epi32(place.cast(), store, *row) };
            }
        }
    }
}

/// Sixteen packed lanes from contiguous numbers, of which `left` remain.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn load_lanes<const PAIRS: bool>(from: *const f32, left: usize) -> __m512i {
    // SAFETY: only the first `left` numbers are read, which the caller vouches for.
    unsafe {
        let low = _mm512_maskz_loadu_ps(first(left), from);
        if PAIRS {
            let high = _mm512_maskz_loadu_ps(first(left.saturating_sub(16)), from.wrapping_add(16));
            transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
        } else {
            _mm512_castps_si512(low)
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(r: [__m512i; 16]) -> [__m512i; 16] {
    let mut t = [_mm512_setzero_si512(); 16];
    macro_rules! pairs {
        ($($i:literal)*) => { $(
            t[2 * $i] = _mm512_unpacklo_epi32(r[2 * $i], r[2 * $i + 1]);
            t[2 * $i + 1] = _mm512_unpackhi_epi32(r[2 * $i], r[2 * $i + 1]);
        )* };
    }
    pairs!(0 1 2 3 4 5 6 7);
    // Quad `q` holds rows 4q..4q+4; its part `p` has columns p, p+4, p+8, p+12 of them, one per 128 bits.
    let mut q = [_mm512_setzero_si512(); 16];
    macro_rules! quads {
        ($($i:literal)*) => { $(
            q[4 * $i] = _mm512_unpacklo_epi64(t[4 * $i], t[4 * $i + 2]);
            q[4 * $i + 1] = _mm512_unpackhi_epi64(t[4 * $i], t[4 * $i + 2]);
            q[4 * $i + 2] = _mm512_unpacklo_epi64(t[4 * $i + 1], t[4 * $i + 3]);
            q[4 * $i + 3] = _mm512_unpackhi_epi64(t[4 * $i + 1], t[4 * $i + 3]);
        )* };
    }
    quads!(0 1 2 3);
    let mut out = [_mm512_setzero_si512(); 16];
    macro_rules! columns {
        ($($p:literal)*) => { $(
            let low_01 = _mm512_shuffle_i32x4::<0x44>(q[$p], q[4 + $p]);
            let high_01 = _mm512_shuffle_i32x4::<0xee>(q[$p], q[4 + $p]);
            let low_23 = _mm512_shuffle_i32x4::<0x44>(q[8 + $p], q[12 + $p]);
            let high_23 = _mm512_shuffle_i32x4::<0xee>(q[8 + $p], q[12 + $p]);
            out[$p] = _mm512_shuffle_i32x4::<0x88>(low_01, low_23);
            out[4 + $p] = _mm512_shuffle_i32x4::<0xdd>(low_01, low_23);
            out[8 + $p] = _mm512_shuffle_i32x4::<0x88>(high_01, high_23);
            out[12 + $p] = _mm512_shuffle_i32x4::<0xdd>(high_01, high_23);
        )* };
    }
    columns!(0 1 2 3);
    out
}

/// Packs lanes that are contiguous at each step.
///
/// # Safety
/// `source.lane_stride()` is 1 and `to` holds `lanes(depth) * width`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn pack_wide<const PAIRS: bool>(source: Source<'_>, width: usize, to: &mut [u32]) {
    let per_lane = if PAIRS { 2 } else { 1 };
    let interleave = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
        19, 3, 18, 2, 17, 1, 16, 0,
    );
    for step in 0..source.depth().div_ceil(per_lane) {
        let from = source
            .data()
            .as_ptr()
            .wrapping_add(step * per_lane * source.depth_stride());
        let paired = PAIRS && step * per_lane + 1 < source.depth();
        for lane in (0..width).step_by(16) {
            let load = first(source.lanes().saturating_sub(lane));
            let place = to.as_mut_ptr().wrapping_add(step * width + lane);
            // SAFETY: the load mask keeps reads inside this step's lanes (the second row is read only where the
            // depth has it); the store mask keeps writes inside this step of the panel.
            unsafe {
                let even = _mm512_maskz_loadu_ps(load, from.wrapping_add(lane));
                let lanes = if PAIRS {
                    let next = from.wrapping_add(source.depth_stride() + lane);
                    let odd = _mm512_maskz_loadu_ps(if paired { load } else { 0 }, next);
                    let both = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(odd, even));
                    _mm512_permutexvar_epi16(interleave, both)
                } else {
                    _mm512_castps_si512(even)
                };
                _mm512_mask_storeu_epi32(place.cast(), first(width - lane), lanes);
            }
        }
    }
}
