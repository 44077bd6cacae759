//! In what numbers a packed matrix holds its weights.

use super::{Bits, Precision};

/// How a packed matrix holds its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As numbers of this precision.
    Plain(Precision),
    /// In blocks of 32 with a common scale.
    Blocks(Bits),
}

impl Packing {
    /// Its usual name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain(precision) => precision.name(),
            Self::Blocks(Bits::Eight) => "q8_0",
            Self::Blocks(Bits::Four) => "q4_0",
        }
    }

    /// Precision of products that cannot use the packed weights, such as gradients.
    #[must_use]
    pub const fn precision(self) -> Precision {
        match self {
            Self::Plain(precision) => precision,
            Self::Blocks(_) => Precision::F32,
        }
    }
}

impl From<Precision> for Packing {
    fn from(precision: Precision) -> Self {
        Self::Plain(precision)
    }
}
