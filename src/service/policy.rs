//! One model id of the API: a base or a policy over it, with what it can be steered by.

use std::path::{Path, PathBuf};

use super::adapters::{PolicyAdapter, policy_files};
use super::error::LoadError;
use super::folder::{MANIFEST_FILE, PolicyFolder};
use super::scoring::Scorer;
use crate::model::DecoderConfig;
use crate::steering::SteeringManifest;
use crate::text::PromptEncoder;
use crate::training::fingerprint::hash_files;

/// A policy that answers requests. Immutable: a new version is a new value.
pub struct LivePolicy {
    /// Its id in the API.
    pub id: String,
    /// `ID-` and twelve hex digits of its content, its base's, and of the numbers it computes in
    /// where these are not f32.
    pub version: String,
    /// When its files were written, in seconds since 1970.
    pub created: u64,
    /// What it can be steered by; `None` is an ordinary model.
    pub manifest: Option<SteeringManifest>,
    /// What it adds to the base.
    pub adapter: PolicyAdapter,
    /// The rewards that it was trained on.
    pub(super) scorer: Scorer,
    /// The folder of its base.
    pub(super) root: PathBuf,
    /// What its base is loaded from: that folder, or a file in it.
    pub(super) weights: PathBuf,
    /// Its own folder.
    pub(super) dir: PathBuf,
}

/// What a policy must fit.
pub(super) struct BaseParts<'a> {
    pub(super) decoder: &'a DecoderConfig,
    /// What tells its bits from those that the same tensors give in other numbers or elsewhere.
    pub(super) arithmetic: &'a str,
    pub(super) encoder: &'a PromptEncoder,
    /// Of the base's configuration, tokenizer and tensors.
    pub(super) hash: &'a str,
    /// Its folder.
    pub(super) root: &'a Path,
    /// What it was loaded from.
    pub(super) weights: &'a Path,
}

impl LivePolicy {
    /// Loads one policy and holds its manifest against the base.
    ///
    /// # Errors
    /// A file that cannot be used, or a manifest that does not fit.
    pub(super) fn load(folder: &PolicyFolder, base: &BaseParts<'_>) -> Result<Self, LoadError> {
        let manifest = match folder.has_manifest {
            true => Some(load_manifest(&folder.dir, base)?),
            false => None,
        };
        let adapter = PolicyAdapter::load(folder, manifest.as_ref(), base.decoder)?;
        let files = policy_files(manifest.as_ref());
        let names: Vec<&str> = files.iter().map(String::as_str).collect();
        let own = hash_files(&folder.dir, &names).map_err(LoadError::Hash)?;
        // the same version promises the same bytes, and other numbers give others
        let numbers = match base.arithmetic {
            "f32" => "",
            other => other,
        };
        let content = blake3::hash(format!("{}{}{numbers}", base.hash, own.to_hex()).as_bytes());
        Ok(Self {
            version: format!("{}-{}", folder.id, &content.to_hex()[..12]),
            created: written_at(&folder.dir, &names),
            id: folder.id.clone(),
            manifest,
            adapter,
            scorer: Scorer::default(),
            root: base.root.to_owned(),
            weights: base.weights.to_owned(),
            dir: folder.dir.clone(),
        })
    }
}

fn load_manifest(dir: &Path, base: &BaseParts<'_>) -> Result<SteeringManifest, LoadError> {
    let path = dir.join(MANIFEST_FILE);
    let manifest = SteeringManifest::load(dir).map_err(LoadError::Manifest)?;
    let misfit = |problem: String| LoadError::Misfit {
        path: path.clone(),
        problem,
    };
    let objectives = &manifest.objectives;
    let span = manifest
        .conditioning
        .render(objectives, &objectives.equal());
    if let Some(span) = span {
        let fits = base.encoder.check_span(&span);
        fits.map_err(|error| misfit(super::error::chain(&error)))?;
    }
    if let Some(stated) = &manifest.base
        && stated.hash != base.hash
    {
        return Err(misfit(format!(
            "it was trained over the base `{}` with hash {}, but the base here has hash {}; put \
             the policy under the base it was trained on",
            stated.name, stated.hash, base.hash
        )));
    }
    Ok(manifest)
}

/// When a folder's newest file of ours was written; 0 where the file system does not tell.
fn written_at(dir: &Path, names: &[&str]) -> u64 {
    names
        .iter()
        .chain(&["config.json"])
        .filter_map(|name| dir.join(name).metadata().ok()?.modified().ok())
        .filter_map(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .map(|age| age.as_secs())
        .max()
        .unwrap_or(0)
}
