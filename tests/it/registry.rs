//! Checkpoints on disk: named by content, whole or not there, checked to the bit.

use std::fs;
use std::path::{Path, PathBuf};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use steersman::registry::{CHECKPOINT_FILES, CheckpointId, NewCheckpoint, Registry, RegistryError};
use steersman::store::{PolicyChange, Store, StoreSettings};
use tempfile::TempDir;

struct Place {
    data: TempDir,
    made: TempDir,
    registry: Registry,
}

impl Place {
    async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let settings = StoreSettings {
            data_dir: data.path().to_owned(),
            database_url: None,
        };
        let store = Store::open(&settings).await.unwrap();
        Self {
            registry: Registry::open(data.path(), store).await.unwrap(),
            made: tempfile::tempdir().unwrap(),
            data,
        }
    }

    /// A folder with three small files that differ by `seed`.
    fn folder(&self, seed: u64) -> PathBuf {
        let folder = self.made.path().join(seed.to_string());
        fs::create_dir_all(&folder).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for name in CHECKPOINT_FILES {
            let bytes: Vec<u8> = (0..rng.random_range(50..400))
                .map(|_| rng.random())
                .collect();
            fs::write(folder.join(name), bytes).unwrap();
        }
        folder
    }

    async fn add(&self, folder: &Path, at: i64) -> Result<CheckpointId, RegistryError> {
        let new = NewCheckpoint {
            policy: "kind".to_owned(),
            folder: folder.to_owned(),
            origin: "a test".to_owned(),
            evaluation: |_| "null".to_owned(),
            content: None,
            at,
        };
        self.registry.add(new).await
    }

    fn stored(&self, id: &CheckpointId) -> PathBuf {
        self.data.path().join("checkpoints").join(id.as_str())
    }

    /// What the registry says of a checkpoint that was damaged.
    async fn damage(&self, id: &CheckpointId) -> String {
        let error = self.registry.checked(id).await.unwrap_err();
        assert!(matches!(error, RegistryError::Damaged { .. }), "{error}");
        error.to_string()
    }
}

#[tokio::test]
async fn the_same_content_is_kept_once_under_its_name() {
    let place = Place::new().await;
    let folder = place.folder(1);
    // what does not belong to a checkpoint stays behind
    fs::write(folder.join("secret.txt"), "x").unwrap();
    let id = place.add(&folder, 1).await.unwrap();
    assert_eq!(place.add(&place.folder(1), 2).await.unwrap(), id);
    assert_ne!(place.add(&place.folder(2), 2).await.unwrap(), id);
    let checked = place.registry.checked(&id).await.unwrap();
    for name in CHECKPOINT_FILES {
        let (from, to) = (fs::read(folder.join(name)), fs::read(checked.join(name)));
        assert_eq!(from.unwrap(), to.unwrap());
    }
    assert!(!checked.join("secret.txt").exists());
    let names = fs::read_dir(place.data.path().join("checkpoints")).unwrap();
    assert_eq!(names.count(), 2, "no draft is left behind");
    assert_eq!(place.registry.checkpoints().await.unwrap().len(), 2);
}

#[tokio::test]
async fn any_flipped_bit_or_cut_of_any_file_is_found() {
    let place = Place::new().await;
    let id = place.add(&place.folder(1), 1).await.unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    for trial in 0..400 {
        let names = [CHECKPOINT_FILES.as_slice(), &["checkpoint.json"]].concat();
        let name = names[trial % names.len()];
        let path = place.stored(&id).join(name);
        let sound = fs::read(&path).unwrap();
        let mut bad = sound.clone();
        match trial % 3 {
            0 => bad.truncate(rng.random_range(0..sound.len())),
            1 => bad.extend_from_slice(b" "),
            _ => bad[rng.random_range(0..sound.len())] ^= 1 << rng.random_range(0..8),
        }
        fs::write(&path, bad).unwrap();
        let told = place.damage(&id).await;
        assert!(told.contains(name), "{told}");
        fs::write(&path, sound).unwrap();
        place.registry.checked(&id).await.unwrap();
    }
}

#[tokio::test]
async fn a_file_too_many_or_too_few_is_found() {
    let place = Place::new().await;
    let id = place.add(&place.folder(1), 1).await.unwrap();
    let extra = place.stored(&id).join("pytorch_model.bin");
    fs::write(&extra, "x").unwrap();
    assert!(
        place
            .damage(&id)
            .await
            .contains("pytorch_model.bin does not belong")
    );
    fs::remove_file(&extra).unwrap();
    let file = place.stored(&id).join("steering.json");
    fs::remove_file(&file).unwrap();
    assert!(place.damage(&id).await.contains("steering.json"));
    // a link to a file of the right content is no file of ours
    std::os::unix::fs::symlink(place.folder(1).join("steering.json"), &file).unwrap();
    assert!(place.damage(&id).await.contains("no plain file"));
}

#[tokio::test]
async fn adding_a_damaged_checkpoint_again_mends_it() {
    let place = Place::new().await;
    let id = place.add(&place.folder(1), 1).await.unwrap();
    fs::write(place.stored(&id).join("steering.json"), "{}").unwrap();
    place.damage(&id).await;
    assert_eq!(place.add(&place.folder(1), 2).await.unwrap(), id);
    place.registry.checked(&id).await.unwrap();
}

#[tokio::test]
async fn an_incomplete_folder_or_a_link_is_refused_and_leaves_nothing() {
    let place = Place::new().await;
    let folder = place.folder(1);
    let file = folder.join("steering.json");
    fs::remove_file(&file).unwrap();
    let error = place.add(&folder, 1).await.unwrap_err();
    assert!(error.to_string().contains("steering.json"), "{error}");
    std::os::unix::fs::symlink("/etc/hostname", &file).unwrap();
    let error = place.add(&folder, 1).await.unwrap_err();
    assert!(matches!(error, RegistryError::Incomplete { .. }), "{error}");
    let names = fs::read_dir(place.data.path().join("checkpoints")).unwrap();
    assert_eq!(names.count(), 0);
}

#[tokio::test]
async fn a_draft_that_a_crash_left_behind_is_no_checkpoint() {
    let place = Place::new().await;
    let id = place.add(&place.folder(1), 1).await.unwrap();
    let draft = place.data.path().join("checkpoints/.draft-1");
    fs::rename(place.stored(&id), &draft).unwrap();
    let error = place.registry.checked(&id).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotThere { .. }), "{error}");
    assert_eq!(place.add(&place.folder(1), 1).await.unwrap(), id);
    place.registry.checked(&id).await.unwrap();
}

#[tokio::test]
async fn old_checkpoints_go_and_what_a_rollback_needs_stays() {
    let place = Place::new().await;
    let mut ids = Vec::new();
    for seed in 0..7 {
        ids.push(place.add(&place.folder(seed), seed as i64).await.unwrap());
    }
    for (expected, (live, replaced)) in [(0, None), (1, Some(0))].into_iter().enumerate() {
        let change = PolicyChange {
            id: "kind".to_owned(),
            action: "promote",
            live: Some(ids[live].to_string()),
            replaced: replaced.map(|place: usize| ids[place].to_string()),
            canary: None,
            at: 9,
        };
        place
            .registry
            .change(&change, expected as i64)
            .await
            .unwrap();
    }
    let removed = place.registry.clear_old("kind").await.unwrap();
    let expected: Vec<String> = [3, 2].map(|place: usize| ids[place].to_string()).into();
    assert_eq!(removed, expected);
    for (index, id) in ids.iter().enumerate() {
        let there = place.registry.checked(id).await.is_ok();
        assert_eq!(there, ![2, 3].contains(&index), "{index}");
    }
}
