//! Saves a job so that it goes on to the bit: tensors as safetensors, the rest as JSON.
//!
//! A saved state is a folder `state/step-NNNNNNNN`. It is written under another name, synced and
//! renamed, so that a folder of the right name is always whole. `manifest.json` holds the blake3
//! hash of every other file; a state whose hashes do not match is refused, never half used.

mod disk;
mod hand_over;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::TrainingError;
use super::config::JobFile;
pub use disk::write_synced;
use disk::{json, read, remove, sync_folder};
pub use hand_over::{Carried, carry_over};

const FORMAT_VERSION: u32 = 2;
/// States kept: the newest and the two before it.
const KEPT: usize = 3;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format_version: u32,
    step: u64,
    /// File name to blake3 hash, in hexadecimal.
    files: BTreeMap<String, String>,
}

/// A state as it was saved.
#[derive(Debug)]
pub struct Saved<M> {
    /// The step after which it was saved.
    pub step: u64,
    /// Trainable tensors and their moments, by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Everything else.
    pub meta: M,
    /// Its folder.
    pub folder: PathBuf,
}

/// A job and the hash of the model that it starts from.
pub type Origin<'a, J> = (&'a J, &'a str);

impl<M> Saved<M> {
    /// That this state cannot be gone on from.
    pub fn refused(&self, reason: impl Into<String>) -> TrainingError {
        TrainingError::State {
            path: self.folder.clone(),
            reason: reason.into(),
        }
    }

    /// Refuses a state that was saved by another job, or over another model.
    pub fn check_origin<J: JobFile>(
        &self,
        saved: Origin<'_, J>,
        now: Origin<'_, J>,
    ) -> Result<(), TrainingError> {
        if !saved.0.is_same_run(now.0) {
            return Err(self.refused(
                "was saved by another job file; use another output folder, or remove this one to \
                 start anew",
            ));
        }
        if saved.1 != now.1 {
            let model = now.0.section().model.display();
            return Err(self.refused(format!(
                "was saved over another model; {model} has changed since"
            )));
        }
        Ok(())
    }
}

/// Saves a state under `job/state`, then removes all but the newest three. Returns its folder. A
/// sound state of the same step is what would be written, and stays: there is never a moment
/// without the newest state.
pub fn save<M: Serialize>(
    job: &Path,
    step: u64,
    tensors: &[(String, Tensor)],
    meta: &M,
) -> Result<PathBuf, TrainingError> {
    let root = job.join("state");
    let folder = root.join(folder_name(step));
    if folder.exists() && verify(&folder).is_ok() {
        return Ok(folder);
    }
    let draft = root.join(format!(".draft-{step:08}"));
    remove(&draft)?;
    fs::create_dir_all(&draft).map_err(|source| TrainingError::file(&draft, source))?;
    let views = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor.clone()));
    let contents = [
        ("tensors.safetensors", safetensors::serialize(views, None)?),
        ("state.json", json(meta, &draft)?),
    ];
    let mut files = BTreeMap::new();
    for (name, bytes) in &contents {
        write_synced(&draft.join(name), bytes)?;
        files.insert((*name).to_owned(), blake3::hash(bytes).to_hex().to_string());
    }
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        step,
        files,
    };
    write_synced(&draft.join("manifest.json"), &json(&manifest, &draft)?)?;
    sync_folder(&draft)?;
    remove(&folder)?;
    fs::rename(&draft, &folder).map_err(|source| TrainingError::file(&folder, source))?;
    sync_folder(&root)?;
    for old in folders(&root)?.iter().rev().skip(KEPT) {
        remove(old)?;
    }
    Ok(folder)
}

fn folder_name(step: u64) -> String {
    format!("step-{step:08}")
}

/// The newest state under `job/state`, checked against its hashes; `None` where none was saved.
pub fn load_newest<M: DeserializeOwned>(job: &Path) -> Result<Option<Saved<M>>, TrainingError> {
    let root = job.join("state");
    if !root.exists() {
        return Ok(None);
    }
    folders(&root)?.pop().map(load).transpose()
}

fn load<M: DeserializeOwned>(folder: PathBuf) -> Result<Saved<M>, TrainingError> {
    let manifest = manifest(&folder)?;
    let file = |name: &str| checked(&folder, &manifest, name);
    let tensors =
        candle_core::safetensors::load_buffer(&file("tensors.safetensors")?, &Device::Cpu)?;
    let meta = serde_json::from_slice(&file("state.json")?)
        .map_err(|error| damaged(&folder, format!("state.json: {error}")))?;
    let step = manifest.step;
    Ok(Saved {
        step,
        tensors: tensors.into_iter().collect(),
        meta,
        folder,
    })
}

/// Holds every file of a state against its hash.
fn verify(folder: &Path) -> Result<Manifest, TrainingError> {
    let manifest = manifest(folder)?;
    for name in manifest.files.keys() {
        checked(folder, &manifest, name)?;
    }
    Ok(manifest)
}

fn damaged(folder: &Path, reason: String) -> TrainingError {
    TrainingError::State {
        path: folder.to_owned(),
        reason: format!("{reason}; remove this folder to resume from the state before it"),
    }
}

fn manifest(folder: &Path) -> Result<Manifest, TrainingError> {
    let manifest: Manifest = serde_json::from_slice(&read(&folder.join("manifest.json"))?)
        .map_err(|error| damaged(folder, format!("manifest.json: {error}")))?;
    if manifest.format_version != FORMAT_VERSION {
        let version = manifest.format_version;
        let reason = format!("format {version}, this program reads {FORMAT_VERSION}");
        return Err(damaged(folder, reason));
    }
    // no hash covers the manifest itself: its hashes and names fail by themselves, its step must
    // be held against the folder's name
    let step = manifest.step;
    if folder.file_name() != Some(folder_name(step).as_ref()) {
        let reason = format!("manifest.json states step {step}");
        return Err(damaged(folder, reason));
    }
    Ok(manifest)
}

/// A file's bytes, if they have the hash that the manifest states.
fn checked(folder: &Path, manifest: &Manifest, name: &str) -> Result<Vec<u8>, TrainingError> {
    let bytes = read(&folder.join(name))?;
    if manifest.files.get(name).map(String::as_str) != Some(&*blake3::hash(&bytes).to_hex()) {
        let reason = format!("{name} does not have the hash of manifest.json");
        return Err(damaged(folder, reason));
    }
    Ok(bytes)
}

/// Finished states, oldest first.
fn folders(root: &Path) -> Result<Vec<PathBuf>, TrainingError> {
    let fail = |source| TrainingError::file(root, source);
    let mut found = Vec::new();
    for entry in fs::read_dir(root).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if entry.file_name().to_string_lossy().starts_with("step-") {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(in crate::training::state) fn tensors(value: f32) -> Vec<(String, Tensor)> {
        let tensor = Tensor::new(&[value, f32::MIN_POSITIVE, -0.0], &Device::Cpu).unwrap();
        vec![("param.a".into(), tensor)]
    }

    #[test]
    fn what_is_loaded_is_what_was_saved_to_the_bit() {
        let job = tempfile::tempdir().unwrap();
        save(job.path(), 7, &tensors(0.1), &vec![1u64, 2]).unwrap();
        let saved: Saved<Vec<u64>> = load_newest(job.path()).unwrap().unwrap();
        assert_eq!((saved.step, saved.meta), (7, vec![1, 2]));
        let loaded = saved.tensors["param.a"].to_vec1::<f32>().unwrap();
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&loaded), bits(&[0.1, f32::MIN_POSITIVE, -0.0]));
    }

    #[test]
    fn the_newest_three_are_kept() {
        let job = tempfile::tempdir().unwrap();
        for step in [1, 2, 3, 10, 200] {
            save(job.path(), step, &tensors(step as f32), &()).unwrap();
        }
        let names: Vec<String> = folders(&job.path().join("state"))
            .unwrap()
            .iter()
            .map(|f| f.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["step-00000003", "step-00000010", "step-00000200"]);
    }

    #[test]
    fn a_sound_state_is_not_taken_away_to_be_written_again() {
        use std::os::unix::fs::MetadataExt;
        let job = tempfile::tempdir().unwrap();
        let folder = save(job.path(), 1, &tensors(1.0), &()).unwrap();
        let inode = |folder: &Path| fs::metadata(folder).unwrap().ino();
        let first = inode(&folder);
        assert_eq!(save(job.path(), 1, &tensors(1.0), &()).unwrap(), folder);
        assert_eq!(inode(&folder), first);
        // a damaged one is
        fs::write(folder.join("state.json"), b"x").unwrap();
        save(job.path(), 1, &tensors(1.0), &()).unwrap();
        verify(&folder).unwrap();
    }

    #[test]
    fn a_draft_that_a_crash_left_behind_is_not_a_state() {
        let job = tempfile::tempdir().unwrap();
        save(job.path(), 1, &tensors(1.0), &()).unwrap();
        let draft = job.path().join("state/.draft-00000002");
        fs::create_dir(&draft).unwrap();
        fs::write(draft.join("tensors.safetensors"), b"half").unwrap();
        let saved: Saved<()> = load_newest(job.path()).unwrap().unwrap();
        assert_eq!(saved.step, 1);
        save(job.path(), 2, &tensors(2.0), &()).unwrap();
        assert!(!draft.exists());
    }

    #[test]
    fn a_damaged_file_is_refused_by_name() {
        let job = tempfile::tempdir().unwrap();
        let folder = save(job.path(), 1, &tensors(1.0), &()).unwrap();
        let path = folder.join("tensors.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        let message = load_newest::<()>(job.path()).unwrap_err().to_string();
        assert!(
            message.contains("tensors.safetensors does not have the hash"),
            "{message}"
        );
    }

    #[test]
    fn any_flipped_bit_of_any_file_of_a_state_is_found() {
        let job = tempfile::tempdir().unwrap();
        let folder = save(job.path(), 12, &tensors(0.5), &vec![7u64; 3]).unwrap();
        verify(&folder).unwrap();
        for name in ["tensors.safetensors", "state.json", "manifest.json"] {
            let path = folder.join(name);
            let sound = fs::read(&path).unwrap();
            for bit in 0..sound.len() * 8 {
                let mut bytes = sound.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, bytes).unwrap();
                assert!(verify(&folder).is_err(), "bit {bit} of {name}");
            }
            fs::write(&path, sound).unwrap();
        }
    }

    #[test]
    fn a_job_that_never_saved_has_no_state() {
        let job = tempfile::tempdir().unwrap();
        assert!(load_newest::<()>(job.path()).unwrap().is_none());
    }
}
