//! In what numbers a decoder's linear layers multiply, as an operator asks for it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::tensors::TensorFiles;
use crate::kernel::matmul::{Bits, Packing, Precision};

/// Bytes of tensors that a processor's cache may hold. A model within it is not read from memory
/// for each token, and halving what is read gains nothing.
const CACHED_BYTES: usize = 64 << 20;

/// The numbers of linear layers. Sums, norms, attention and adapters are f32 whatever is chosen; keys and
/// values are kept in bf16 beside all but f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Dtype {
    /// bf16 where the checkpoint is stored in it, is larger than a cache, and the processor
    /// multiplies it with vectors of its own; else f32.
    #[default]
    Auto,
    /// Single precision.
    F32,
    /// Weights and activations rounded to 8 significant bits.
    Bf16,
    /// Weights as whole numbers of 8 bits, 32 of which share a scale, and activations so too.
    Q8_0,
    /// Weights as whole numbers of 4 bits, 32 of which share a scale, and activations in 8.
    Q4_0,
}

/// A name that is none of [`Dtype`]'s.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not built; this version computes in `f32`, `bf16`, `q8_0` or `q4_0`, and `auto` takes \
     what suits the checkpoint and the processor"
)]
pub struct UnknownDtype(String);

impl FromStr for Dtype {
    type Err = UnknownDtype;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "q8_0" => Ok(Self::Q8_0),
            "q4_0" => Ok(Self::Q4_0),
            _ => Err(UnknownDtype(name.to_owned())),
        }
    }
}

impl TryFrom<String> for Dtype {
    type Error = UnknownDtype;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl From<Dtype> for String {
    fn from(dtype: Dtype) -> Self {
        dtype.to_string()
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        })
    }
}

impl Dtype {
    /// What it comes to for a checkpoint on this processor.
    pub(super) fn settle(self, files: &TensorFiles) -> Packing {
        let (all, bf16) = files.stored_bytes();
        self.settle_bytes(all, bf16)
    }

    /// The same for a checkpoint with so many bytes of tensors, and so many of them that bf16
    /// rounds no further than they are rounded already.
    pub(super) fn settle_bytes(self, all: usize, coarse: usize) -> Packing {
        match self {
            Self::F32 => Packing::Plain(Precision::F32),
            Self::Bf16 => Packing::Plain(Precision::Bf16),
            Self::Q8_0 => Packing::Blocks(Bits::Eight),
            Self::Q4_0 => Packing::Blocks(Bits::Four),
            Self::Auto => suited((all, coarse), Precision::Bf16.has_vectors()).into(),
        }
    }
}

fn suited((all, bf16): (usize, usize), has_vectors: bool) -> Precision {
    // norms are often kept in f32 beside bf16 matrices
    if has_vectors && bf16 > CACHED_BYTES && bf16 > all / 2 {
        Precision::Bf16
    } else {
        Precision::F32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_bf16_where_the_checkpoint_is_in_it_and_too_large_for_a_cache() {
        let large = CACHED_BYTES + 1;
        assert_eq!(suited((large, large), true), Precision::Bf16);
        assert_eq!(suited((large + 900, large), true), Precision::Bf16);
        assert_eq!(suited((large, large), false), Precision::F32);
        assert_eq!(suited((large - 1, large - 1), true), Precision::F32);
        assert_eq!(suited((8 * large, large), true), Precision::F32);
    }

    #[test]
    fn names_are_read_and_others_refused_with_those_there_are() {
        for dtype in [
            Dtype::Auto,
            Dtype::F32,
            Dtype::Bf16,
            Dtype::Q8_0,
            Dtype::Q4_0,
        ] {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
        }
        let error = "q5_1".parse::<Dtype>().unwrap_err().to_string();
        for words in ["`q5_1` is not built", "`f32`", "`bf16`", "`q8_0`", "`auto`"] {
            assert!(error.contains(words), "{error}");
        }
    }
}
