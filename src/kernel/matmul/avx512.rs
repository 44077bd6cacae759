//! The AVX-512 tier: 12x32 register tiles of FMA or VDPBF16PS, and packing by 16x16 transposition.

mod narrow;

use std::arch::x86_64::{
    __cpuid, __m256bh, __m256i, __m512, __m512bh, __m512i, _MM_HINT_T1, _mm_prefetch,
    _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cvtepu16_epi32,
    _mm512_cvtne2ps_pbh, _mm512_cvtneps_pbh, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_si512,
    _mm512_mask_storeu_epi32, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_permutexvar_epi16, _mm512_set_epi16, _mm512_set1_epi32, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_slli_epi32, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::mem::transmute;
use std::sync::OnceLock;

use super::out::OutBlock;
use super::source::Source;
use super::tier::Tile;
use super::{Form, PANEL, portable};

const F32: u8 = Form::F32 as u8;
const PAIRS: u8 = Form::Pairs as u8;
const WIDENED: u8 = Form::Widened as u8;

/// Proof that this processor has AVX-512 F, BW, VL, VNNI and BF16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Present {
    slow_pairs: bool,
}

impl Present {
    /// The proof, where it holds.
    pub(super) fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx512bf16");
        present.then(|| Self {
            slow_pairs: made_by_intel(),
        })
    }

    /// The form of packed rows for bf16. Where VDPBF16PS runs at a quarter of the rate of FMA, widening wins; apart
    /// from subnormals the results are the same bits.
    pub(super) const fn row_form(self) -> Form {
        if self.slow_pairs {
            Form::Widened
        } else {
            Form::Pairs
        }
    }

    /// The same processor with the other choice of `row_form`, for tests.
    #[cfg(test)]
    pub(super) const fn other_form(self) -> Self {
        Self {
            slow_pairs: !self.slow_pairs,
        }
    }
}

/// Whether the processor names "GenuineIntel" as its maker.
fn made_by_intel() -> bool {
    static MAKER: OnceLock<bool> = OnceLock::new();
    *MAKER.get_or_init(|| __cpuid(0).ebx == u32::from_le_bytes(*b"Genu"))
}

/// One register tile; lengths are checked by the caller.
pub(super) fn tile(_: Present, form: Form, tile: Tile<'_>, out: OutBlock<'_>) {
    // SAFETY: `Present` proves the instructions; the lengths the kernel relies on are asserted by `Tier::tile`.
    unsafe {
        match form {
            Form::F32 => tile_of::<F32>(tile, out),
            Form::Pairs => tile_of::<PAIRS>(tile, out),
            Form::Widened => tile_of::<WIDENED>(tile, out),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn tile_of<const FORM: u8>(tile: Tile<'_>, out: OutBlock<'_>) {
    if FORM == F32 && out.columns() <= narrow::COLUMNS && out.rows() >= narrow::LEAST_ROWS {
        // SAFETY: passed on to the caller; the rows and columns were just looked at.
        return unsafe { narrow::tile(tile, out) };
    }
    // SAFETY: passed on to the caller; each arm names the rows and panels that `out` has.
    unsafe {
        match (out.rows(), out.columns().div_ceil(PANEL)) {
            (1, 1) => rows::<1, 1, FORM>(tile, out),
            (1, _) => rows::<1, 4, FORM>(tile, out),
            (2, 1) => rows::<2, 1, FORM>(tile, out),
            (2, _) => rows::<2, 4, FORM>(tile, out),
            (3, 1) => rows::<3, 1, FORM>(tile, out),
            (3, _) => rows::<3, 2, FORM>(tile, out),
            (4, 1) => rows::<4, 1, FORM>(tile, out),
            (4, _) => rows::<4, 2, FORM>(tile, out),
            (5, _) => rows::<5, 1, FORM>(tile, out),
            (6, _) => rows::<6, 1, FORM>(tile, out),
            (7, _) => rows::<7, 1, FORM>(tile, out),
            (8, _) => rows::<8, 1, FORM>(tile, out),
            (9, _) => rows::<9, 1, FORM>(tile, out),
            (10, _) => rows::<10, 1, FORM>(tile, out),
            (11, _) => rows::<11, 1, FORM>(tile, out),
            _ => rows::<12, 1, FORM>(tile, out),
        }
    }
}

/// The masks of panel `index`'s two registers in a tile of `columns`.
const fn masks(columns: usize, index: usize) -> [u16; 2] {
    let left = columns.saturating_sub(index * PANEL);
    [first(left), first(left.saturating_sub(16))]
}

/// A mask of the first `count` of 16 lanes.
pub(super) const fn first(count: usize) -> u16 {
    if count >= 16 {
        u16::MAX
    } else {
        (1u16 << count) - 1
    }
}

/// `ROWS` by `WIDTH` panels of sums, held in registers over the whole depth.
///
/// # Safety
/// `out` has `ROWS` rows and reaches into the last of `WIDTH` panels; `tile.rows` holds `depth * ROWS` lanes (twice
/// that if widened) and `tile.panels` `depth * 32` lanes at each of `WIDTH` strides.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn rows<const ROWS: usize, const WIDTH: usize, const FORM: u8>(
    tile: Tile<'_>,
    mut out: OutBlock<'_>,
) {
    let (columns, start, stride) = (out.columns(), out.start(), out.stride());
    let mut sums = [[[_mm512_setzero_ps(); 2]; WIDTH]; ROWS];
    // The rows and panels are written out because the loops must be gone at every optimisation level.
    macro_rules! each {
        ($row:ident, $panel:ident, $body:block) => {
            each!(@ $row, $panel, $body, 0 1 2 3 4 5 6 7 8 9 10 11)
        };
        (@ $row:ident, $panel:ident, $body:block, $($index:literal)*) => {
            $( if $index < ROWS { const $row: usize = $index; each!(% $panel, $body, 0 1 2 3); } )*
        };
        (% $panel:ident, $body:block, $($index:literal)*) => {
            $( if $index < WIDTH { const $panel: usize = $index; $body } )*
        };
    }
    let mut ahead = tile.ahead;
    let second = ahead.lines().saturating_sub(1);
    let mut left = tile.rows.as_ptr();
    let mut right = tile.panels.as_ptr();
    // SAFETY: `left` and `right` advance over the lengths the caller vouches for; each row of `out` is `columns`
    // elements that this call owns, and masked lanes are not touched.
    unsafe {
        if tile.accumulate {
            each!(ROW, AT, {
                let place = start.wrapping_add(ROW * stride + AT * PANEL);
                let mask = masks(columns, AT);
                sums[ROW][AT][0] = _mm512_maskz_loadu_ps(mask[0], place);
                sums[ROW][AT][1] = _mm512_maskz_loadu_ps(mask[1], place.wrapping_add(16));
            });
        }
        for _ in 0..tile.depth {
            // Two at most, as a step of a panel has; the same one twice costs nothing.
            _mm_prefetch::<_MM_HINT_T1>(ahead.line(0));
            _mm_prefetch::<_MM_HINT_T1>(ahead.line(second));
            ahead.step();
            let mut panels = [[_mm512_setzero_si512(); 2]; WIDTH];
            each!(% AT, {
                let place = right.wrapping_add(AT * tile.panel_stride);
                panels[AT] = [_mm512_loadu_si512(place.cast()), _mm512_loadu_si512(place.add(16).cast())];
            }, 0 1 2 3);
            if FORM == WIDENED {
                // The upper step of a pair first, as VDPBF16PS does.
                each!(ROW, AT, {
                    let one = _mm512_set1_epi32(left.add(ROWS + ROW).read().cast_signed());
                    sums[ROW][AT][0] =
                        multiply_add::<F32>(sums[ROW][AT][0], one, upper(panels[AT][0]));
                    sums[ROW][AT][1] =
                        multiply_add::<F32>(sums[ROW][AT][1], one, upper(panels[AT][1]));
                });
                each!(% AT, {
                    panels[AT] = [
                        _mm512_slli_epi32::<16>(panels[AT][0]),
                        _mm512_slli_epi32::<16>(panels[AT][1]),
                    ];
                }, 0 1 2 3);
            }
            each!(ROW, AT, {
                let one = _mm512_set1_epi32(left.add(ROW).read().cast_signed());
                sums[ROW][AT][0] = multiply_add::<FORM>(sums[ROW][AT][0], one, panels[AT][0]);
                sums[ROW][AT][1] = multiply_add::<FORM>(sums[ROW][AT][1], one, panels[AT][1]);
            });
            left = left.add(if FORM == WIDENED { 2 * ROWS } else { ROWS });
            right = right.add(PANEL);
        }
        each!(ROW, AT, {
            let place = start.wrapping_add(ROW * stride + AT * PANEL);
            let mask = masks(columns, AT);
            _mm512_mask_storeu_ps(place, mask[0], sums[ROW][AT][0]);
            _mm512_mask_storeu_ps(place.wrapping_add(16), mask[1], sums[ROW][AT][1]);
        });
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn multiply_add<const FORM: u8>(sum: __m512, left: __m512i, right: __m512i) -> __m512 {
    if FORM == PAIRS {
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

/// The upper bf16 of each pair, as f32.
#[inline]
#[target_feature(enable = "avx512f")]
fn upper(pairs: __m512i) -> __m512i {
    _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()))
}

/// Packs `source` into `[depth lanes][width]`; lengths are checked by the caller.
pub(super) fn pack(_: Present, form: Form, source: Source<'_>, width: usize, to: &mut [u32]) {
    // SAFETY: `Present` proves the instructions; `Source` keeps every element it names inside its data, and the
    // length of `to` is asserted by `Tier::pack`.
    unsafe {
        match (source.depth_stride(), source.lane_stride(), form) {
            (1, _, Form::F32) => pack_deep::<F32>(source, width, to),
            (1, _, Form::Pairs) => pack_deep::<PAIRS>(source, width, to),
            (1, _, Form::Widened) => pack_deep::<WIDENED>(source, width, to),
            (_, 1, Form::F32) => pack_wide::<F32>(source, width, to),
            (_, 1, Form::Pairs) => pack_wide::<PAIRS>(source, width, to),
            (_, 1, Form::Widened) => pack_wide::<WIDENED>(source, width, to),
            _ => portable::pack(form, source, width, to),
        }
    }
}

/// Packs lanes whose depth is contiguous: 16 lanes by 16 packed steps are transposed at a time.
///
/// # Safety
/// `source.depth_stride()` is 1 and `to` holds `lanes(depth) * width`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn pack_deep<const FORM: u8>(source: Source<'_>, width: usize, to: &mut [u32]) {
    let per_lane = if FORM == PAIRS { 2 } else { 1 };
    let steps = to.len() / width;
    for lane in (0..width).step_by(16) {
        let store = first(width - lane);
        for step in (0..steps).step_by(16) {
            let left = source.depth().saturating_sub(step * per_lane);
            let mut block = [_mm512_setzero_si512(); 16];
            for (index, row) in block.iter_mut().enumerate() {
                if lane + index < source.lanes() {
                    let from = source
                        .data()
                        .as_ptr()
                        .wrapping_add((lane + index) * source.lane_stride() + step * per_lane);
                    // SAFETY: the masks keep the reads inside this lane's depth.
                    *row = unsafe { load_lanes::<FORM>(from, left) };
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
unsafe fn load_lanes<const FORM: u8>(from: *const f32, left: usize) -> __m512i {
    // SAFETY: only the first `left` numbers are read, which the caller vouches for.
    unsafe {
        let low = _mm512_maskz_loadu_ps(first(left), from);
        if FORM == PAIRS {
            let high = _mm512_maskz_loadu_ps(first(left.saturating_sub(16)), from.wrapping_add(16));
            transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
        } else if FORM == WIDENED {
            widened(low)
        } else {
            _mm512_castps_si512(low)
        }
    }
}

/// Numbers rounded to bf16, as f32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn widened(numbers: __m512) -> __m512i {
    // SAFETY: both types are 32 plain bytes.
    let rounded = unsafe { transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(numbers)) };
    _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(rounded))
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
unsafe fn pack_wide<const FORM: u8>(source: Source<'_>, width: usize, to: &mut [u32]) {
    let per_lane = if FORM == PAIRS { 2 } else { 1 };
    let interleave = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
        19, 3, 18, 2, 17, 1, 16, 0,
    );
    for step in 0..to.len() / width {
        let from = source
            .data()
            .as_ptr()
            .wrapping_add(step * per_lane * source.depth_stride());
        let paired = FORM == PAIRS && step * per_lane + 1 < source.depth();
        for lane in (0..width).step_by(16) {
            let load = if step * per_lane < source.depth() {
                first(source.lanes().saturating_sub(lane))
            } else {
                0
            };
            let place = to.as_mut_ptr().wrapping_add(step * width + lane);
            // SAFETY: the load mask keeps reads inside this step's lanes (the second row is read only where the
            // depth has it); the store mask keeps writes inside this step of the panel.
            unsafe {
                let even = _mm512_maskz_loadu_ps(load, from.wrapping_add(lane));
                let lanes = if FORM == PAIRS {
                    let next = from.wrapping_add(source.depth_stride() + lane);
                    let odd = _mm512_maskz_loadu_ps(if paired { load } else { 0 }, next);
                    let both = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(odd, even));
                    _mm512_permutexvar_epi16(interleave, both)
                } else if FORM == WIDENED {
                    widened(even)
                } else {
                    _mm512_castps_si512(even)
                };
                _mm512_mask_storeu_epi32(place.cast(), first(width - lane), lanes);
            }
        }
    }
}
