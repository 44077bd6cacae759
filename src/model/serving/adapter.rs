//! An adapter's low-rank changes, packed by layer and slot.

use crate::kernel::matmul::{PackedMatrix, Precision};
use crate::kernel::team::LowRank;
use crate::kernel::with_elements;

use super::super::ModelError;
use super::super::lora::LoraPair;
use super::{SLOTS, Slot};

/// An adapter ready to be served; in f32 whatever the base is in.
pub(crate) struct PackedAdapter {
    /// By layer, then by slot.
    pub(super) layers: Vec<[Option<LowRank>; SLOTS]>,
    /// The largest rank.
    pub(super) most_rank: usize,
}

impl PackedAdapter {
    /// Packs the pairs of a decoder of so many layers, by module path.
    pub(crate) fn pack<'a>(
        layers: usize,
        pairs: impl Iterator<Item = (&'a str, &'a LoraPair)>,
    ) -> Result<Self, ModelError> {
        let mut packed = Self {
            layers: std::iter::repeat_with(Default::default)
                .take(layers)
                .collect(),
            most_rank: 0,
        };
        for (path, pair) in pairs {
            let stray = || ModelError::Tensor {
                name: path.to_owned(),
                reason: "has no place in this decoder's linear layers".into(),
            };
            let (layer, slot) = place(path).ok_or_else(stray)?;
            let pack = |tensor| -> Result<PackedMatrix, ModelError> {
                let (rows, columns) = candle_core::Tensor::dims2(tensor)?;
                Ok(with_elements(tensor, |numbers| {
                    PackedMatrix::pack(numbers, rows, columns, Precision::F32)
                })?)
            };
            let change = LowRank {
                down: pack(&pair.a)?,
                up: pack(&pair.b)?,
                scale: pair.scale as f32,
            };
            packed.most_rank = packed.most_rank.max(change.down.out_features());
            let place = packed.layers.get_mut(layer).ok_or_else(stray)?;
            place[slot as usize] = Some(change);
        }
        Ok(packed)
    }
}

/// Layer and slot of `model.layers.{layer}.{part}.{module}`.
pub(crate) fn place(path: &str) -> Option<(usize, Slot)> {
    let mut parts = path.strip_prefix("model.layers.")?.split('.');
    let layer = parts.next()?.parse().ok()?;
    Some((layer, Slot::of_module(parts.next_back()?)?))
}
