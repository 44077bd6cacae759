//! The tier in plain Rust: the reference layout of packing, and kernels for every target.

use super::out::OutBlock;
use super::source::Source;
use super::tier::Tile;
use super::{PANEL, Precision};

/// Packs `source` into `[depth lanes][width]`; lengths are checked by the caller.
pub(super) fn pack(precision: Precision, source: Source<'_>, width: usize, to: &mut [u32]) {
    for (lane_step, row) in to.chunks_exact_mut(width).enumerate() {
        for (lane, place) in row.iter_mut().enumerate() {
            *place = if lane < source.lanes() {
                packed_lane(precision, source, lane, lane_step)
            } else {
                0
            };
        }
    }
}

fn packed_lane(precision: Precision, source: Source<'_>, lane: usize, lane_step: usize) -> u32 {
    match precision {
        Precision::F32 => source.at(lane, lane_step).to_bits(),
        Precision::Bf16 => {
            let low = bf16_bits(source.at(lane, 2 * lane_step));
            let next = 2 * lane_step + 1;
            let high = if next < source.depth() {
                bf16_bits(source.at(lane, next))
            } else {
                0
            };
            low | (high << 16)
        }
    }
}

fn bf16_bits(value: f32) -> u32 {
    u32::from(half::bf16::from_f32(value).to_bits())
}

/// One register tile; lengths are checked by the caller.
pub(super) fn tile(precision: Precision, tile: Tile<'_>, mut out: OutBlock<'_>) {
    let rows = out.rows();
    for row in 0..rows {
        let columns = out.columns();
        // SAFETY: row `row` of the block is `columns` elements inside the output (OutBlock's invariant), and the
        // block is this call's own.
        let target =
            unsafe { std::slice::from_raw_parts_mut(out.start().add(row * out.stride()), columns) };
        let mut sums = [0.0f32; PANEL];
        if tile.accumulate {
            sums[..columns].copy_from_slice(target);
        }
        let steps = tile
            .rows
            .chunks_exact(rows)
            .zip(tile.panel.chunks_exact(PANEL));
        for (left, right) in steps {
            add_step(precision, left[row], right, &mut sums);
        }
        target.copy_from_slice(&sums[..columns]);
    }
}

#[inline]
fn add_step(precision: Precision, left: u32, right: &[u32], sums: &mut [f32; PANEL]) {
    match precision {
        Precision::F32 => {
            let left = f32::from_bits(left);
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum += left * f32::from_bits(*right);
            }
        }
        Precision::Bf16 => {
            let (low, high) = halves(left);
            for (sum, right) in sums.iter_mut().zip(right) {
                let (right_low, right_high) = halves(*right);
                *sum += low * right_low;
                *sum += high * right_high;
            }
        }
    }
}

const fn halves(pair: u32) -> (f32, f32) {
    (
        f32::from_bits(pair << 16),
        f32::from_bits(pair & 0xffff_0000),
    )
}
