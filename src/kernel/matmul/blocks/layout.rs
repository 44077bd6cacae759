//! Where the numbers of a block lie, in packed matrices and in packed rows.

use half::f16;

use super::{BLOCK, Bits, Line, quantize};
use crate::kernel::matmul::tier::Tier;

/// The steps along the inner dimension that a tier multiplies at a time.
///
/// A block of a panel is a line of the f16 scales of its 32 columns, then lines of weights. With 4
/// bits the low halves hold the first 16 steps, the high halves the others, each as the number
/// plus 8. Packed rows are whole numbers too, of 16 or 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Two: line `1 + p` holds the steps `2p` and `2p + 1`, by column; 8-bit numbers are signed. Of
    /// a row there are the scale, then 16 pairs of 16-bit numbers.
    Pairs,
    /// Four: the lines `1 + 2q` and `2 + 2q` hold the steps `4q` to `4q + 3` of 16 columns each, by
    /// column; 8-bit numbers are held plus 128, for what is multiplied is unsigned by signed. Of a
    /// row there are the scale, the sum of the block's numbers with its sign turned, which takes
    /// back what was added, and 8 quads of 8-bit numbers.
    Quads,
}

impl Layout {
    /// What suits this tier.
    pub(super) const fn of(tier: Tier) -> Self {
        match tier {
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512(_) => Self::Quads,
            _ => Self::Pairs,
        }
    }

    /// Lanes of a packed row for each block.
    pub(super) const fn row_lanes(self) -> usize {
        match self {
            Self::Pairs => 1 + BLOCK / 2,
            Self::Quads => 2 + BLOCK / 4,
        }
    }

    /// Most rows that are packed side by side: what a register tile multiplies at once, or whole
    /// times as many.
    pub(super) const fn tile_rows(self) -> usize {
        match self {
            Self::Pairs => 12,
            Self::Quads => 6,
        }
    }

    /// Line and byte of a number, and by how many bits it is shifted there.
    const fn place(self, bits: Bits, column: usize, index: usize) -> (usize, usize, u32) {
        let (index, shift) = match bits {
            Bits::Four if index >= BLOCK / 2 => (index - BLOCK / 2, 4),
            _ => (index, 0),
        };
        let (line, byte) = match self {
            Self::Pairs => (1 + index / 2, 2 * column + index % 2),
            Self::Quads => (1 + index / 4 * 2 + column / 16, column % 16 * 4 + index % 4),
        };
        (line, byte, shift)
    }

    /// Quantizes up to 32 weights into one column of a block that is all zero there.
    pub(super) fn put(self, bits: Bits, lines: &mut [Line], column: usize, weights: &[f32]) {
        let mut block = [0.0f32; BLOCK];
        block[..weights.len()].copy_from_slice(weights);
        let (scale, numbers) = match bits {
            Bits::Eight => quantize::eight(&block),
            Bits::Four => quantize::four(&block),
        };
        lines[0].0[2 * column..2 * column + 2].copy_from_slice(&scale.to_le_bytes());
        for (index, number) in numbers.into_iter().enumerate() {
            let (line, byte, shift) = self.place(bits, column, index);
            lines[line].0[byte] |= match (bits, self) {
                (Bits::Eight, Self::Pairs) => number.cast_unsigned(),
                (Bits::Eight, Self::Quads) => number.cast_unsigned() ^ 0x80,
                (Bits::Four, _) => (number + 8).cast_unsigned() << shift,
            };
        }
    }

    /// The number at that index of a block's column.
    pub(super) fn number(self, bits: Bits, lines: &[Line], column: usize, index: usize) -> i8 {
        let (line, byte, shift) = self.place(bits, column, index);
        let held = lines[line].0[byte];
        match (bits, self) {
            (Bits::Eight, Self::Pairs) => held.cast_signed(),
            (Bits::Eight, Self::Quads) => (held ^ 0x80).cast_signed(),
            (Bits::Four, _) => (held >> shift & 15).cast_signed() - 8,
        }
    }

    /// Rounds a block of one row and writes it as `row` of `count` that lie side by side.
    pub(super) fn pack_block(self, block: &[f32; BLOCK], place: (usize, usize), lanes: &mut [u32]) {
        let (mut numbers, mut scale) = ([0i16; BLOCK], 0.0);
        quantize::activations(block, &mut numbers, &mut scale);
        self.put_row((scale, &numbers), place, lanes);
    }

    /// Writes a block of one row, as `row` of `count` that lie side by side.
    fn put_row(
        self,
        (scale, numbers): (f32, &[i16; BLOCK]),
        (row, count): (usize, usize),
        lanes: &mut [u32],
    ) {
        lanes[row] = scale.to_bits();
        match self {
            Self::Pairs => {
                for (pair, two) in numbers.chunks_exact(2).enumerate() {
                    let (low, high) = (two[0].cast_unsigned(), two[1].cast_unsigned());
                    lanes[(1 + pair) * count + row] = u32::from(low) | u32::from(high) << 16;
                }
            }
            Self::Quads => {
                let sum: i32 = numbers.iter().copied().map(i32::from).sum();
                lanes[count + row] = (-128 * sum).cast_unsigned();
                for (quad, four) in numbers.chunks_exact(4).enumerate() {
                    let bytes = [four[0], four[1], four[2], four[3]].map(|it| it as u8);
                    lanes[(2 + quad) * count + row] = u32::from_le_bytes(bytes);
                }
            }
        }
    }
}

/// The scale of a block's column.
pub(super) fn scale_of(line: &Line, column: usize) -> f32 {
    f16::from_le_bytes([line.0[2 * column], line.0[2 * column + 1]]).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_place_of_its_own() {
        for layout in [Layout::Pairs, Layout::Quads] {
            for bits in [Bits::Eight, Bits::Four] {
                let mut places: Vec<_> = (0..32)
                    .flat_map(|column| {
                        (0..BLOCK).map(move |index| layout.place(bits, column, index))
                    })
                    .collect();
                places.sort_unstable();
                places.dedup();
                assert_eq!(places.len(), 32 * BLOCK, "{layout:?} {bits:?}");
                let (line, byte, _) = *places.last().unwrap();
                assert_eq!((line + 1, byte), (bits.lines(), 63), "{layout:?} {bits:?}");
            }
        }
    }
}
