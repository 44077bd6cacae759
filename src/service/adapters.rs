//! What a policy adds to its base: nothing, an adapter, or a mix of several by a request's weights.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{LoadError, RequestError};
use super::folder::{ADAPTER_FILE, MANIFEST_FILE, PolicyFolder};
use super::generation::Steered;
use super::policy::LivePolicy;
use crate::model::{AdapterMix, DecoderConfig, LoraAdapter, ModelError};
use crate::steering::{ConditioningKind, SteeringManifest};

/// Where the adapters of a mix lie, each in a folder with its objective's name.
const MIXED_DIR: &str = "adapters";
const TENSORS_FILE: &str = "adapter_model.safetensors";

/// A policy's own tensors.
pub enum PolicyAdapter {
    /// It is its base.
    Base,
    /// The same under all weights.
    One(Arc<LoraAdapter>),
    /// One for each objective, scaled by its weight.
    Mix(Arc<AdapterMix>),
}

impl PolicyAdapter {
    /// Loads what lies in a policy's folder, as its manifest has it.
    ///
    /// # Errors
    /// A file that cannot be used, or adapters that are not those of the manifest.
    pub fn load(
        folder: &PolicyFolder,
        manifest: Option<&SteeringManifest>,
        decoder: &DecoderConfig,
    ) -> Result<Self, LoadError> {
        let load = |dir: PathBuf| match LoraAdapter::load_for(&dir, decoder) {
            Ok(adapter) => Ok(Arc::new(adapter)),
            Err(source) => Err(LoadError::Model { dir, source }),
        };
        let mixed = manifest.filter(|it| it.conditioning.kind == ConditioningKind::AdapterMix);
        let Some(manifest) = mixed else {
            return match folder.has_adapter {
                true => load(folder.dir.clone()).map(Self::One),
                false => Ok(Self::Base),
            };
        };
        let misfit = |problem: String| LoadError::Misfit {
            path: folder.dir.join(MANIFEST_FILE),
            problem,
        };
        if folder.has_adapter {
            return Err(misfit(format!(
                "its kind is adapter_mix, whose adapters lie in {MIXED_DIR}/OBJECTIVE/; remove \
                 {ADAPTER_FILE} beside the manifest"
            )));
        }
        let mut adapters = Vec::with_capacity(manifest.objectives.len());
        for objective in manifest.objectives.iter() {
            let dir = folder.dir.join(MIXED_DIR).join(&objective.name);
            if !dir.join(ADAPTER_FILE).is_file() {
                return Err(misfit(format!(
                    "its kind is adapter_mix, but `{name}` has no adapter: expected \
                     {MIXED_DIR}/{name}/{ADAPTER_FILE} and {TENSORS_FILE}",
                    name = objective.name
                )));
            }
            adapters.push(load(dir)?);
        }
        Ok(Self::Mix(Arc::new(AdapterMix::new(adapters, decoder))))
    }

    /// Whether it changes its base at all.
    pub fn is_some(&self) -> bool {
        !matches!(self, Self::Base)
    }

    /// The adapter that answers where the policy was told this of its objectives. A mix that was not
    /// made lately takes a while.
    ///
    /// # Errors
    /// A mix cannot be made.
    pub fn under(&self, told: &[f32]) -> Result<Option<Arc<LoraAdapter>>, ModelError> {
        match self {
            Self::Base => Ok(None),
            Self::One(adapter) => Ok(Some(Arc::clone(adapter))),
            Self::Mix(mix) => mix.at(told).map(Some),
        }
    }

    /// What it is, for a list of facts.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Base => String::new(),
            Self::One(_) => ", with an adapter".to_owned(),
            Self::Mix(mix) => format!(", with {} adapters", mix.len()),
        }
    }
}

impl LivePolicy {
    /// What it is told where nobody states weights; nothing without objectives.
    pub(super) fn told_by_default(&self) -> Vec<f32> {
        let told = self.manifest.as_ref().map(|manifest| {
            let weights = manifest.objectives.defaults();
            manifest.conditioning.told(&weights)
        });
        told.unwrap_or_default()
    }

    /// As [`PolicyAdapter::under`], beside the event loop where a mix has to be made.
    pub(super) async fn adapter_under(
        self: &Arc<Self>,
        told: Vec<f32>,
    ) -> Result<Option<Arc<LoraAdapter>>, RequestError> {
        let PolicyAdapter::Mix(mix) = &self.adapter else {
            return Ok(self.adapter.under(&told)?);
        };
        let mix = Arc::clone(mix);
        let made = tokio::task::spawn_blocking(move || mix.at(&told)).await;
        let made = made.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        Ok(Some(made?))
    }
}

impl Steered {
    /// What the policy adds to its base under these weights.
    pub(super) async fn adapter(&self) -> Result<Option<Arc<LoraAdapter>>, RequestError> {
        let told = self.steering.iter().flat_map(|used| &used.encoded);
        let told = told.map(|(_, told)| *told).collect();
        self.policy.adapter_under(told).await
    }
}

/// The files that make a policy what it is, beyond its base, in a fixed order.
pub(super) fn policy_files(manifest: Option<&SteeringManifest>) -> Vec<String> {
    let mut files = [ADAPTER_FILE, TENSORS_FILE, MANIFEST_FILE]
        .map(str::to_owned)
        .to_vec();
    let mixed = manifest.filter(|it| it.conditioning.kind == ConditioningKind::AdapterMix);
    for objective in mixed.iter().flat_map(|manifest| manifest.objectives.iter()) {
        let dir = Path::new(MIXED_DIR).join(&objective.name);
        for name in [ADAPTER_FILE, TENSORS_FILE] {
            files.push(dir.join(name).to_string_lossy().into_owned());
        }
    }
    files
}
