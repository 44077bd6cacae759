//! A server that starts again serves what was promoted, or the one before where that is damaged.

use serde_json::Value;

use super::harness::{Place, ask, promote, promoted, standing};

#[tokio::test]
async fn what_was_promoted_is_live_after_a_restart() {
    let place = Place::new();
    let server = place.serve().await;
    promoted(&server, &place.better(-40), 0).await;
    let candidate = place.better(60);
    promote(&server, &candidate, 1, serde_json::json!({"canary": 0.5})).await;
    let before = standing(&server).await;
    drop(server);
    let server = place.serve().await;
    assert_eq!(standing(&server).await, before);
    assert_eq!(before["version"], 2);
    assert_eq!(before["canary"]["share"], 0.5);
}

#[tokio::test]
async fn a_live_checkpoint_that_is_damaged_gives_way_to_the_one_before_it() {
    for file in [
        "adapter_config.json",
        "adapter_model.safetensors",
        "steering.json",
        "checkpoint.json",
    ] {
        let place = Place::new();
        let server = place.serve().await;
        let own = ask(&server, 0).await;
        let first = promoted(&server, &place.better(-40), 0).await;
        let answer = ask(&server, 0).await;
        let second = promoted(&server, &place.better(60), 1).await;
        drop(server);
        place.flip(second["checkpoint"].as_str().unwrap(), file);
        let server = place.serve().await;
        let told = standing(&server).await;
        assert_eq!(ask(&server, 0).await, answer, "{file}");
        assert_eq!(told["checkpoint"], first["checkpoint"]);
        let problem = told["problem"].as_str().unwrap();
        assert!(
            problem.contains("damaged") && problem.contains(file),
            "{problem}"
        );
        drop(server);
        place.flip(first["checkpoint"].as_str().unwrap(), file);
        let server = place.serve().await;
        assert_eq!(ask(&server, 0).await, own);
        assert_eq!(standing(&server).await["checkpoint"], Value::Null);
    }
}

#[tokio::test]
async fn a_rollback_passes_over_a_damaged_checkpoint() {
    let place = Place::new();
    let server = place.serve().await;
    let own = ask(&server, 0).await;
    let first = promoted(&server, &place.better(-40), 0).await;
    promoted(&server, &place.better(60), 1).await;
    place.flip(first["checkpoint"].as_str().unwrap(), "adapter_config.json");
    let reply = super::harness::roll_back(&server, 2).await.json();
    assert_eq!(reply["checkpoint"], Value::Null);
    assert!(reply["problem"].as_str().unwrap().contains("damaged"));
    assert_eq!(ask(&server, 0).await, own);
}

#[tokio::test]
async fn a_server_takes_over_what_another_one_promoted() {
    let place = Place::new();
    let (one, other) = (place.serve().await, place.serve().await);
    let told = promoted(&one, &place.better(-40), 0).await;
    assert_ne!(ask(&other, 0).await, ask(&one, 0).await);
    other.app.follow().await.unwrap();
    assert_eq!(ask(&other, 0).await, ask(&one, 0).await);
    assert_eq!(standing(&other).await["version"], told["version"]);
}
