//! Low-rank adapters (arXiv 2106.09685) in PEFT's file layout, served and trained.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Tensor, Var};
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::kernel::matmul::{Precision, linear, linear_onto};
use crate::kernel::sublayer::{LowRank, LowRanks};

use super::ModelError;
use super::config::DecoderConfig;
use super::decoder::Decoder;
use super::lora_config::LoraConfig;
use super::save::{save_tensors, write_atomically};
use super::serving::PackedAdapter;
use super::tensors::{TensorFiles, TensorSource};

/// What to adapt, and how strongly.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraSettings {
    /// Rank of each update.
    pub rank: usize,
    /// The update is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Last parts of module paths, for example `q_proj`.
    pub target_modules: Vec<String>,
}

/// The low-rank updates of a decoder's linear layers.
pub struct LoraAdapter {
    generation: u64,
    config: LoraConfig,
    pairs: BTreeMap<String, LoraPair>,
    vars: Vec<(String, Var)>,
    /// Made when it first serves.
    packed: OnceLock<Arc<PackedAdapter>>,
}

/// Adds `scale * (x Aᵀ) Bᵀ`.
pub(super) struct LoraPair {
    /// (rank, in)
    pub(super) a: Tensor,
    /// (out, rank)
    pub(super) b: Tensor,
    pub(super) scale: f64,
}

impl LoraPair {
    /// `y` plus the change for its input `x`.
    pub(super) fn add_to(&self, y: &Tensor, x: &Tensor) -> Result<Tensor, ModelError> {
        let low = linear(x, &self.a, Precision::F32)?;
        Ok(linear_onto(y, &(low * self.scale)?, &self.b)?)
    }
}

const PREFIX: &str = "base_model.model.";

fn tensor_name(module: &str, side: char) -> String {
    format!("{PREFIX}{module}.lora_{side}.weight")
}

/// A number that no adapter of this process has had.
fn next_generation() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl LoraAdapter {
    /// Reads a PEFT folder and checks that every tensor of it fits `decoder` and is used.
    pub fn load(dir: &Path, decoder: &Decoder) -> Result<Self, ModelError> {
        Self::load_for(dir, decoder.config())
    }

    /// The same for any decoder of this shape.
    pub fn load_for(dir: &Path, decoder: &DecoderConfig) -> Result<Self, ModelError> {
        let config = LoraConfig::load(dir)?;
        let path = dir.join("adapter_model.safetensors");
        if !path.exists() && dir.join("adapter_model.bin").exists() {
            return Err(ModelError::Pickle {
                path: dir.join("adapter_model.bin"),
            });
        }
        let mut files = TensorFiles::open_file(&path)?;
        let mut pairs = BTreeMap::new();
        for (module, outputs, inputs) in decoder.linear_modules() {
            let names = ['A', 'B'].map(|side| {
                let plain = tensor_name(&module, side);
                let tagged = format!("{PREFIX}{module}.lora_{side}.default.weight");
                if files.has(&tagged) { tagged } else { plain }
            });
            let present = files.has(&names[0]) || files.has(&names[1]);
            let targeted = config.targets(&module)?;
            if present != targeted {
                let reason = if targeted {
                    "is a target module in adapter_config.json but has no tensors in the file"
                } else {
                    "has tensors in the file but is no target module in adapter_config.json"
                };
                return Err(ModelError::Tensor {
                    name: module,
                    reason: reason.into(),
                });
            }
            if present {
                let rank = config.rank(&module);
                let a = files.tensor(&names[0], &[rank, inputs])?;
                let b = files.tensor(&names[1], &[outputs, rank])?;
                let scale = config.scale(&module);
                pairs.insert(module, LoraPair { a, b, scale });
            }
        }
        if let Some(name) = files.untouched().next() {
            let reason = "has no place in this decoder's linear layers".to_owned();
            return Err(ModelError::Tensor {
                name: name.to_owned(),
                reason,
            });
        }
        Ok(Self::of_pairs(config, pairs))
    }

    /// An adapter of these pairs, to serve.
    pub(super) fn of_pairs(config: LoraConfig, pairs: BTreeMap<String, LoraPair>) -> Self {
        Self {
            generation: next_generation(),
            config,
            pairs,
            vars: Vec::new(),
            packed: OnceLock::new(),
        }
    }

    /// A trainable adapter that changes nothing yet: A uniform as in PEFT, B zero.
    pub fn init(decoder: &Decoder, settings: &LoraSettings, seed: u64) -> Result<Self, ModelError> {
        let config = LoraConfig::from_settings(settings);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut values = BTreeMap::new();
        for (module, outputs, inputs) in decoder.linear_modules() {
            if config.targets(&module)? {
                let bound = 1.0 / (inputs as f32).sqrt(); // Kaiming uniform, a = sqrt(5)
                let count = settings.rank * inputs;
                let a: Vec<f32> = (0..count)
                    .map(|_| rng.random_range(-bound..bound))
                    .collect();
                let a = Tensor::from_vec(a, (settings.rank, inputs), &Device::Cpu)?;
                let b = Tensor::zeros((outputs, settings.rank), DType::F32, &Device::Cpu)?;
                values.insert(tensor_name(&module, 'A'), a);
                values.insert(tensor_name(&module, 'B'), b);
            }
        }
        if values.is_empty() {
            let name = settings.target_modules.join(", ");
            let reason = "names no linear layer of this decoder".to_owned();
            return Err(ModelError::Tensor { name, reason });
        }
        Self::from_values(decoder, config, values)
    }

    /// The same adapter with variables of its own, ready to be trained.
    pub fn trainable(&self, decoder: &Decoder) -> Result<Self, ModelError> {
        Self::from_values(decoder, self.config.clone(), self.tensors())
    }

    fn from_values(
        decoder: &Decoder,
        config: LoraConfig,
        mut values: BTreeMap<String, Tensor>,
    ) -> Result<Self, ModelError> {
        let mut vars = Vec::new();
        let mut pairs = BTreeMap::new();
        for (module, ..) in decoder.linear_modules() {
            let names = [tensor_name(&module, 'A'), tensor_name(&module, 'B')];
            let [Some(a), Some(b)] = names.clone().map(|name| values.remove(&name)) else {
                continue;
            };
            let (a, b) = (Var::from_tensor(&a)?, Var::from_tensor(&b)?);
            let pair = LoraPair {
                a: a.as_tensor().clone(),
                b: b.as_tensor().clone(),
                scale: config.scale(&module),
            };
            let [a_name, b_name] = names;
            vars.extend([(a_name, a), (b_name, b)]);
            pairs.insert(module, pair);
        }
        Ok(Self {
            generation: next_generation(),
            config,
            pairs,
            vars,
            packed: OnceLock::new(),
        })
    }

    /// A number, above 0, that no other adapter of this process has or had: what was computed
    /// through one is never taken for another's, though it lie at the same address later. `None`
    /// for an adapter in training, whose values change.
    pub fn generation(&self) -> Option<u64> {
        self.vars.is_empty().then_some(self.generation)
    }

    /// Trainable variables by tensor name, in a fixed order; empty for a loaded adapter.
    pub fn vars(&self) -> &[(String, Var)] {
        &self.vars
    }

    /// A copy that later training steps do not change.
    pub fn snapshot(&self) -> Result<Self, ModelError> {
        let mut pairs = BTreeMap::new();
        for (module, pair) in &self.pairs {
            let copied = LoraPair {
                a: pair.a.copy()?,
                b: pair.b.copy()?,
                scale: pair.scale,
            };
            pairs.insert(module.clone(), copied);
        }
        Ok(Self::of_pairs(self.config.clone(), pairs))
    }

    /// All tensors by their names in PEFT files.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        let sides = self.pairs.iter().flat_map(|(module, pair)| {
            [('A', &pair.a), ('B', &pair.b)]
                .map(|(side, tensor)| (tensor_name(module, side), tensor.detach()))
        });
        sides.collect()
    }

    /// Writes `adapter_config.json` and `adapter_model.safetensors` (f32).
    pub fn save(&self, dir: &Path, base_model: &str) -> Result<(), ModelError> {
        let io = |source| ModelError::Io {
            path: dir.to_owned(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(io)?;
        save_tensors(
            &dir.join("adapter_model.safetensors"),
            &self.tensors(),
            DType::F32,
        )?;
        let text = format!("{:#}\n", self.config.to_json(base_model));
        write_atomically(&dir.join("adapter_config.json"), text.as_bytes()).map_err(io)
    }

    /// Its pairs as the serving pass reads them. Those of an adapter in training are packed anew
    /// each time, as they change.
    pub(super) fn packed(&self, config: &DecoderConfig) -> Result<Arc<PackedAdapter>, ModelError> {
        if let Some(packed) = self.packed.get() {
            return Ok(Arc::clone(packed));
        }
        let pairs = self.pairs.iter().map(|(path, pair)| (path.as_str(), pair));
        let packed = Arc::new(PackedAdapter::pack(config.num_layers(), pairs)?);
        if self.vars.is_empty() {
            // Whoever else packed it meanwhile packed the same.
            let _ = self.packed.set(Arc::clone(&packed));
        }
        Ok(packed)
    }

    /// All pairs by the paths of their modules.
    #[cfg(feature = "cuda")]
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &LoraPair)> {
        self.pairs.iter().map(|(path, pair)| (path.as_str(), pair))
    }

    /// The updates of a sublayer's modules, the last of which makes its output; differentiable in the
    /// adapter's variables.
    pub(super) fn low_ranks(&self, modules: &[String]) -> Result<LowRanks, ModelError> {
        let pairs: Vec<Option<&LoraPair>> = modules.iter().map(|m| self.pair(m)).collect();
        let (inputs, output) = pairs.split_at(pairs.len().saturating_sub(1));
        let tensors = [inputs, output].into_iter().flat_map(|group| {
            let pairs = || group.iter().flatten();
            let all = pairs().map(|p| &p.a).chain(pairs().map(|p| &p.b));
            all.cloned().collect::<Vec<Tensor>>()
        });
        let each = pairs.iter().map(|pair| {
            pair.map(|pair| {
                Ok(LowRank {
                    rank: pair.a.dim(0)?,
                    scale: pair.scale as f32,
                })
            })
            .transpose()
        });
        Ok(LowRanks {
            tensors: tensors.collect(),
            each: each.collect::<candle_core::Result<_>>()?,
        })
    }

    pub(super) fn pair(&self, module: &str) -> Option<&LoraPair> {
        self.pairs.get(module)
    }
}
