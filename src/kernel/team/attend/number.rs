//! The numbers that keys and values are kept in.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m512, _mm256_loadu_si256, _mm512_castsi512_ps, _mm512_cvtepu16_epi32, _mm512_loadu_ps,
    _mm512_slli_epi32,
};

/// f32, or bf16 as its bits.
pub trait CacheNumber: Copy + Default + Send + Sync + 'static {
    /// The nearest of them, ties to even.
    fn nearest(x: f32) -> Self;

    /// As it is multiplied.
    fn wide(self) -> f32;

    /// Sixteen of them, as they are multiplied.
    ///
    /// # Safety
    /// There are so many, and the processor has AVX-512 F.
    #[cfg(target_arch = "x86_64")]
    unsafe fn sixteen(from: *const Self) -> __m512;
}

impl CacheNumber for f32 {
    #[inline(always)]
    fn nearest(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn sixteen(from: *const Self) -> __m512 {
        // SAFETY: passed on to the caller.
        unsafe { _mm512_loadu_ps(from) }
    }
}

impl CacheNumber for u16 {
    #[inline(always)]
    fn nearest(x: f32) -> Self {
        let bits = x.to_bits();
        // Half of what is cut off, less one where the last bit that stays is even.
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        // A quiet bit keeps what is no number from becoming infinite.
        let bits = if x.is_nan() {
            bits | 0x40_0000
        } else {
            rounded
        };
        (bits >> 16) as u16
    }

    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self) << 16)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn sixteen(from: *const Self) -> __m512 {
        // SAFETY: passed on to the caller.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rounding_is_bf16s(bits in any::<u32>()) {
            let x = f32::from_bits(bits);
            let expected = half::bf16::from_f32(x);
            let got = u16::nearest(x);
            if x.is_nan() {
                prop_assert!(got.wide().is_nan());
            } else {
                prop_assert_eq!(got, expected.to_bits());
                prop_assert_eq!(got.wide(), expected.to_f32());
            }
        }
    }
}
