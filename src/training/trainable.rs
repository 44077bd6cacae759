//! A decoder with what is trained of it: an adapter over it, or all its tensors.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Tensor, Var};
use serde_json::Value;

use super::TrainingError;
use super::config::{PolicySettings, TrainWhat};
use super::logps::Side;
use super::state::write_synced;
use crate::model::{
    Decoder, DecoderConfig, LoraAdapter, LoraSettings, Precision, TensorFiles, TrainableTensors,
    save_tensors,
};

/// Where a whole model's tensors start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// From the folder's checkpoint.
    Checkpoint,
    /// At random; the folder needs a configuration and a tokenizer only.
    Fresh,
}

/// A decoder and its trainable tensors.
pub struct Trainable {
    /// The decoder; built of variables where the whole model is trained.
    pub decoder: Arc<Decoder>,
    /// The adapter, where one is trained.
    pub adapter: Option<Arc<LoraAdapter>>,
    vars: Vec<(String, Var)>,
    /// Numbers of a written whole model.
    pub save_dtype: DType,
}

impl Trainable {
    /// Every tensor of a model folder.
    pub fn whole(dir: &Path, start: Start, seed: u64) -> Result<Self, TrainingError> {
        let config = DecoderConfig::load(dir)?;
        let mut tensors = match start {
            Start::Checkpoint => {
                let files = Box::new(TensorFiles::open(dir)?);
                TrainableTensors::from_checkpoint(&config, files, seed)
            }
            Start::Fresh => TrainableTensors::fresh(&config, seed),
        };
        let decoder = Decoder::build(config, &mut tensors, Precision::F32)?;
        Ok(Self {
            decoder: Arc::new(decoder),
            adapter: None,
            vars: tensors.into_vars(),
            save_dtype: DType::F32,
        })
    }

    /// An adapter over a frozen decoder: a copy of `start`, or a new one that changes nothing yet.
    pub fn adapter(
        decoder: Arc<Decoder>,
        start: Option<&LoraAdapter>,
        settings: &PolicySettings,
        seed: u64,
    ) -> Result<Self, TrainingError> {
        let adapter = match start {
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
        let vars = adapter.vars().to_vec();
        Ok(Self {
            decoder,
            adapter: Some(Arc::new(adapter)),
            vars,
            save_dtype: DType::F32,
        })
    }

    /// What `settings` says of a model folder.
    pub fn load(
        dir: &Path,
        settings: &PolicySettings,
        start: Start,
        seed: u64,
    ) -> Result<Self, TrainingError> {
        match settings.train {
            TrainWhat::Full => Ok(Self {
                save_dtype: settings.save_dtype.dtype(),
                ..Self::whole(dir, start, seed)?
            }),
            TrainWhat::Lora => {
                let decoder = Arc::new(Decoder::load(dir)?);
                let start = match &settings.start_adapter {
                    Some(folder) => Some(LoraAdapter::load(folder, &decoder)?),
                    None => None,
                };
                Self::adapter(decoder, start.as_ref(), settings, seed)
            }
        }
    }

    /// The trainable tensors by name, in a fixed order.
    pub fn vars(&self) -> &[(String, Var)] {
        &self.vars
    }

    /// The decoder's shape.
    pub fn config(&self) -> &DecoderConfig {
        self.decoder.config()
    }

    /// The model as it is now, differentiable.
    pub fn live(&self) -> Side<'_> {
        Side {
            decoder: &self.decoder,
            adapter: self.adapter.as_ref(),
        }
    }

    /// Writes what was trained: an adapter as a PEFT folder, a whole model as a model folder with
    /// the other files of `model` beside its tensors.
    pub fn save(&self, model: &Path, folder: &Path) -> Result<(), TrainingError> {
        if let Some(adapter) = &self.adapter {
            let base = model.file_name().unwrap_or_default().to_string_lossy();
            return Ok(adapter.save(folder, &base)?);
        }
        copy_model_files(model, folder)?;
        let path = folder.join("config.json");
        let mut config = read_config(&path)?;
        state_dtype(&mut config, self.save_dtype);
        write_synced(&path, format!("{config:#}\n").as_bytes())?;
        let tensors: BTreeMap<String, Tensor> = self
            .vars
            .iter()
            .map(|(name, var)| (name.clone(), var.as_tensor().clone()))
            .collect();
        Ok(save_tensors(
            &folder.join("model.safetensors"),
            &tensors,
            self.save_dtype,
        )?)
    }
}

/// A model's `config.json`.
pub(super) fn read_config(path: &Path) -> Result<Value, TrainingError> {
    let bytes = std::fs::read(path).map_err(|source| TrainingError::file(path, source))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let reason = format!("{} is not JSON: {error}", path.display());
        TrainingError::setting("job.model", reason)
    })
}

/// Says in a configuration which numbers the tensors beside it are written in.
pub(super) fn state_dtype(config: &mut Value, dtype: DType) {
    let name = if dtype == DType::BF16 {
        "bfloat16"
    } else {
        "float32"
    };
    let known = ["dtype", "torch_dtype"];
    if let Some(key) = known.into_iter().find(|key| config.get(key).is_some()) {
        config[key] = name.into();
    }
}

/// Files of a model folder that go with its tensors.
const BESIDE: [&str; 7] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
];

/// Copies what stands beside a model's tensors.
pub fn copy_model_files(from: &Path, to: &Path) -> Result<(), TrainingError> {
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
