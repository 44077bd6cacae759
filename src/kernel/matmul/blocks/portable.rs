//! The tile in plain Rust, which the others equal bit for bit.

use super::layout::{Layout, scale_of};
use super::{BLOCK, Tile, blocks};
use crate::kernel::matmul::out::OutBlock;

/// Lengths are checked by the caller.
pub(super) fn tile(tile: Tile<'_>, out: &mut OutBlock<'_>) {
    let (lines, height) = (tile.bits.lines(), tile.height);
    for row in 0..height {
        for column in 0..out.columns() {
            let mut sum = 0.0f32;
            for block in blocks(&tile) {
                let weights = &tile.panel[block * lines..(block + 1) * lines];
                let lanes = &tile.rows[block * Layout::Pairs.row_lanes() * height..];
                let mut products = 0i32;
                for index in 0..BLOCK {
                    let both = lanes[(1 + index / 2) * height + row];
                    let number = (both >> (16 * (index % 2))) as u16;
                    let weight = Layout::Pairs.number(tile.bits, weights, column, index);
                    products += i32::from(number.cast_signed()) * i32::from(weight);
                }
                let scale = scale_of(&weights[0], column) * f32::from_bits(lanes[row]);
                sum = (products as f32).mul_add(scale, sum);
            }
            // SAFETY: row and column lie inside the block, which is this call's own.
            unsafe { out.start().add(row * out.stride() + column).write(sum) };
        }
    }
}
