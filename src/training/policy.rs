//! The policy being trained, its frozen reference, and the engine that draws its completions.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Tensor, Var};

use super::TrainingError;
use super::config::{PolicySettings, TrainWhat};
use super::logps::Side;
use super::rollout::Source;
use super::trainable::{Start, Trainable};
use crate::engine::{EngineConfig, EngineHandle};
use crate::model::{Decoder, DecoderConfig, LoraAdapter, ModelError, Precision, TensorSource};
use crate::text::PromptEncoder;
use crate::types::TokenId;

/// A policy with trainable tensors and the reference it started from.
///
/// Invariant: the reference never changes, and the two never share a variable.
pub struct PolicySides {
    live: Trainable,
    reference_decoder: Arc<Decoder>,
    reference_adapter: Option<Arc<LoraAdapter>>,
}

/// The same with an engine that draws completions of either side.
pub struct Policy {
    sides: PolicySides,
    /// Over the frozen decoder, which serves every adapter.
    engine: EngineHandle<LoraAdapter>,
}

impl PolicySides {
    /// Loads a model folder and makes what `settings` says trainable.
    pub fn load(dir: &Path, settings: &PolicySettings, seed: u64) -> Result<Self, TrainingError> {
        let frozen = Arc::new(Decoder::load(dir)?);
        let reference_adapter = match &settings.start_adapter {
            Some(folder) => Some(Arc::new(LoraAdapter::load(folder, &frozen)?)),
            None => None,
        };
        let live = match settings.train {
            TrainWhat::Full => {
                let mut live = Trainable::whole(dir, Start::Checkpoint, seed)?;
                live.save_dtype = settings.save_dtype.dtype();
                live
            }
            TrainWhat::Lora => {
                let start = reference_adapter.as_deref();
                Trainable::adapter(Arc::clone(&frozen), start, settings, seed)?
            }
        };
        Ok(Self {
            live,
            reference_decoder: frozen,
            reference_adapter,
        })
    }

    /// The policy as it is now.
    pub fn trainable(&self) -> &Trainable {
        &self.live
    }

    /// The policy as it was at the start, constant.
    pub fn reference(&self) -> Side<'_> {
        Side {
            decoder: &self.reference_decoder,
            adapter: self.reference_adapter.as_ref(),
        }
    }
}

impl Policy {
    /// Loads a model folder, makes what `settings` says trainable, and starts the engine.
    pub fn load(dir: &Path, settings: &PolicySettings, seed: u64) -> Result<Self, TrainingError> {
        let sides = PolicySides::load(dir, settings, seed)?;
        Ok(Self {
            engine: start_engine(Arc::clone(&sides.reference_decoder))?,
            sides,
        })
    }

    /// The policy as it is now.
    pub fn trainable(&self) -> &Trainable {
        self.sides.trainable()
    }

    /// The policy as it was at the start, constant.
    pub fn reference(&self) -> Side<'_> {
        self.sides.reference()
    }

    /// Where completions of the policy as it is now come from.
    ///
    /// Requests get a copy, so that nothing they hold changes under them or keeps a graph alive:
    /// of the adapter, or, where the whole model is trained, of the model with an engine of its
    /// own.
    pub fn sampler(&self) -> Result<Source, TrainingError> {
        match &self.sides.live.adapter {
            Some(adapter) => Ok((self.engine.clone(), Some(Arc::new(adapter.snapshot()?)))),
            None => {
                let mut copies = Copies(self.sides.live.vars().iter().cloned().collect());
                let config = self.sides.live.config().clone();
                let copy = Decoder::build(config, &mut copies, Precision::F32)?;
                Ok((start_engine(Arc::new(copy))?, None))
            }
        }
    }

    /// Where completions of the policy as it was at the start come from.
    pub fn reference_sampler(&self) -> Source {
        (self.engine.clone(), self.sides.reference_adapter.clone())
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

/// Tokens that end an answer: what the model and its tokenizer declare.
pub(super) fn stop_ids(
    config: &DecoderConfig,
    encoder: &PromptEncoder,
) -> Result<Vec<TokenId>, TrainingError> {
    let mut ids = config.eos_token_ids.clone();
    ids.extend(encoder.tokenizer().eos_ids());
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        let reason = "the model declares no end-of-sequence token, so no answer could ever end";
        return Err(TrainingError::setting("job.model", reason));
    }
    Ok(ids)
}
