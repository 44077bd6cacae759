//! Random decoders of any shape, the same on both sides.

use std::path::Path;

use candle_core::{Device, Tensor};
use half::bf16;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use steersman::kernel::matmul::Precision;
use steersman::model::{CudaDecoder, Decoder, DecoderConfig, ModelError, TensorSource};

/// Tensors that are functions of their names, rounded to bf16 as a device keeps them.
pub(super) struct RandomTensors;

impl TensorSource for RandomTensors {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let seed = name.bytes().fold(7u64, |seed, byte| {
            seed.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let normal = match shape {
            // norms and biases
            [_] => Normal::new(0.3, 0.2),
            // wide enough for attention to be uneven
            [_, inputs] => Normal::new(0.0, 1.2 / (*inputs as f32).sqrt()),
            other => panic!("{name} has shape {other:?}"),
        };
        let normal = normal.unwrap();
        let count = shape.iter().product();
        let numbers: Vec<f32> = (0..count)
            .map(|_| bf16::from_f32(normal.sample(&mut rng)).to_f32())
            .collect();
        Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
    }

    fn has(&self, _name: &str) -> bool {
        true
    }
}

/// The configuration of a fixture, changed.
pub(super) fn config(name: &str, change: impl FnOnce(&mut DecoderConfig)) -> DecoderConfig {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    let mut config = DecoderConfig::load(&folder).unwrap();
    change(&mut config);
    config
}

/// One decoder on the processor, in f32, and on the device.
pub(super) fn both(config: &DecoderConfig) -> (Decoder, CudaDecoder) {
    let cpu = Decoder::build(config.clone(), &mut RandomTensors, Precision::F32).unwrap();
    let source = || Ok(Box::new(RandomTensors) as Box<dyn TensorSource>);
    let cuda = CudaDecoder::build(config.clone(), 0, source).unwrap();
    (cpu, cuda)
}
