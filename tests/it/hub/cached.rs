//! What is served where nothing can be asked, and caches that other tools made.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::stand_in::{COMMIT, StandIn, etag};
use super::{Asker, repository, said};

const OFFLINE: &[(&str, &str)] = &[("HF_HUB_OFFLINE", "1")];

/// An address where nobody listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A cache as `huggingface_hub` leaves it after `snapshot_download`.
fn made_by_others(cache: &Path, files: &[(String, Vec<u8>)]) {
    let snapshot = cache.join("snapshots").join(COMMIT);
    for folder in [&snapshot, &cache.join("blobs"), &cache.join("refs")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let absent = cache.join(".no_exist").join(COMMIT);
    std::fs::create_dir_all(&absent).unwrap();
    std::fs::write(absent.join("added_tokens.json"), "").unwrap();
    std::fs::write(cache.join("refs/main"), COMMIT).unwrap();
    for (name, bytes) in files.iter().filter(|(name, _)| !name.contains('/')) {
        let blob = etag(name, bytes);
        std::fs::write(cache.join("blobs").join(&blob), bytes).unwrap();
        symlink(format!("../../blobs/{blob}"), snapshot.join(name)).unwrap();
    }
}

#[tokio::test]
async fn a_cache_that_others_made_is_served_offline() {
    let asker = Asker::at(&nowhere());
    made_by_others(&asker.cache(), &repository("qwen2"));
    let snapshot = asker.cache().join("snapshots").join(COMMIT);
    for name in ["org/tiny", &format!("org/tiny@{COMMIT}")] {
        let path = asker.fetch_with(name, OFFLINE).await.unwrap();
        assert_eq!(path, snapshot);
    }
    assert_eq!(asker.heard(), "");
}

#[tokio::test]
async fn what_others_fetched_is_not_fetched_again() {
    let files = repository("qwen2");
    let hub = StandIn::start(files.clone());
    let asker = Asker::of(&hub);
    made_by_others(&asker.cache(), &files);
    // one file as a run that was ended left it: a blob without its place in the snapshot
    let snapshot = asker.cache().join("snapshots").join(COMMIT);
    std::fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    asker.fetch("org/tiny").await.unwrap();
    assert!(snapshot.join("model.safetensors").is_file());
    let gets = hub.seen().into_iter().filter(|it| it.method == "GET");
    assert_eq!(gets.count(), 1, "only the commit");
}

#[tokio::test]
async fn a_cache_that_is_whole_is_not_written_to() {
    let files = repository("qwen2");
    let hub = StandIn::start(files.clone());
    let asker = Asker::of(&hub);
    made_by_others(&asker.cache(), &files);
    let changed = || {
        let root = asker.cache();
        let places = [root.join("refs/main"), root.join("refs"), root.clone()];
        let hub = asker.home.path().join("hub");
        let places = places.iter().chain([&hub]);
        let changed = places.map(|it| it.metadata().unwrap().modified().unwrap());
        changed.collect::<Vec<_>>()
    };
    let before = changed();
    asker.fetch("org/tiny").await.unwrap();
    assert_eq!(changed(), before);
}

#[tokio::test]
async fn a_hub_that_cannot_be_reached_is_told_and_the_cache_served() {
    let asker = Asker::at(&nowhere());
    let error = said(&asker.fetch("org/tiny").await.unwrap_err());
    for words in [
        "`org/tiny` is no folder here",
        "nothing of revision `main`",
        "cannot be reached",
    ] {
        assert!(error.contains(words), "{error}");
    }
    made_by_others(&asker.cache(), &repository("qwen2"));
    let path = asker.fetch("org/tiny").await.unwrap();
    assert!(path.join("model.safetensors").is_file());
    let heard = asker.heard();
    assert!(
        heard.contains("as it was fetched before") && heard.contains(COMMIT),
        "{heard}"
    );
    // a revision that nobody fetched is not another one's
    let error = said(&asker.fetch("org/tiny@dev").await.unwrap_err());
    assert!(error.contains("nothing of revision `dev`"), "{error}");
}

#[tokio::test]
async fn half_a_model_is_not_served() {
    for (missing, words) in [
        (
            "model-00002-of-00004.safetensors",
            "model-00002-of-00004.safetensors",
        ),
        ("tokenizer.json", "no tokenizer.json"),
        ("model.safetensors.index.json", "no tensors"),
    ] {
        let asker = Asker::at(&nowhere());
        let mut files = repository("gemma");
        files.retain(|(name, _)| name != "pytorch_model.bin");
        made_by_others(&asker.cache(), &files);
        let snapshot = asker.cache().join("snapshots").join(COMMIT);
        std::fs::remove_file(snapshot.join(missing)).unwrap();
        let error = said(&asker.fetch_with("org/tiny", OFFLINE).await.unwrap_err());
        assert!(
            error.contains("HF_HUB_OFFLINE") && error.contains(words),
            "{missing}: {error}"
        );
    }
    let asker = Asker::at(&nowhere());
    let error = said(&asker.fetch_with("org/tiny", OFFLINE).await.unwrap_err());
    assert!(error.contains("nothing of revision `main`"), "{error}");
}
