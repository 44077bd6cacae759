//! Overload, clients that go away, and the end of the process.

use std::time::Duration;

use axum::http::StatusCode;
use http_body_util::BodyExt;
use serde_json::json;
use steersman::engine::EngineConfig;
use steersman::service::{Phase, ServiceSettings};

use super::client::{Server, post};
use super::folder;

/// A stream that runs as long as the context allows.
fn long_stream() -> String {
    json!({"prompt": "Hello", "stream": true, "ignore_eos": true, "max_tokens": 80}).to_string()
}

fn one_place() -> Server {
    Server::start(EngineConfig {
        max_sequences: 1,
        queue_capacity: 0,
        ..EngineConfig::default()
    })
}

#[tokio::test]
async fn a_full_queue_refuses_and_a_client_that_leaves_makes_room() {
    let server = one_place();
    // nobody reads it, so it pauses half-way and keeps its place
    let held = server.send(post("/v1/generate", &long_stream())).await;
    assert_eq!(held.status(), StatusCode::OK);
    let refused = server.post("/v1/generate", &json!({"prompt": "x"})).await;
    assert_eq!(
        refused.status,
        StatusCode::TOO_MANY_REQUESTS,
        "{}",
        refused.text
    );
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    assert_eq!(refused.json()["error"]["code"], "queue_full");
    assert_eq!(refused.header("retry-after"), "1");
    drop(held);
    let freed = async {
        while server
            .post("/v1/generate", &json!({"prompt": "x", "max_tokens": 1}))
            .await
            .status
            != StatusCode::OK
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), freed)
        .await
        .unwrap();
}

#[tokio::test]
async fn who_waits_too_long_for_a_place_is_told_so() {
    let patience = Duration::from_secs(2);
    let server = Server::over(
        folder::with_policies().path(),
        &ServiceSettings {
            engine: EngineConfig {
                max_sequences: 1,
                queue_capacity: 2,
                ..EngineConfig::default()
            },
            queue_patience: patience,
            ..ServiceSettings::default()
        },
    );
    // nobody reads it, so it pauses half-way and keeps its place
    let held = server.send(post("/v1/generate", &long_stream())).await;
    assert_eq!(held.status(), StatusCode::OK);
    let whole = json!({"prompt": "x"});
    let turns = [json!({"role": "user", "content": "x"})];
    let streamed = json!({"messages": turns, "stream": true});
    let (whole, streamed) = tokio::join!(
        server.post("/v1/generate", &whole),
        server.post("/v1/chat/completions", &streamed),
    );
    for refused in [whole, streamed] {
        assert_eq!(
            refused.status,
            StatusCode::GATEWAY_TIMEOUT,
            "{}",
            refused.text
        );
        let error = &refused.json()["error"];
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("timeout_error"), &json!("queue_timeout"))
        );
    }
    // a stream that began is not cut, however long it takes
    let text = held.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&text).ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_draining_server_takes_nothing_new_and_finishes_what_runs() {
    let server = one_place();
    let running = server.send(post("/v1/generate", &long_stream())).await;
    server.app.lifecycle().advance(Phase::Draining);
    for path in ["/v1/generate", "/v1/chat/completions"] {
        let body = json!({"messages": [{"role": "user", "content": "x"}]});
        let refused = server.post(path, &body).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.json()["error"]["code"], "draining");
        assert_ne!(refused.header("retry-after"), "");
    }
    assert_eq!(
        server.get("/readyz").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(server.get("/healthz").await.status, StatusCode::OK);
    let text = running.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&text).ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_stream_that_is_cut_says_so_and_is_not_done() {
    let server = one_place();
    let running = server.send(post("/v1/generate", &long_stream())).await;
    server.app.lifecycle().advance(Phase::Ending);
    let text = running.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&text).into_owned();
    let last = text
        .trim_end()
        .lines()
        .last()
        .unwrap()
        .strip_prefix("data: ")
        .unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["error"]["code"], "draining");
    assert!(!text.contains("[DONE]"));
}
