//! The running product: one base, the policies over it, one engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::access::{Access, AccessError};
use super::base::Base;
use super::error::{LoadError, RequestError};
use super::finetune::FineTuning;
use super::folder::ModelFolder;
use super::keys::KeyRing;
use super::lifecycle::Lifecycle;
use super::live::{LivePolicies, Slot};
use super::meters::Meters;
use super::policy::{BaseParts, LivePolicy};
use super::sampling::SamplingDefaults;
use super::structured::Grammars;
use super::turns::Turns;
use super::weights::Weights;
use crate::engine::{EngineConfig, EngineHandle};
use crate::model::{Device, Dtype, LoraAdapter};
use crate::registry::Registry;
use crate::store::Store;
use crate::text::PromptEncoder;
use crate::types::TokenId;

/// What the service can be told; the rest is the checkpoint's.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// The engine's bounds.
    pub engine: EngineConfig,
    /// Tokens generated where neither request nor checkpoint states a number.
    pub default_max_tokens: usize,
    /// In what numbers the base's linear layers multiply.
    pub dtype: Dtype,
    /// What computes the base.
    pub device: Device,
    /// How long a request may wait for the first token of its answers.
    pub queue_patience: Duration,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            engine: EngineConfig::default(),
            default_max_tokens: 256,
            dtype: Dtype::default(),
            device: Device::default(),
            queue_patience: Duration::from_secs(120),
        }
    }
}

/// Everything that answers requests. Shared by every connection; what changes is which version of
/// a policy is live.
pub struct App {
    pub(super) engine: EngineHandle<LoraAdapter>,
    pub(super) encoder: Arc<PromptEncoder>,
    pub(super) defaults: SamplingDefaults,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) meters: Arc<Meters>,
    pub(super) queue_patience: Duration,
    /// Profiles and keys; `None` on the command line, which has neither.
    pub(super) store: Option<Store>,
    /// Training jobs and their files; `None` where they are switched off.
    pub(super) fine_tuning: Option<FineTuning>,
    /// Whether the admin routes have a listener of their own.
    admin_apart: bool,
    /// Checkpoints that can be promoted; `None` on the command line.
    pub(super) registry: Option<Registry>,
    /// Held by whoever changes a policy.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// Held by whoever measures a checkpoint: two evaluations at once would each take twice as long.
    pub(super) measuring: tokio::sync::Mutex<()>,
    keys: KeyRing,
    pub(super) grammars: Grammars,
    /// Turns at encoding large texts.
    pub(super) large_texts: Turns,
    pub(super) live: LivePolicies,
    default: usize,
    /// What every version of every policy must fit.
    model: Base,
    base_hash: String,
    root: PathBuf,
    weights: Weights,
    stop_ids: Vec<TokenId>,
}

impl App {
    /// Loads a model, a folder or a GGUF file, and starts its engine.
    ///
    /// # Errors
    /// The first thing that cannot be served, in a sentence that says what to do.
    pub fn load(dir: &Path, settings: &ServiceSettings) -> Result<Self, LoadError> {
        let folder = ModelFolder::open(dir)?;
        let root = &folder.root;
        let model = Base::load(&folder.weights, settings.dtype, settings.device)?;
        let encoder = folder.weights.encoder()?;
        let hash = folder.weights.hash()?;
        let base = BaseParts {
            decoder: model.config(),
            arithmetic: model.arithmetic(),
            encoder: &encoder,
            hash: &hash,
            root,
            weights: folder.weights.path(),
        };
        let slots = folder
            .policies
            .iter()
            .map(|policy| LivePolicy::load(policy, &base).map(Slot::of_folder))
            .collect::<Result<Vec<_>, _>>()?;
        let mut eos = model.config().eos_token_ids.clone();
        eos.extend(encoder.tokenizer().eos_ids());
        let defaults = (folder.weights).sampling(&eos, settings.default_max_tokens)?;
        let engine = model.start(settings.engine.clone());
        let engine = engine.map_err(LoadError::Engine)?;
        Ok(Self {
            engine,
            encoder: Arc::new(encoder),
            defaults,
            lifecycle: Arc::new(Lifecycle::default()),
            meters: Arc::default(),
            queue_patience: settings.queue_patience,
            store: None,
            fine_tuning: None,
            admin_apart: false,
            registry: None,
            changing: tokio::sync::Mutex::default(),
            measuring: tokio::sync::Mutex::default(),
            keys: KeyRing::default(),
            grammars: Grammars::default(),
            large_texts: Turns::default(),
            live: LivePolicies::new(slots),
            default: folder.default,
            model,
            base_hash: hash,
            root: folder.root,
            weights: folder.weights,
            stop_ids: eos,
        })
    }

    /// The same with profiles and keys.
    #[must_use]
    pub fn with_store(self, store: Store) -> Self {
        Self {
            store: Some(store),
            ..self
        }
    }

    /// The same with training jobs.
    #[must_use]
    pub fn with_fine_tuning(self, tuning: FineTuning) -> Self {
        Self {
            fine_tuning: Some(tuning),
            ..self
        }
    }

    /// The same with a listener of their own for the admin routes.
    #[must_use]
    pub fn with_admin_apart(self) -> Self {
        Self {
            admin_apart: true,
            ..self
        }
    }

    /// Whether the public listener has the admin routes too.
    pub fn shares_admin_routes(&self) -> bool {
        !self.admin_apart
    }

    /// What the caller with this secret may do. A server without keys is open to all.
    ///
    /// # Errors
    /// No key, none that is valid, or keys cannot be checked.
    pub async fn authenticate(&self, secret: Option<&str>) -> Result<Access, AccessError> {
        match &self.store {
            Some(store) => self.keys.authenticate(store, secret).await,
            None => Ok(Access::open()),
        }
    }

    /// The live version of every model, the base first.
    pub fn policies(&self) -> Vec<Arc<LivePolicy>> {
        let slots = self.live.now();
        slots
            .iter()
            .map(|slot| Arc::clone(&slot.live.policy))
            .collect()
    }

    /// The policy that answers where no model is named.
    pub fn default_policy(&self) -> Arc<LivePolicy> {
        Arc::clone(&self.live.now()[self.default].live.policy)
    }

    /// The live version of an id; `None` is the default one.
    ///
    /// # Errors
    /// No model has this id.
    pub fn policy(&self, id: Option<&str>) -> Result<Arc<LivePolicy>, RequestError> {
        self.slot(id).map(|slot| slot.live.policy)
    }

    /// The version that takes the next request for an id: a canary where its turn has come.
    ///
    /// # Errors
    /// No model has this id.
    pub(super) fn answering(&self, id: Option<&str>) -> Result<Arc<LivePolicy>, RequestError> {
        self.slot(id).map(|slot| self.live.next_of(&slot))
    }

    fn slot(&self, id: Option<&str>) -> Result<Slot, RequestError> {
        let slots = self.live.now();
        let Some(id) = id else {
            return Ok(slots[self.default].clone());
        };
        let found = slots.iter().find(|slot| slot.id == id);
        found.cloned().ok_or_else(|| {
            let known: Vec<_> = slots.iter().map(|slot| format!("`{}`", slot.id)).collect();
            RequestError::ModelNotFound {
                asked: clipped(id),
                known: format!(
                    "{} (the default is `{}`)",
                    known.join(", "),
                    slots[self.default].id
                ),
            }
        })
    }

    /// What a further version of a policy must fit.
    pub(super) fn base(&self) -> BaseParts<'_> {
        BaseParts {
            decoder: self.model.config(),
            arithmetic: self.model.arithmetic(),
            encoder: &self.encoder,
            hash: &self.base_hash,
            root: &self.root,
            weights: self.weights.path(),
        }
    }

    /// Tokens that end an answer.
    pub(super) fn stop_ids(&self) -> &[TokenId] {
        &self.stop_ids
    }

    /// Tokens that prompt and completion may have together.
    pub fn context_length(&self) -> usize {
        self.engine.context_length()
    }

    /// In what numbers linear layers multiply: `f32` or `bf16`.
    pub fn dtype(&self) -> &'static str {
        self.model.numbers()
    }

    /// Says which phase the process is in.
    pub fn lifecycle(&self) -> &Arc<Lifecycle> {
        &self.lifecycle
    }
}

/// A caller's text, short enough to quote.
pub(super) fn clipped(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
