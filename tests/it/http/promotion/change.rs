//! Promotion, rollback, canary: what is live, and what the routes say of it.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::harness::{Place, ask, promote, promoted, roll_back, standing};
use crate::http::client::Server;

async fn version(server: &Server) -> String {
    ask(server, 0).await.0
}

#[tokio::test]
async fn a_promotion_changes_the_version_and_a_rollback_brings_it_back() {
    let place = Place::new();
    let server = place.serve().await;
    let first = version(&server).await;
    let fresh = standing(&server).await;
    assert_eq!(fresh["version"], 0);
    assert_eq!(fresh["checkpoint"], Value::Null);
    assert_eq!(fresh["can_roll_back"], false);
    assert_eq!(fresh["policy_version"], first.as_str());
    let told = promoted(&server, &place.better(-40), 0).await;
    let second = version(&server).await;
    assert_ne!(first, second);
    assert_eq!(told["policy_version"], second.as_str());
    assert_eq!(
        (&told["version"], &told["can_roll_back"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(told["checkpoints"][0]["stage"], "live");
    assert!(
        told["gate"]
            .as_array()
            .unwrap()
            .iter()
            .all(|f| f["passed"] == true)
    );
    let model = server.get("/v1/models/kind").await;
    assert_eq!(model.header("x-policy-version"), second);
    let told = promoted(&server, &place.better(60), 1).await;
    let third = version(&server).await;
    let stages: Vec<_> = told["checkpoints"].as_array().unwrap().iter().collect();
    assert_eq!(stages.len(), 2);
    assert!(stages.iter().any(|c| c["stage"] == "retired"));
    assert!(third != second && third != first);
    for (expected, version_after) in [(2, &second), (3, &first)] {
        let reply = roll_back(&server, expected).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        assert_eq!(reply.json()["policy_version"], version_after.as_str());
        assert_eq!(&version(&server).await, version_after);
    }
    let reply = roll_back(&server, 4).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert_eq!(reply.json()["error"]["code"], "nothing_to_roll_back");
    let history = standing(&server).await["history"].clone();
    let actions: Vec<_> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|h| &h["action"])
        .collect();
    assert_eq!(actions, ["rollback", "rollback", "promote", "promote"]);
}

#[tokio::test]
async fn a_canary_takes_its_share_and_ends_or_becomes_live() {
    let place = Place::new();
    let server = place.serve().await;
    let first = version(&server).await;
    let candidate = place.better(-40);
    let reply = promote(&server, &candidate, 0, json!({"canary": 0.25})).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let told = reply.json();
    assert_eq!(told["policy_version"], first.as_str());
    let canary = told["canary"]["policy_version"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut taken = 0;
    for prompt in 0..40 {
        let version = ask(&server, prompt).await.0;
        assert!(version == canary || version == first);
        taken += usize::from(version == canary);
    }
    assert!((8..=12).contains(&taken), "{taken} of 40");
    assert_eq!(roll_back(&server, 1).await.status, StatusCode::OK);
    for prompt in 0..8 {
        assert_eq!(ask(&server, prompt).await.0, first);
    }
    let reply = promote(&server, &candidate, 2, json!({"canary": 0.5})).await;
    assert_eq!(reply.status, StatusCode::OK);
    let told = promoted(&server, &candidate, 3).await;
    assert_eq!(told["canary"], Value::Null);
    for prompt in 0..8 {
        assert_eq!(ask(&server, prompt).await.0, canary);
    }
}

#[tokio::test]
async fn a_sweep_has_one_version_whatever_share_a_canary_has() {
    let place = Place::new();
    let server = place.serve().await;
    let reply = promote(&server, &place.better(-40), 0, json!({"canary": 0.5})).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    for _ in 0..6 {
        let body = json!({"prompt": "x", "grid": 5, "max_tokens": 2, "model": "kind"});
        let reply = server.post("/v1/sweep", &body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        let points = reply.json()["points"].clone();
        let version = |point: &Value| point["steering"]["policy_version"].clone();
        let points = points.as_array().unwrap();
        assert!(
            points
                .iter()
                .all(|p| version(p).is_string() && version(p) == version(&points[0]))
        );
    }
}

#[tokio::test]
async fn an_id_that_is_new_makes_a_new_policy() {
    let place = Place::new();
    let server = place.serve().await;
    let body = json!({"folder": place.better(-40), "expected_version": 0});
    let reply = server
        .post("/admin/v1/policies/newborn/promote", &body)
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let generated = server.generate(json!({"prompt": "x", "model": "newborn", "max_tokens": 1}));
    let version = generated.await["steering"]["policy_version"].clone();
    assert!(version.as_str().unwrap().starts_with("newborn-"));
    let body = json!({"policy": "newborn", "expected_version": 1});
    let reply = server.post("/admin/v1/policies/rollback", &body).await;
    assert_eq!(reply.json()["error"]["code"], "nothing_to_roll_back");
    let server = place.serve().await;
    assert_eq!(
        server.get("/v1/models/newborn").await.status,
        StatusCode::OK
    );
}
