//! Tiles that reach into the first half of their panel only, as products with low-rank matrices do: half
//! the registers, half the time.

use std::arch::x86_64::{
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps,
    _mm512_setzero_ps,
};

use super::super::PANEL;
use super::super::out::OutBlock;
use super::super::tier::Tile;
use super::first;

/// Most columns of such a tile.
pub(super) const COLUMNS: usize = 16;
/// Fewer rows have no kernel here.
pub(super) const LEAST_ROWS: usize = 8;

/// One register tile in f32.
///
/// # Safety
/// `out` has `LEAST_ROWS` to 12 rows and at most `COLUMNS` columns; `tile.rows` holds `depth` lanes for each
/// row, `tile.panels` a panel of that depth.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn tile(tile: Tile<'_>, out: OutBlock<'_>) {
    // SAFETY: passed on to the caller; each arm names the rows that `out` has.
    unsafe {
        match out.rows() {
            8 => rows::<8>(tile, out),
            9 => rows::<9>(tile, out),
            10 => rows::<10>(tile, out),
            11 => rows::<11>(tile, out),
            _ => rows::<12>(tile, out),
        }
    }
}

/// # Safety
/// As `tile`, and `out` has `ROWS` rows.
#[target_feature(enable = "avx512f")]
unsafe fn rows<const ROWS: usize>(tile: Tile<'_>, mut out: OutBlock<'_>) {
    let (mask, start, stride) = (first(out.columns()), out.start(), out.stride());
    let mut sums = [_mm512_setzero_ps(); ROWS];
    let mut left = tile.rows.as_ptr().cast::<f32>();
    let mut right = tile.panels.as_ptr().cast::<f32>();
    // SAFETY: `left` and `right` advance over the lengths the caller vouches for; each row of `out` is
    // `columns` elements that this call owns, and masked lanes are not touched.
    unsafe {
        if tile.accumulate {
            for (row, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_maskz_loadu_ps(mask, start.add(row * stride));
            }
        }
        for _ in 0..tile.depth {
            let panel = _mm512_loadu_ps(right);
            for (row, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_fmadd_ps(_mm512_set1_ps(left.add(row).read()), panel, *sum);
            }
            left = left.add(ROWS);
            right = right.add(PANEL);
        }
        for (row, sum) in sums.iter().enumerate() {
            _mm512_mask_storeu_ps(start.add(row * stride), mask, *sum);
        }
    }
}
