//! What one 32-bit lane of a packed operand holds.

/// A packed operand's form. Lanes lie as `[depth lanes][width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Form {
    /// One f32 step.
    F32,
    /// Two bf16 steps, the first in the low half; an odd end is filled with zero.
    Pairs,
    /// One step rounded to bf16 and written as f32; an odd end is followed by a step of zeros, as in `Pairs`.
    Widened,
}

impl Form {
    /// Steps along the inner dimension that one lane holds.
    pub(super) const fn per_lane(self) -> usize {
        match self {
            Self::F32 | Self::Widened => 1,
            Self::Pairs => 2,
        }
    }

    /// Lanes that `k` steps take.
    pub(super) const fn lanes(self, k: usize) -> usize {
        match self {
            Self::F32 => k,
            Self::Pairs => k.div_ceil(2),
            Self::Widened => k.next_multiple_of(2),
        }
    }
}
