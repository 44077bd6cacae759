//! The policy being trained, its frozen reference, and the engine that draws its completions.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Tensor, Var};

use super::TrainingError;
use super::config::{PolicySettings, TrainWhat};
use super::logps::Side;
use crate::engine::{EngineConfig, EngineHandle};
use crate::model::{
    Decoder, DecoderConfig, LoraAdapter, LoraSettings, ModelError, Precision, TensorFiles,
    TensorSource, TrainableTensors, save_tensors,
};

/// A policy with trainable tensors and the reference it started from.
///
/// Invariant: the reference never changes, and the two never share a variable.
pub struct Policy {
    decoder: Arc<Decoder>,
    adapter: Option<Arc<LoraAdapter>>,
    vars: Vec<(String, Var)>,
    reference_decoder: Arc<Decoder>,
    reference_adapter: Option<Arc<LoraAdapter>>,
    engine: Option<EngineHandle<LoraAdapter>>,
}

impl Policy {
    /// Loads a model folder and makes what `settings` says trainable.
    pub fn load(dir: &Path, settings: &PolicySettings, seed: u64) -> Result<Self, TrainingError> {
        let frozen = Arc::new(Decoder::load(dir)?);
        match settings.train {
            TrainWhat::Lora => Self::lora(frozen, settings, seed),
            TrainWhat::Full => Self::full(frozen, dir, seed),
        }
    }

    fn lora(
        decoder: Arc<Decoder>,
        settings: &PolicySettings,
        seed: u64,
    ) -> Result<Self, TrainingError> {
        let reference_adapter = match &settings.start_adapter {
            Some(folder) => Some(Arc::new(LoraAdapter::load(folder, &decoder)?)),
            None => None,
        };
        let adapter = match &reference_adapter {
            Some(start) => start.trainable(&decoder)?,
            None => {
                let lora = LoraSettings {
                    rank: settings.lora.rank,
                    alpha: settings.lora.alpha,
                    target_modules: settings.lora.target_modules.clone(),
                };
                LoraAdapter::init(&decoder, &lora, seed)?
            }
        };
        Ok(Self {
            vars: adapter.vars().to_vec(),
            adapter: Some(Arc::new(adapter)),
            reference_decoder: Arc::clone(&decoder),
            reference_adapter,
            decoder,
            engine: None,
        })
    }

    fn full(reference: Arc<Decoder>, dir: &Path, seed: u64) -> Result<Self, TrainingError> {
        let config = DecoderConfig::load(dir)?;
        let files = Box::new(TensorFiles::open(dir)?);
        let mut tensors = TrainableTensors::from_checkpoint(&config, files, seed);
        let decoder = Decoder::build(config, &mut tensors, Precision::F32)?;
        Ok(Self {
            decoder: Arc::new(decoder),
            adapter: None,
            vars: tensors.into_vars(),
            reference_decoder: reference,
            reference_adapter: None,
            engine: None,
        })
    }

    /// The trainable tensors by name, in a fixed order.
    pub fn vars(&self) -> &[(String, Var)] {
        &self.vars
    }

    /// The decoder's shape.
    pub fn config(&self) -> &DecoderConfig {
        self.decoder.config()
    }

    /// The policy as it is now, differentiable.
    pub fn live(&self) -> Side<'_> {
        Side {
            decoder: &self.decoder,
            adapter: self.adapter.as_ref(),
        }
    }

    /// The policy as it was at the start, constant.
    pub fn reference(&self) -> Side<'_> {
        Side {
            decoder: &self.reference_decoder,
            adapter: self.reference_adapter.as_ref(),
        }
    }

    /// The engine over the policy as it is now, and the adapter to name in requests.
    ///
    /// Requests get a copy, so that nothing they hold changes under them or keeps a graph alive.
    /// A trained adapter goes through one engine for good; a whole model needs one over a copy of
    /// itself each time.
    pub fn sampler(
        &mut self,
    ) -> Result<(EngineHandle<LoraAdapter>, Option<Arc<LoraAdapter>>), TrainingError> {
        match &self.adapter {
            Some(adapter) => {
                let snapshot = Arc::new(adapter.snapshot()?);
                let engine = match &self.engine {
                    Some(engine) => engine.clone(),
                    None => start_engine(Arc::clone(&self.decoder))?,
                };
                self.engine = Some(engine.clone());
                Ok((engine, Some(snapshot)))
            }
            None => {
                let mut copies = Copies(self.vars.iter().cloned().collect());
                let config = self.decoder.config().clone();
                let copy = Decoder::build(config, &mut copies, Precision::F32)?;
                Ok((start_engine(Arc::new(copy))?, None))
            }
        }
    }

    /// The engine over the policy as it was at the start.
    pub fn reference_sampler(
        &self,
    ) -> Result<(EngineHandle<LoraAdapter>, Option<Arc<LoraAdapter>>), TrainingError> {
        let engine = match &self.engine {
            Some(engine) if self.adapter.is_some() => engine.clone(),
            _ => start_engine(Arc::clone(&self.reference_decoder))?,
        };
        Ok((engine, self.reference_adapter.clone()))
    }

    /// Writes the policy: an adapter as a PEFT folder, a whole model as a model folder with the
    /// other files of `model` beside its tensors.
    pub fn save(&self, model: &Path, folder: &Path) -> Result<(), TrainingError> {
        match &self.adapter {
            Some(adapter) => {
                let base = model.file_name().unwrap_or_default().to_string_lossy();
                Ok(adapter.save(folder, &base)?)
            }
            None => {
                copy_model_files(model, folder)?;
                let tensors: BTreeMap<String, Tensor> = self
                    .vars
                    .iter()
                    .map(|(name, var)| (name.clone(), var.as_tensor().clone()))
                    .collect();
                let path = folder.join("model.safetensors");
                Ok(save_tensors(&path, &tensors, DType::F32)?)
            }
        }
    }
}

fn start_engine(decoder: Arc<Decoder>) -> Result<EngineHandle<LoraAdapter>, TrainingError> {
    Ok(EngineHandle::start(decoder, EngineConfig::default())?)
}

/// Hands out copies of variables, so that what is built from them stays as it is.
struct Copies(BTreeMap<String, Var>);

impl TensorSource for Copies {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let fail = |reason: String| ModelError::Tensor {
            name: name.to_owned(),
            reason,
        };
        let var = self.0.get(name).ok_or_else(|| fail("is missing".into()))?;
        if var.dims() != shape {
            return Err(fail(format!(
                "has shape {:?}, expected {shape:?}",
                var.dims()
            )));
        }
        Ok(var.as_tensor().detach().copy()?)
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// Files of a model folder that go with its tensors.
const BESIDE: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "steering.json",
];

/// Copies what stands beside a model's tensors.
pub(super) fn copy_model_files(from: &Path, to: &Path) -> Result<(), TrainingError> {
    std::fs::create_dir_all(to).map_err(|source| TrainingError::file(to, source))?;
    for name in BESIDE {
        let source = from.join(name);
        if source.exists() {
            let target = to.join(name);
            std::fs::copy(&source, &target).map_err(|error| TrainingError::file(&target, error))?;
        }
    }
    Ok(())
}
