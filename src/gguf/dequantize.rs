//! Blocks back to f32. Products and sums come in the order of ggml's reference, so that the values
//! are the same to the bit.

use half::{bf16, f16};

use super::BlockFormat;
use super::super_blocks;

/// The numbers of whole blocks; bytes beyond the last whole one are left out.
pub fn dequantize(format: BlockFormat, bytes: &[u8]) -> Vec<f32> {
    let mut out = Vec::new();
    dequantize_into(format, bytes, &mut out);
    out
}

/// The same, in place of what `out` holds.
pub fn dequantize_into(format: BlockFormat, bytes: &[u8], out: &mut Vec<f32>) {
    let count = bytes.len() / format.block_bytes() * format.block_len();
    out.resize(count, 0.0);
    match format {
        BlockFormat::F32 => each::<4, 1>(bytes, out, |b, y| y[0] = f32::from_le_bytes(*b)),
        BlockFormat::F16 => each::<2, 1>(bytes, out, |b, y| y[0] = half(*b)),
        BlockFormat::Bf16 => each::<2, 1>(bytes, out, |b, y| {
            y[0] = bf16::from_le_bytes(*b).to_f32();
        }),
        BlockFormat::Q4_0 => each::<18, 32>(bytes, out, q4_0),
        BlockFormat::Q4_1 => each::<20, 32>(bytes, out, q4_1),
        BlockFormat::Q5_0 => each::<22, 32>(bytes, out, q5_0),
        BlockFormat::Q5_1 => each::<24, 32>(bytes, out, q5_1),
        BlockFormat::Q8_0 => each::<34, 32>(bytes, out, q8_0),
        BlockFormat::Q4K => each::<144, 256>(bytes, out, super_blocks::q4_k),
        BlockFormat::Q5K => each::<176, 256>(bytes, out, super_blocks::q5_k),
        BlockFormat::Q6K => each::<210, 256>(bytes, out, super_blocks::q6_k),
    }
}

fn each<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    read: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let blocks = bytes.as_chunks::<BYTES>().0;
    for (block, values) in blocks.iter().zip(out.as_chunks_mut::<LEN>().0) {
        read(block, values);
    }
}

pub(super) fn half(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

/// f16 scale; 16 bytes of nibbles, low ones first; `d (q - 8)`.
fn q4_0(block: &[u8; 18], y: &mut [f32; 32]) {
    let d = half([block[0], block[1]]);
    for (j, byte) in block[2..].iter().enumerate() {
        y[j] = d * (f32::from(byte & 15) - 8.0);
        y[j + 16] = d * (f32::from(byte >> 4) - 8.0);
    }
}

/// f16 scale and f16 least value; nibbles; `d q + m`.
fn q4_1(block: &[u8; 20], y: &mut [f32; 32]) {
    let (d, m) = (half([block[0], block[1]]), half([block[2], block[3]]));
    for (j, byte) in block[4..].iter().enumerate() {
        y[j] = d * f32::from(byte & 15) + m;
        y[j + 16] = d * f32::from(byte >> 4) + m;
    }
}

/// The fifth bits of element `j` and of element `j + 16`.
fn fifth(high: [u8; 4], j: usize) -> (u8, u8) {
    let high = u32::from_le_bytes(high);
    let bit = |place: usize| ((high >> place & 1) as u8) << 4;
    (bit(j), bit(j + 16))
}

/// f16 scale; 32 fifth bits; nibbles; `d (q - 16)`.
fn q5_0(block: &[u8; 22], y: &mut [f32; 32]) {
    let d = half([block[0], block[1]]);
    let high = [block[2], block[3], block[4], block[5]];
    for (j, byte) in block[6..].iter().enumerate() {
        let (first, second) = fifth(high, j);
        y[j] = d * (f32::from(byte & 15 | first) - 16.0);
        y[j + 16] = d * (f32::from(byte >> 4 | second) - 16.0);
    }
}

/// f16 scale and f16 least value; 32 fifth bits; nibbles; `d q + m`.
fn q5_1(block: &[u8; 24], y: &mut [f32; 32]) {
    let (d, m) = (half([block[0], block[1]]), half([block[2], block[3]]));
    let high = [block[4], block[5], block[6], block[7]];
    for (j, byte) in block[8..].iter().enumerate() {
        let (first, second) = fifth(high, j);
        y[j] = d * f32::from(byte & 15 | first) + m;
        y[j + 16] = d * f32::from(byte >> 4 | second) + m;
    }
}

/// f16 scale; 32 signed bytes; `d q`.
fn q8_0(block: &[u8; 34], y: &mut [f32; 32]) {
    let d = half([block[0], block[1]]);
    for (value, byte) in y.iter_mut().zip(&block[2..]) {
        *value = d * f32::from(*byte as i8);
    }
}
