//! Register tiles of 6 rows by 32 columns of VPDPBUSD, which takes four steps at a time.

use std::arch::x86_64::{
    __m512i, _CMP_LT_OQ, _MM_HINT_T1, _mm_prefetch, _mm_storeu_si128, _mm256_loadu_si256,
    _mm512_abs_ps, _mm512_add_epi32, _mm512_and_si512, _mm512_cmp_ps_mask, _mm512_cvtepi32_epi8,
    _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_cvtps_epi32, _mm512_dpbusd_epi32, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_storeu_ps, _mm512_max_ps, _mm512_mul_ps,
    _mm512_reduce_add_epi32, _mm512_reduce_max_ps, _mm512_set1_epi8, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_srai_epi32, _mm512_srli_epi16,
};

use super::layout::Layout;
use super::{BLOCK, Bits, Line, Tile, blocks};
use crate::kernel::matmul::avx512::{Present, first};
use crate::kernel::matmul::out::OutBlock;

/// Most rows of one register tile, and of a packed one.
const TILE: usize = Layout::Quads.tile_rows();
/// Columns of one vector of sums.
const WIDTH: usize = 16;

macro_rules! each {
    ($count:ident, $index:ident, $body:block) => { each!(@ $count, $index, $body, 0 1 2 3 4 5) };
    (@ $count:ident, $index:ident, $body:block, $($at:literal)*) => {
        $( if $at < $count { const $index: usize = $at; $body } )*
    };
}

/// Lengths are checked by the caller.
pub(super) fn tile(_: Present, tile: &Tile<'_>, out: &mut OutBlock<'_>) {
    let corner = Corner {
        tile,
        out: out.start(),
        out_stride: out.stride(),
        columns: out.columns(),
    };
    // SAFETY: `Present` proves the instructions, and the caller has checked the lengths.
    unsafe {
        match tile.bits {
            Bits::Eight => corner.of_rows::<false>(tile.height),
            Bits::Four => corner.of_rows::<true>(tile.height),
        }
    }
}

/// A tile and the place of its sums.
struct Corner<'a> {
    tile: &'a Tile<'a>,
    out: *mut f32,
    out_stride: usize,
    columns: usize,
}

impl Corner<'_> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn of_rows<const FOUR: bool>(self, rows: usize) {
        // SAFETY: passed on to the caller.
        unsafe {
            match rows {
                1 => self.run::<1, FOUR>(),
                2 => self.run::<2, FOUR>(),
                3 => self.run::<3, FOUR>(),
                4 => self.run::<4, FOUR>(),
                5 => self.run::<5, FOUR>(),
                _ => self.run::<TILE, FOUR>(),
            }
        }
    }

    /// # Safety
    /// The tile has `ROWS` rows, and `out` as many rows of `columns`, at most 32.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn run<const ROWS: usize, const FOUR: bool>(self) {
        let height = ROWS;
        let step = if FOUR { Bits::Four } else { Bits::Eight }.lines();
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        let mut line = self.tile.panel.as_ptr();
        let mut lanes = self.tile.rows.as_ptr();
        let mut ahead = self.tile.ahead;
        for _ in blocks(self.tile) {
            for line in 0..ahead.lines() {
                _mm_prefetch::<_MM_HINT_T1>(ahead.line(line));
            }
            ahead.step();
            // SAFETY: block by block, `line` advances over the panel and `lanes` over the rows,
            // whose lengths the caller has checked.
            unsafe {
                let products = self.block::<ROWS, FOUR>(line, lanes);
                let halves = line.cast::<u8>();
                let scales = [
                    _mm512_cvtph_ps(_mm256_loadu_si256(halves.cast())),
                    _mm512_cvtph_ps(_mm256_loadu_si256(halves.add(2 * WIDTH).cast())),
                ];
                each!(ROWS, ROW, {
                    let own = _mm512_set1_ps(f32::from_bits(lanes.add(ROW).read()));
                    let [left, right] = products[ROW].map(|it| _mm512_cvtepi32_ps(it));
                    sums[ROW] = [
                        _mm512_fmadd_ps(left, _mm512_mul_ps(scales[0], own), sums[ROW][0]),
                        _mm512_fmadd_ps(right, _mm512_mul_ps(scales[1], own), sums[ROW][1]),
                    ];
                });
            }
            line = line.wrapping_add(step);
            lanes = lanes.wrapping_add(Layout::Quads.row_lanes() * height);
        }
        let masks = [
            first(self.columns),
            first(self.columns.saturating_sub(WIDTH)),
        ];
        each!(ROWS, ROW, {
            let to = self.out.wrapping_add(ROW * self.out_stride);
            // SAFETY: the row is `columns` elements of the caller's own block; what the masks leave
            // out is not touched.
            unsafe {
                _mm512_mask_storeu_ps(to, masks[0], sums[ROW][0]);
                _mm512_mask_storeu_ps(to.wrapping_add(WIDTH), masks[1], sums[ROW][1]);
            }
        });
    }

    /// The products of one block, in whole numbers.
    ///
    /// # Safety
    /// `line` and `lanes` are at a block of the tile.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn block<const ROWS: usize, const FOUR: bool>(
        &self,
        line: *const Line,
        lanes: *const u32,
    ) -> [[__m512i; 2]; ROWS] {
        let height = ROWS;
        let mut products = [[_mm512_setzero_si512(); 2]; ROWS];
        macro_rules! add_quad {
            ($weights:expr, $quad:expr) => {
                let weights = $weights;
                let quads = lanes.wrapping_add((2 + $quad) * height);
                each!(ROWS, ROW, {
                    let four = _mm512_set1_epi32(quads.add(ROW).read().cast_signed());
                    let [left, right] = products[ROW];
                    products[ROW] = [
                        _mm512_dpbusd_epi32(left, weights[0], four),
                        _mm512_dpbusd_epi32(right, weights[1], four),
                    ];
                });
            };
        }
        // SAFETY: the block has 16 lines of weights, or 8 of 4 bits, after its scales, and the rows
        // have 8 quads after theirs and what is taken back.
        unsafe {
            each!(ROWS, ROW, {
                let start = lanes.wrapping_add(height + ROW).read().cast_signed();
                let start = _mm512_set1_epi32(start);
                // Where 8 was added instead of 128, a sixteenth is taken back.
                let start = if FOUR {
                    _mm512_srai_epi32::<4>(start)
                } else {
                    start
                };
                products[ROW] = [start; 2];
            });
            let low = _mm512_set1_epi8(15);
            for quad in 0..if FOUR { 4 } else { 8 } {
                let left = _mm512_loadu_si512(line.add(1 + 2 * quad).cast());
                let right = _mm512_loadu_si512(line.add(2 + 2 * quad).cast());
                if FOUR {
                    let halves = [_mm512_and_si512(left, low), _mm512_and_si512(right, low)];
                    add_quad!(halves, quad);
                    let left = _mm512_and_si512(_mm512_srli_epi16::<4>(left), low);
                    let right = _mm512_and_si512(_mm512_srli_epi16::<4>(right), low);
                    add_quad!([left, right], 4 + quad);
                } else {
                    add_quad!([left, right], quad);
                }
            }
        }
        products
    }
}

/// Rounds a row whose steps lie side by side and writes it as `row` of `count`, as
/// `Layout::pack_block` does block by block.
pub(super) fn pack_row(_: Present, x: &[f32], place: (usize, usize), lanes: &mut [u32]) {
    // SAFETY: `Present` proves the instructions.
    unsafe { pack_blocks(x, place, lanes) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn pack_blocks(x: &[f32], (row, count): (usize, usize), lanes: &mut [u32]) {
    let (blocks, rest) = x.as_chunks::<BLOCK>();
    let mut end = [0.0; BLOCK];
    end[..rest.len()].copy_from_slice(rest);
    let ends = if rest.is_empty() { &[][..] } else { &[end][..] };
    let lanes = lanes.chunks_exact_mut(Layout::Quads.row_lanes() * count);
    for (block, lanes) in blocks.iter().chain(ends).zip(lanes) {
        let mut quads = [0u32; BLOCK / 4];
        let (scale, start) = quantize(block, &mut quads);
        lanes[row] = scale.to_bits();
        lanes[count + row] = start.cast_unsigned();
        for (quad, four) in quads.into_iter().enumerate() {
            lanes[(2 + quad) * count + row] = four;
        }
    }
}

/// The scale, and -128 times the sum of the numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn quantize(block: &[f32; BLOCK], quads: &mut [u32; BLOCK / 4]) -> (f32, i32) {
    // SAFETY: both halves lie inside the block.
    let x = unsafe {
        let from = block.as_ptr();
        [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16))]
    };
    let sizes = x.map(|x| _mm512_abs_ps(x));
    let endless = _mm512_set1_ps(f32::INFINITY);
    let finite = sizes.map(|size| _mm512_cmp_ps_mask::<_CMP_LT_OQ>(size, endless));
    if finite != [u16::MAX; 2] {
        quads.fill(0);
        return (f32::NAN, 0);
    }
    let largest = _mm512_reduce_max_ps(_mm512_max_ps(sizes[0], sizes[1]));
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let numbers = x.map(|x| _mm512_cvtps_epi32(_mm512_mul_ps(x, _mm512_set1_ps(inverse))));
    let sum = _mm512_reduce_add_epi32(_mm512_add_epi32(numbers[0], numbers[1]));
    let to = quads.as_mut_ptr().cast::<u8>();
    // SAFETY: 16 bytes each, of the 32 that the quads have.
    unsafe {
        _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(numbers[0]));
        _mm_storeu_si128(to.add(16).cast(), _mm512_cvtepi32_epi8(numbers[1]));
    }
    (largest / 127.0, -128 * sum)
}
