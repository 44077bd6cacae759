//! The formats of 256 numbers a block, whose parts have scales of their own.

use super::dequantize::half;

/// Scale and least value of part `j` of 8, six bits each, packed into 12 bytes.
fn scale_and_least(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, least) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (
            packed[j + 4] & 15 | packed[j - 4] >> 6 << 4,
            packed[j + 4] >> 4 | packed[j] >> 6 << 4,
        )
    };
    (f32::from(scale), f32::from(least))
}

/// Scale `d` and offset `m` of part `j`; its numbers are `d q - m`.
fn part(block: &[u8], j: usize) -> (f32, f32) {
    let (d, least) = (half([block[0], block[1]]), half([block[2], block[3]]));
    let (scale, offset) = scale_and_least(&block[4..16], j);
    (d * scale, least * offset)
}

/// f16 scale and f16 scale of the least values; 12 bytes of both for 8 parts; nibbles.
pub(super) fn q4_k(block: &[u8; 144], y: &mut [f32; 256]) {
    for (pair, nibbles) in block[16..].chunks_exact(32).enumerate() {
        let (d1, m1) = part(block, 2 * pair);
        let (d2, m2) = part(block, 2 * pair + 1);
        let out = &mut y[64 * pair..64 * pair + 64];
        for (l, byte) in nibbles.iter().enumerate() {
            out[l] = d1 * f32::from(byte & 15) - m1;
            out[l + 32] = d2 * f32::from(byte >> 4) - m2;
        }
    }
}

/// The same with 32 bytes of fifth bits before the nibbles: bit `2 pair` and the one above it.
pub(super) fn q5_k(block: &[u8; 176], y: &mut [f32; 256]) {
    let high = &block[16..48];
    for (pair, nibbles) in block[48..].chunks_exact(32).enumerate() {
        let (d1, m1) = part(block, 2 * pair);
        let (d2, m2) = part(block, 2 * pair + 1);
        let out = &mut y[64 * pair..64 * pair + 64];
        for (l, byte) in nibbles.iter().enumerate() {
            let bits = high[l] >> (2 * pair);
            out[l] = d1 * f32::from(byte & 15 | (bits & 1) << 4) - m1;
            out[l + 32] = d2 * f32::from(byte >> 4 | (bits >> 1 & 1) << 4) - m2;
        }
    }
}

/// 128 bytes of nibbles, 64 of the two bits above them, 16 signed scales, f16 scale;
/// `d scale (q - 32)`.
pub(super) fn q6_k(block: &[u8; 210], y: &mut [f32; 256]) {
    let d = half([block[208], block[209]]);
    for half_block in 0..2 {
        let low = &block[64 * half_block..64 * half_block + 64];
        let high = &block[128 + 32 * half_block..160 + 32 * half_block];
        let scales = &block[192 + 8 * half_block..200 + 8 * half_block];
        let out = &mut y[128 * half_block..128 * half_block + 128];
        for l in 0..32 {
            let quarters = [low[l] & 15, low[l + 32] & 15, low[l] >> 4, low[l + 32] >> 4];
            for (quarter, nibble) in quarters.into_iter().enumerate() {
                let q = nibble | (high[l] >> (2 * quarter) & 3) << 4;
                let scale = f32::from(scales[2 * quarter + l / 16] as i8);
                out[32 * quarter + l] = d * scale * (f32::from(q) - 32.0);
            }
        }
    }
}
