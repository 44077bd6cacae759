//! Hands a job's states on to its next attempt, which has a folder of its own.

use std::fs;
use std::path::Path;

use super::disk::{copy_synced, read, remove, sync_folder, write_synced};
use super::{folder_name, folders, verify};
use crate::training::{TrainingError, tensorboard};

/// What was found where a job lay before.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// The newest sound state's step; `None` where there is none.
    pub step: Option<u64>,
    /// What is wrong with the states that are not sound, newest first.
    pub damaged: Vec<String>,
}

/// States on their way into a folder, until all of them are there.
const DRAFT: &str = "state.draft";

/// Takes the sound states of the job folder `from`, and its metrics, over into the job folder `to`,
/// which has none yet. They get there all at once: a worker that is killed on the way leaves a
/// folder without states, never one with some of them that would be taken for all there are.
/// Files are linked where that can be done: a state is never changed once it has its name, so what
/// happens in one folder does not reach the other.
pub fn carry_over(from: &Path, to: &Path) -> Result<Carried, TrainingError> {
    let mut carried = Carried::default();
    let (old, new) = (from.join("state"), to.join("state"));
    if !old.exists() {
        return Ok(carried);
    }
    let draft = to.join(DRAFT);
    remove(&draft)?;
    fs::create_dir_all(&draft).map_err(|source| TrainingError::file(&draft, source))?;
    // first, as a state needs the metrics before it; copied, as these two are written to
    for name in ["metrics.jsonl", "timings.jsonl"] {
        let (old, new) = (from.join(name), to.join(name));
        if old.exists() {
            copy_synced(&old, &new)?;
        }
    }
    copy_event_files(from, to)?;
    for folder in folders(&old)?.into_iter().rev() {
        let manifest = match verify(&folder) {
            Ok(manifest) => manifest,
            Err(error) => {
                carried.damaged.push(error.to_string());
                continue;
            }
        };
        let target = draft.join(folder_name(manifest.step));
        fs::create_dir(&target).map_err(|source| TrainingError::file(&target, source))?;
        for name in manifest
            .files
            .keys()
            .map(String::as_str)
            .chain(["manifest.json"])
        {
            link(&folder.join(name), &target.join(name))?;
        }
        sync_folder(&target)?;
        carried.step = carried.step.max(Some(manifest.step));
    }
    sync_folder(&draft)?;
    fs::rename(&draft, &new).map_err(|source| TrainingError::file(&new, source))?;
    sync_folder(to)?;
    Ok(carried)
}

/// Copies TensorBoard's files: a worker that lost its job may still write to the old ones.
fn copy_event_files(from: &Path, to: &Path) -> Result<(), TrainingError> {
    let (old, new) = (from.join(tensorboard::FOLDER), to.join(tensorboard::FOLDER));
    if !old.is_dir() {
        return Ok(());
    }
    let fail = |source| TrainingError::file(&new, source);
    fs::create_dir_all(&new).map_err(fail)?;
    for entry in fs::read_dir(&old).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        copy_synced(&entry.path(), &new.join(entry.file_name()))?;
    }
    Ok(())
}

fn link(from: &Path, to: &Path) -> Result<(), TrainingError> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    // another file system, or one without links
    write_synced(to, &read(from)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::state::tests::tensors;
    use crate::training::state::{Saved, load_newest, save};

    #[test]
    fn a_state_with_a_flipped_bit_is_told_and_the_one_before_it_carried_over() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for step in [1, 2] {
            save(old.path(), step, &tensors(step as f32), &()).unwrap();
        }
        fs::write(old.path().join("metrics.jsonl"), "{}\n").unwrap();
        for name in ["tensors.safetensors", "state.json", "manifest.json"] {
            let path = old.path().join("state/step-00000002").join(name);
            let sound = fs::read(&path).unwrap();
            let mut bytes = sound.clone();
            // the first byte that is neither blank nor brace in the JSON files
            let at = if name == "manifest.json" { 5 } else { 0 };
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            let carried = carry_over(old.path(), new.path()).unwrap();
            assert_eq!(carried.step, Some(1), "{name}");
            assert!(carried.damaged[0].contains("step-00000002"), "{carried:?}");
            let saved: Saved<()> = load_newest(new.path()).unwrap().unwrap();
            assert_eq!(saved.step, 1);
            fs::remove_dir_all(new.path().join("state")).unwrap();
            fs::write(&path, sound).unwrap();
        }
        assert_eq!(carry_over(old.path(), new.path()).unwrap().step, Some(2));
        assert!(new.path().join("metrics.jsonl").exists());
    }

    #[test]
    fn states_that_were_taken_over_in_part_are_not_all_there_are() {
        let folder = || tempfile::tempdir().unwrap();
        let (first, second, third) = (folder(), folder(), folder());
        for step in [1, 2] {
            save(first.path(), step, &tensors(step as f32), &()).unwrap();
        }
        carry_over(first.path(), second.path()).unwrap();
        // as a kill on the way leaves it: the newest is there, the other one is not
        let (state, draft) = (second.path().join("state"), second.path().join(DRAFT));
        fs::rename(&state, &draft).unwrap();
        fs::remove_dir_all(draft.join("step-00000001")).unwrap();
        let carried = carry_over(second.path(), third.path()).unwrap();
        assert_eq!(carried, Carried::default());
        assert!(!third.path().join("state").exists());
        // who takes over into that folder after all is not held up by it
        assert_eq!(
            carry_over(first.path(), second.path()).unwrap().step,
            Some(2)
        );
        assert_eq!(folders(&state).unwrap().len(), 2);
        assert!(!draft.exists());
    }
}
