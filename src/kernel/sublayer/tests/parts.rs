//! Frozen matrices with updates, and how to compute with them one operation at a time.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor, Var};

use super::super::super::matmul::{PackedMatrix, Precision, linear};
use super::super::super::rms_norm;
use super::super::{FrozenMatrix, FrozenNorm, LowRank, LowRanks, Projections};

const F32: Precision = Precision::F32;

/// Numbers around zero that differ from call to call.
pub(super) struct Numbers(pub(super) u32);

impl Numbers {
    fn next(&mut self, count: usize) -> Vec<f32> {
        let mut draw = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 17;
            self.0 ^= self.0 << 5;
            self.0 as f32 / u32::MAX as f32 - 0.5
        };
        (0..count).map(|_| draw()).collect()
    }

    pub(super) fn var(&mut self, shape: &[usize]) -> Var {
        let numbers = self.next(shape.iter().product());
        Var::from_vec(numbers, shape, &Device::Cpu).unwrap()
    }

    pub(super) fn norm(&mut self, width: usize) -> FrozenNorm {
        FrozenNorm {
            weight: self.next(width).into(),
            eps: 1e-5,
            offset: 1.0,
        }
    }
}

/// A frozen matrix, its bias, and the variables of its update.
pub(super) struct Layer {
    weight: Tensor,
    bias: Option<Vec<f32>>,
    pub(super) update: Option<(Var, Var, f32)>,
}

impl Layer {
    pub(super) fn new(
        numbers: &mut Numbers,
        sizes: (usize, usize),
        bias: bool,
        rank: usize,
    ) -> Self {
        let (outputs, inputs) = sizes;
        Self {
            weight: numbers.var(&[outputs, inputs]).as_tensor().detach(),
            bias: bias.then(|| numbers.next(outputs)),
            update: (rank > 0).then(|| {
                let (a, b) = (numbers.var(&[rank, inputs]), numbers.var(&[outputs, rank]));
                (a, b, 0.5 + rank as f32)
            }),
        }
    }

    fn frozen(&self) -> FrozenMatrix {
        let (outputs, inputs) = self.weight.dims2().unwrap();
        let numbers: Vec<f32> = self.weight.flatten_all().unwrap().to_vec1().unwrap();
        let back = PackedMatrix::pack_transposed(&numbers, (outputs, inputs), F32);
        FrozenMatrix {
            packed: Arc::new(PackedMatrix::pack(&numbers, outputs, inputs, F32)),
            back: Arc::new(back),
            bias: self.bias.clone().map(Arc::from),
        }
    }

    pub(super) fn plain(&self, x: &Tensor) -> Result<Tensor> {
        let mut y = linear(x, &self.weight, F32)?;
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(&Tensor::new(bias.as_slice(), x.device())?)?;
        }
        if let Some((a, b, scale)) = &self.update {
            let low = (linear(x, a, F32)? * f64::from(*scale))?;
            y = (y + linear(&low, b, F32)?)?;
        }
        Ok(y)
    }
}

pub(super) fn projections(layers: &[Layer]) -> Projections {
    Projections::new(layers.iter().map(Layer::frozen).collect())
}

pub(super) fn low_ranks(groups: [&[Layer]; 2]) -> LowRanks {
    let all = groups.iter().flat_map(|layers| layers.iter());
    let each: Vec<Option<LowRank>> = all
        .map(|layer| {
            layer.update.as_ref().map(|(a, _, scale)| LowRank {
                rank: a.dim(0).unwrap(),
                scale: *scale,
            })
        })
        .collect();
    let tensors = groups.iter().flat_map(|layers| {
        let pairs = || layers.iter().filter_map(|layer| layer.update.as_ref());
        pairs().map(|p| &p.0).chain(pairs().map(|p| &p.1))
    });
    LowRanks {
        each,
        tensors: tensors.map(|var| var.as_tensor().clone()).collect(),
    }
}

pub(super) fn plain_norm(norm: &FrozenNorm, x: &Tensor) -> Result<Tensor> {
    let weight = Tensor::new(&*norm.weight, x.device())?;
    rms_norm(x, &weight, norm.eps, norm.offset)
}

pub(super) fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

pub(super) fn assert_close(what: &str, got: &Tensor, want: &Tensor) {
    assert_eq!(got.dims(), want.dims(), "{what}");
    let (got, want) = (floats(got), floats(want));
    let largest = want.iter().fold(1f32, |most, x| most.max(x.abs()));
    for (got, want) in got.iter().zip(&want) {
        assert!(
            (got - want).abs() <= 2e-5 * largest,
            "{what}: {got} is not {want}"
        );
    }
}
