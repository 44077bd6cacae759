//! Answers under grammars: whatever the weights, they parse and fit.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::{Value, json};
use steersman::service::ServiceSettings;

use super::client::Server;

fn demo() -> &'static Server {
    static DEMO: OnceLock<Server> = OnceLock::new();
    DEMO.get_or_init(|| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
        Server::over(&dir, &ServiceSettings::default())
    })
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "continent": {"enum": ["Africa", "Asia", "Europe"]},
            "sure": {"type": "boolean"},
            "words": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 2},
        },
        "required": ["continent", "sure", "words"],
        "additionalProperties": false,
    })
}

#[tokio::test]
async fn answers_fit_the_schema_whatever_the_weights_and_the_seed() {
    let format = json!({
        "type": "json_schema",
        "json_schema": {"name": "place", "strict": true, "schema": schema()},
    });
    for (seed, weights) in [[1, 0], [0, 1], [1, 1]].iter().enumerate() {
        for temperature in [0.0, 1.5] {
            let answer = demo()
                .generate(json!({
                    "prompt": "Where is Chad?", "objective_weights": weights, "seed": seed,
                    "temperature": temperature, "max_tokens": 120, "response_format": format,
                }))
                .await;
            assert_eq!(answer["finish_reason"], "stop", "{answer}");
            let text = answer["text"].as_str().unwrap();
            let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
            let continent = value["continent"].as_str().unwrap();
            assert!(["Africa", "Asia", "Europe"].contains(&continent), "{text}");
            assert!(value["sure"].is_boolean(), "{text}");
            let words = value["words"].as_array().unwrap();
            assert!(words.len() <= 2, "{text}");
            assert!(
                words
                    .iter()
                    .all(|w| w.as_str().unwrap().chars().count() <= 5),
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn any_object_parses_and_patterns_match_in_every_route() {
    let object = json!({
        "messages": [{"role": "user", "content": "Where is Chad?"}], "max_tokens": 200, "seed": 2,
        "response_format": {"type": "json_object"}, "temperature": 0.3,
    });
    let reply = demo().post("/v1/chat/completions", &object).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let choice = reply.json()["choices"][0].clone();
    let text = choice["message"]["content"].as_str().unwrap().to_owned();
    assert!(text.starts_with('{'), "{text}");
    if choice["finish_reason"] == "stop" {
        assert!(serde_json::from_str::<Value>(&text).unwrap().is_object());
    }
    let pattern = regex::Regex::new("^(yes|no), [a-z]{3}$").unwrap();
    let asked = json!({
        "prompt": "Is Chad in Africa?", "regex": "(yes|no), [a-z]{3}", "n": 3, "seed": 4,
        "temperature": 1, "max_tokens": 40,
    });
    let seen = demo().post("/v1/completions", &asked).await.json();
    for choice in seen["choices"].as_array().unwrap() {
        let text = choice["text"].as_str().unwrap();
        assert!(pattern.is_match(text), "{text}");
        assert_eq!(choice["finish_reason"], "stop");
    }
    let streaming = json!({
        "prompt": "Is Chad in Africa?", "regex": "(yes|no), [a-z]{3}", "stream": true,
        "max_tokens": 40,
    });
    let chunks = demo().post("/v1/generate", &streaming).await.chunks();
    let text: String = chunks.iter().map(|c| c["text"].as_str().unwrap()).collect();
    assert!(pattern.is_match(&text), "{text}");
}

#[tokio::test]
async fn a_format_of_text_is_no_format() {
    let server = Server::shared();
    let plain = json!({"prompt": "x", "max_tokens": 6, "seed": 1});
    let mut text = plain.clone();
    text["response_format"] = json!({"type": "text"});
    assert_eq!(
        server.generate(plain).await["text"],
        server.generate(text).await["text"]
    );
}

#[tokio::test]
async fn hostile_and_broken_schemas_are_refused_quickly_and_name_the_field() {
    let many: Vec<Value> = (0..3000)
        .map(|i| json!(format!("value number {i}")))
        .collect();
    for schema in [
        json!({"type": "nothing"}),
        json!({"$ref": "http://169.254.169.254/latest/meta-data"}),
        json!({"type": "string", "pattern": "("}),
        json!({"enum": many}),
        json!({"type": "string", "enum": ["x".repeat(70_000)]}),
        json!(null),
        json!(7),
    ] {
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        let asked = json!({"prompt": "x", "max_tokens": 4, "response_format": format});
        let started = Instant::now();
        let reply = Server::shared().post("/v1/generate", &asked).await;
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{:?}",
            started.elapsed()
        );
        if schema["enum"]
            .as_array()
            .is_some_and(|list| list.len() == 3000)
        {
            // long but sound: either answer is fine, as long as it comes soon
            continue;
        }
        let told: String = schema.to_string().chars().take(80).collect();
        assert_eq!(
            reply.status,
            StatusCode::BAD_REQUEST,
            "{told}: {}",
            reply.text
        );
        let error = reply.json()["error"].clone();
        assert_eq!(error["param"], "response_format", "{told}: {error}");
        assert!(error["message"].as_str().unwrap().len() < 600);
        assert!(
            !error["message"].as_str().unwrap().contains("backtrace"),
            "{error}"
        );
    }
    // and the server goes on serving
    Server::shared()
        .generate(json!({"prompt": "x", "max_tokens": 2}))
        .await;
}
