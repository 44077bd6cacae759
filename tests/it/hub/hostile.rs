//! Hubs that lie: names that lead elsewhere, content that is not what it is called.

use axum::http::Method;

use super::stand_in::{StandIn, Trick};
use super::{Asker, names, repository, said};

#[tokio::test]
async fn a_name_that_leads_out_of_the_folder_is_refused() {
    for name in [
        "../../../../escaped.json",
        "/tmp/escaped.json",
        "policies/../../escaped/steering.json",
        "policies\\..\\steering.json",
        "policies//steering.json",
    ] {
        let mut files = repository("qwen2");
        files.push((name.to_owned(), b"{}".to_vec()));
        let asker = Asker::of(&StandIn::start(files));
        let error = said(&asker.fetch("org/tiny").await.unwrap_err());
        assert!(error.contains("outside of its folder"), "{name}: {error}");
        assert_eq!(
            names(asker.home.path()),
            [""; 0],
            "{name}: nothing is written"
        );
    }
}

#[tokio::test]
async fn an_index_cannot_name_what_the_model_does_not_have() {
    let mut files = repository("gemma");
    let index = "model.safetensors.index.json";
    files.retain(|(name, _)| name != index);
    let map = br#"{"weight_map": {"a": "../../../../escaped.safetensors"}}"#;
    files.push((index.to_owned(), map.to_vec()));
    let asker = Asker::of(&StandIn::start(files));
    let error = said(&asker.fetch("org/tiny").await.unwrap_err());
    assert!(
        error.contains("index") && error.contains("escaped"),
        "{error}"
    );
}

#[tokio::test]
async fn damaged_content_is_fetched_again_and_never_kept() {
    for (name, end) in [
        ("model.safetensors", "/large/model.safetensors"),
        ("config.json", "/small/config.json"),
    ] {
        let hub = StandIn::start(repository("qwen2"));
        hub.trick(Method::GET, end, Trick::Damage);
        let asker = Asker::of(&hub);
        let path = asker.fetch("org/tiny").await.unwrap();
        let whole = crate::fixtures::fixture("qwen2").join(name);
        assert!(std::fs::read(path.join(name)).unwrap() == std::fs::read(whole).unwrap());
        assert!(asker.heard().contains("damaged"), "{}", asker.heard());

        let hub = StandIn::start(repository("qwen2"));
        hub.trick(Method::GET, end, Trick::Damage);
        hub.trick(Method::GET, end, Trick::Damage);
        let asker = Asker::of(&hub);
        let error = said(&asker.fetch("org/tiny").await.unwrap_err());
        assert!(
            error.contains(name) && error.contains("not the one named"),
            "{error}"
        );
        let snapshots = asker.cache().join("snapshots");
        let kept = std::fs::read_dir(snapshots).into_iter().flatten().flatten();
        assert!(!kept.map(|it| it.path().join(name)).any(|it| it.exists()));
        assert!(
            !asker.cache().join("refs").exists(),
            "the revision is not whole"
        );
    }
}
