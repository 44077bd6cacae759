//! `POST /v1/chat/completions`, in OpenAI's shapes.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::client::Server;

const ROUTE: &str = "/v1/chat/completions";

fn body(extra: Value) -> Value {
    let mut body = json!({
        "model": "default",
        "messages": [{"role": "user", "content": "How do I stay safe?"}],
        "max_completion_tokens": 12,
        "seed": 3,
    });
    body.as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn a_completion_has_openais_shape_and_the_steering() {
    let reply = Server::shared().post(ROUTE, &body(json!({}))).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let seen = reply.json();
    assert!(seen["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(seen["object"], "chat.completion");
    assert_eq!(seen["model"], "kind");
    assert!(
        seen["system_fingerprint"]
            .as_str()
            .unwrap()
            .contains("kind-")
    );
    let choice = &seen["choices"][0];
    assert_eq!(
        (&choice["index"], &choice["message"]["role"]),
        (&json!(0), &json!("assistant"))
    );
    assert!(choice["message"]["refusal"].is_null() && choice["logprobs"].is_null());
    assert!(choice["message"]["content"].is_string() && choice["finish_reason"].is_string());
    assert_eq!(seen["usage"]["steering"], seen["steering"]);
    assert_eq!(seen["seed"], 3);
}

#[tokio::test]
async fn a_stream_says_the_same_in_chunks() {
    let server = Server::shared();
    let whole = server.post(ROUTE, &body(json!({}))).await.json();
    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let chunks = server.post(ROUTE, &body(options)).await.chunks();
    assert_eq!(
        chunks[0]["choices"][0]["delta"],
        json!({"role": "assistant", "content": ""})
    );
    assert!(chunks[0]["steering"].is_object());
    let text: String = chunks
        .iter()
        .filter_map(|c| c["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    let [.., end, usage] = chunks.as_slice() else {
        panic!("too few chunks")
    };
    assert_eq!(end["choices"][0]["delta"], json!({}));
    assert_eq!(
        end["choices"][0]["finish_reason"],
        whole["choices"][0]["finish_reason"]
    );
    assert!(end["steering"].is_object());
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(
        usage["usage"]["total_tokens"],
        whole["usage"]["total_tokens"]
    );
    for chunk in &chunks[..chunks.len() - 1] {
        assert!(chunk.as_object().unwrap().contains_key("usage") && chunk["usage"].is_null());
        assert_eq!(chunk["object"], "chat.completion.chunk");
    }
    let without = server
        .post(ROUTE, &body(json!({"stream": true})))
        .await
        .chunks();
    assert!(without.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[tokio::test]
async fn content_may_come_in_parts_and_developers_count_as_system() {
    let server = Server::shared();
    let text = |messages: Value| {
        let body = body(json!({"messages": messages}));
        async move { server.post(ROUTE, &body).await.json()["choices"][0]["message"]["content"].clone() }
    };
    let parts = json!([{"type": "text", "text": "Stay "}, {"type": "text", "text": "safe"}]);
    let in_parts = text(
        json!([{"role": "developer", "content": "Be kind"}, {"role": "user", "content": parts}]),
    )
    .await;
    let plain = text(
        json!([{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Stay safe"}]),
    )
    .await;
    assert!(plain.is_string());
    assert_eq!(in_parts, plain);
}

#[tokio::test]
async fn fields_without_effect_are_named_in_warnings() {
    let extra = json!({
        "metadata": {"a": "b"}, "store": true, "service_tier": "auto", "tools": null, "presence_penalty": 0,
        "messages": [{"role": "user", "name": "ann", "content": "Hello"}],
    });
    let seen = Server::shared().post(ROUTE, &body(extra)).await.json();
    let warnings = seen["warnings"].as_array().unwrap();
    for field in ["metadata", "store", "service_tier", "messages[0].name"] {
        let named = warnings
            .iter()
            .any(|w| w.as_str().unwrap().contains(&format!("`{field}`")));
        assert!(named, "{field}: {warnings:?}");
    }
    assert_eq!(warnings.len(), 4);
}

#[tokio::test]
async fn what_chat_cannot_do_is_refused() {
    for (extra, code) in [
        (json!({"messages": null}), "missing_field"),
        (json!({"prompt": "x"}), "unknown_parameter"),
        (
            json!({"stream_options": {"include_usage": true}}),
            "invalid_value",
        ),
        (
            json!({"stream": true, "stream_options": {"x": 1}}),
            "invalid_type",
        ),
        (
            json!({"tools": [{"type": "function"}]}),
            "unsupported_parameter",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]}),
            "unsupported_parameter",
        ),
    ] {
        let reply = Server::shared().post(ROUTE, &body(extra.clone())).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{extra}");
        assert_eq!(
            reply.json()["error"]["code"],
            code,
            "{extra}: {}",
            reply.text
        );
    }
}
