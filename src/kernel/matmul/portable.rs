//! The tier in plain Rust: the reference layout of packing, and kernels for every target.

use super::out::OutBlock;
use super::source::Source;
use super::tier::Tile;
use super::{Form, PANEL};

/// Packs `source` into `[depth lanes][width]`; lengths are checked by the caller.
pub(super) fn pack(form: Form, source: Source<'_>, width: usize, to: &mut [u32]) {
    for (lane_step, row) in to.chunks_exact_mut(width).enumerate() {
        for (lane, place) in row.iter_mut().enumerate() {
            let number = |step: usize| {
                if lane < source.lanes() && step < source.depth() {
                    source.at(lane, step)
                } else {
                    0.0
                }
            };
            *place = match form {
                Form::F32 => number(lane_step).to_bits(),
                Form::Pairs => {
                    bf16_bits(number(2 * lane_step)) | (bf16_bits(number(2 * lane_step + 1)) << 16)
                }
                Form::Widened => bf16_bits(number(lane_step)) << 16,
            };
        }
    }
}

fn bf16_bits(value: f32) -> u32 {
    u32::from(half::bf16::from_f32(value).to_bits())
}

/// One register tile of one panel; lengths are checked by the caller.
pub(super) fn tile(form: Form, tile: Tile<'_>, mut out: OutBlock<'_>) {
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
            .zip(tile.panels.chunks_exact(PANEL));
        for (left, right) in steps {
            add_step(form, left[row], right, &mut sums);
        }
        target.copy_from_slice(&sums[..columns]);
    }
}

#[inline]
fn add_step(form: Form, left: u32, right: &[u32], sums: &mut [f32; PANEL]) {
    if form == Form::F32 {
        let left = f32::from_bits(left);
        for (sum, right) in sums.iter_mut().zip(right) {
            *sum += left * f32::from_bits(*right);
        }
    } else {
        let (low, high) = halves(left);
        for (sum, right) in sums.iter_mut().zip(right) {
            let (right_low, right_high) = halves(*right);
            *sum += high * right_high;
            *sum += low * right_low;
        }
    }
}

const fn halves(pair: u32) -> (f32, f32) {
    (
        f32::from_bits(pair << 16),
        f32::from_bits(pair & 0xffff_0000),
    )
}
