//! Tensors that are trained: variables, fresh or read from a checkpoint.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::ModelError;
use super::config::DecoderConfig;
use super::tensors::TensorSource;

/// A source whose tensors are variables, so that a decoder built from it can be trained.
///
/// Linear layers and embeddings start normal with deviation 0.02, those that end a residual
/// branch smaller by the root of twice the depth; norms start as the identity.
pub struct TrainableTensors {
    rng: ChaCha8Rng,
    residual_scale: f32,
    norm_weight: f32,
    start: Option<Box<dyn TensorSource>>,
    vars: BTreeMap<String, Var>,
}

impl TrainableTensors {
    /// Fresh variables for a decoder of this shape.
    pub fn fresh(config: &DecoderConfig, seed: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            residual_scale: 1.0 / (2.0 * config.num_layers() as f32).sqrt(),
            norm_weight: 1.0 - config.norm_offset,
            start: None,
            vars: BTreeMap::new(),
        }
    }

    /// Variables that start from a checkpoint; what it lacks is made fresh.
    pub fn from_checkpoint(
        config: &DecoderConfig,
        start: Box<dyn TensorSource>,
        seed: u64,
    ) -> Self {
        Self {
            start: Some(start),
            ..Self::fresh(config, seed)
        }
    }

    /// The variables by tensor name, in a fixed order.
    pub fn into_vars(self) -> Vec<(String, Var)> {
        self.vars.into_iter().collect()
    }

    fn fresh_values(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        let count = shape.iter().product();
        if name.ends_with("norm.weight") || name.contains("layernorm") {
            return vec![self.norm_weight; count];
        }
        if name.ends_with(".bias") {
            return vec![0.0; count];
        }
        let ends_branch = name.contains("o_proj") || name.contains("down_proj");
        let deviation = if ends_branch {
            0.02 * self.residual_scale
        } else {
            0.02
        };
        // a positive finite deviation is always a normal distribution
        match Normal::new(0.0f32, deviation) {
            Ok(normal) => (0..count).map(|_| normal.sample(&mut self.rng)).collect(),
            Err(_) => vec![0.0; count],
        }
    }
}

impl TensorSource for TrainableTensors {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let value = match &mut self.start {
            Some(start) if start.has(name) => start.tensor(name, shape)?,
            _ => Tensor::from_vec(self.fresh_values(name, shape), shape, &Device::Cpu)?,
        };
        let var = Var::from_tensor(&value)?;
        let tensor = var.as_tensor().clone();
        self.vars.insert(name.to_owned(), var);
        Ok(tensor)
    }

    fn has(&self, name: &str) -> bool {
        self.start.as_ref().is_some_and(|start| start.has(name))
    }
}
