//! What is fetched, from where, and how a fetch goes on after anything that can break it.

use axum::http::Method;

use super::stand_in::{COMMIT, StandIn, Trick, etag};
use super::{Asker, names, repository, said};
use crate::fixtures::fixture;

const WEIGHTS: &str = "model.safetensors";

fn ranges(hub: &StandIn) -> Vec<Option<String>> {
    let asked = hub.seen().into_iter();
    let asked = asked.filter(|it| it.method == "GET" && !it.of_hub);
    asked.map(|it| it.range).collect()
}

fn check_weights(path: &std::path::Path) {
    let fetched = std::fs::read(path.join(WEIGHTS)).unwrap();
    assert!(fetched == std::fs::read(fixture("qwen2").join(WEIGHTS)).unwrap());
}

#[tokio::test]
async fn a_checkpoint_is_fetched_once_and_the_token_is_told_to_the_hub_alone() {
    let hub = StandIn::start(repository("qwen2"));
    let asker = Asker::of(&hub);
    let path = asker.fetch("org/tiny").await.unwrap();
    assert_eq!(path, asker.cache().join("snapshots").join(COMMIT));
    let files = [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        WEIGHTS,
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names(&path), files);
    for name in files {
        let expected = std::fs::read(fixture("qwen2").join(name)).unwrap();
        assert!(
            std::fs::read(path.join(name)).unwrap() == expected,
            "{name}"
        );
        let blob = format!("../../blobs/{}", etag(name, &expected));
        assert_eq!(
            std::fs::read_link(path.join(name)).unwrap().to_str(),
            Some(&*blob)
        );
    }
    let noted = std::fs::read_to_string(asker.cache().join("refs/main")).unwrap();
    assert_eq!(noted, COMMIT);
    let seen = hub.seen();
    assert!(seen.iter().any(|it| !it.of_hub));
    for it in &seen {
        let told = it.token.as_deref() == Some("Bearer hf_secret");
        assert_eq!(told, it.of_hub, "{it:?}");
    }
    let (planned, here) = *asker.heard.bytes.lock().unwrap();
    assert!(planned > 100_000 && planned == here, "{planned} {here}");

    asker.fetch("org/tiny").await.unwrap();
    assert_eq!(hub.seen().len(), 1, "only the commit is asked for again");
    assert_eq!(asker.heard(), "");
}

#[tokio::test]
async fn shards_are_fetched_as_the_index_names_them() {
    let hub = StandIn::start(repository("gemma"));
    let path = Asker::of(&hub);
    let path = path.fetch("org/tiny@refs/pr/7").await.unwrap();
    let shards = names(&path)
        .into_iter()
        .filter(|it| it.ends_with(".safetensors"));
    assert_eq!(shards.count(), 4);
    let asked = hub
        .seen()
        .into_iter()
        .find(|it| it.path.starts_with("/api/"));
    assert!(asked.unwrap().path.ends_with("/revision/refs%2Fpr%2F7"));
}

#[tokio::test]
async fn a_gguf_file_is_taken_by_its_kind() {
    let bytes = std::fs::read(fixture("gguf").join("blocks.gguf")).unwrap();
    let files = ["a-Q8_0.gguf", "a-Q4_K_M.gguf", "README.md"];
    let hub = StandIn::start(files.map(|name| (name.to_owned(), bytes.clone())));
    let asker = Asker::of(&hub);
    let path = asker.fetch("org/tiny:q8_0").await.unwrap();
    assert!(path.ends_with(format!("snapshots/{COMMIT}/a-Q8_0.gguf")));
    assert_eq!(names(path.parent().unwrap()), ["a-Q8_0.gguf"]);
    let error = said(&asker.fetch("org/tiny").await.unwrap_err());
    assert!(error.contains("`:a-Q4_K_M.gguf`"), "{error}");
}

#[tokio::test]
async fn a_file_that_breaks_off_goes_on_where_it_broke() {
    let hub = StandIn::start(repository("qwen2"));
    hub.trick(Method::GET, WEIGHTS, Trick::Cut(50_000));
    hub.trick(Method::GET, WEIGHTS, Trick::Cut(30_000));
    let asker = Asker::of(&hub);
    let path = asker.fetch("org/tiny").await.unwrap();
    check_weights(&path);
    let from = |byte: usize| Some(format!("bytes={byte}-"));
    assert_eq!(ranges(&hub), [None, from(50_000), from(80_000)]);
    assert!(asker.heard().contains("broke off"), "{}", asker.heard());
}

#[tokio::test]
async fn a_run_that_is_ended_is_taken_up_by_the_next() {
    let hub = StandIn::start(repository("qwen2"));
    hub.trick(Method::GET, WEIGHTS, Trick::Stall(50_000));
    let asker = Asker::of(&hub);
    let half = async {
        loop {
            tokio::task::yield_now().await;
            let (planned, here) = *asker.heard.bytes.lock().unwrap();
            if planned > 0 && here + 192_240 - 50_000 == planned {
                return;
            }
        }
    };
    tokio::select! {
        it = asker.fetch("org/tiny") => panic!("it ended: {it:?}"),
        () = half => {}
    }
    hub.seen();
    let bytes = std::fs::read(fixture("qwen2").join(WEIGHTS)).unwrap();
    let part = format!("blobs/{}.incomplete", etag(WEIGHTS, &bytes));
    assert_eq!(asker.cache().join(part).metadata().unwrap().len(), 50_000);
    let path = asker.fetch("org/tiny").await.unwrap();
    check_weights(&path);
    assert_eq!(ranges(&hub), [Some("bytes=50000-".to_owned())]);
}

#[tokio::test]
async fn whoever_knows_no_ranges_is_asked_for_all() {
    let hub = StandIn::start(repository("qwen2"));
    hub.trick(Method::GET, WEIGHTS, Trick::Cut(50_000));
    hub.trick(Method::GET, WEIGHTS, Trick::Whole);
    let asker = Asker::of(&hub);
    check_weights(&asker.fetch("org/tiny").await.unwrap());
    let (planned, here) = *asker.heard.bytes.lock().unwrap();
    assert_eq!(planned, here, "what came twice counts once");
}

#[tokio::test]
async fn what_passes_is_asked_again_and_what_does_not_is_told() {
    let hub = StandIn::start(repository("qwen2"));
    for (method, end) in [
        (Method::GET, "/revision/main"),
        (Method::HEAD, "config.json"),
        (Method::GET, WEIGHTS),
        (Method::GET, "tokenizer.json"),
    ] {
        hub.trick(method.clone(), end, Trick::Refuse(503, None, "in a moment"));
        hub.trick(method, end, Trick::Refuse(429, None, "too many"));
    }
    let asker = Asker::of(&hub);
    check_weights(&asker.fetch("org/tiny").await.unwrap());
    assert!(
        asker.heard().contains("503 (in a moment)"),
        "{}",
        asker.heard()
    );

    let hub = StandIn::start(repository("qwen2"));
    for _ in 0..3 {
        hub.trick(Method::GET, WEIGHTS, Trick::Cut(0));
    }
    let error = said(&Asker::of(&hub).fetch("org/tiny").await.unwrap_err());
    for words in [
        "model.safetensors of the model `org/tiny`",
        "goes on",
        "broke off",
    ] {
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn two_that_want_the_same_fetch_it_once() {
    let hub = StandIn::start(repository("qwen2"));
    let asker = Asker::of(&hub);
    let (one, other) = tokio::join!(asker.fetch("org/tiny"), asker.fetch("org/tiny"));
    check_weights(&one.unwrap());
    check_weights(&other.unwrap());
    assert_eq!(ranges(&hub), [None]);
}

#[tokio::test]
async fn a_full_disk_is_told_in_words() {
    let hub = StandIn::start(repository("qwen2"));
    let asker = Asker::of(&hub);
    let bytes = std::fs::read(fixture("qwen2").join(WEIGHTS)).unwrap();
    let part = format!("blobs/{}.incomplete", etag(WEIGHTS, &bytes));
    std::fs::create_dir_all(asker.cache().join("blobs")).unwrap();
    std::os::unix::fs::symlink("/dev/full", asker.cache().join(part)).unwrap();
    let error = said(&asker.fetch("org/tiny").await.unwrap_err());
    for words in ["no space is left", "HF_HUB_CACHE", "stays for the next run"] {
        assert!(error.contains(words), "{error}");
    }
}
