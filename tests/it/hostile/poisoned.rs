//! Requests made to break the engine: each is refused alone, and whoever runs beside it gets the
//! answer that it gets alone.

use axum::body::Body;
use axum::http::Request;
use futures::future::join_all;
use serde_json::{Value, json};
use steersman::engine::EngineConfig;

use crate::http::client::{Server, post};

/// Bodies of `/v1/generate` that have brought other servers down, or would have.
fn corpus() -> Vec<String> {
    let with = |field: &str, value: Value| json!({"prompt": "x", field: value}).to_string();
    let raw = |text: &str| format!("{{\"prompt\": \"x\", {text}}}");
    let mut bodies = vec![
        with("logit_bias", json!({"4294967295": 1})),
        with("logit_bias", json!({"18446744073709551616": 1})),
        with("logit_bias", json!({"512": -100})),
        with("stop_token_ids", json!([u32::MAX])),
        with("stop_token_ids", json!([-1])),
        with(
            "tools",
            json!([{"type": "function", "function": {"parameters": 7}}]),
        ),
        with("tools", json!("all")),
        with("tool_choice", json!({"type": "function"})),
        with("max_tokens", json!(u64::MAX)),
        with("min_tokens", json!(u64::MAX)),
        with("n", json!(u64::MAX)),
        with("guidance", json!(f64::MAX)),
        with(
            "objective_weights",
            json!({"helpfulness": f64::MAX, "harmlessness": f64::MAX}),
        ),
        with("objective_weights", json!([0, 0])),
        with("objective_weights", json!([])),
        with("chat_template", json!("{{ 7 * 7 }}")),
        with("chat_template_kwargs", json!({"x": "{{ 7 * 7 }}"})),
        with("regex", json!("(a{1,30000}){1,30000}".repeat(3000))),
        with("response_format", json!({"type": "json_schema"})),
        with("messages", json!([{"role": "user"}])),
        json!({"prompt": ""}).to_string(),
        json!({"prompt": []}).to_string(),
        json!({"prompt": null}).to_string(),
        json!({"messages": []}).to_string(),
        json!({"prompt": "word ".repeat(50_000)}).to_string(),
        raw("\"temperature\": NaN"),
        raw("\"temperature\": 1e39"),
        raw("\"temperature\": -1e400"),
        raw("\"objective_weights\": [1e39, 1]"),
        raw("\"seed\": 99999999999999999999999999"),
        raw("\"stop\": \"\\ud800\""),
        raw("\"prompt\": \"twice\""),
        "[".repeat(200_000),
        "{\"prompt\":".repeat(20_000),
        String::new(),
        "null".to_owned(),
    ];
    for field in [
        "max_tokens",
        "min_tokens",
        "n",
        "top_k",
        "seed",
        "top_logprobs",
    ] {
        for value in [
            "-1",
            "-9223372036854775809",
            "1.5",
            "1e39",
            "\"1\"",
            "[]",
            "{}",
            "true",
        ] {
            bodies.push(raw(&format!("\"{field}\": {value}")));
        }
    }
    bodies
}

/// Requests whose answers are known.
fn mates() -> Vec<Value> {
    let mate = |seed: usize| {
        json!({
            "prompt": format!("Tell me about number {seed}."), "seed": seed, "max_tokens": 24,
            "objective_weights": {"helpfulness": seed as f64 / 8.0, "harmlessness": 0.5},
            "ignore_eos": true, "temperature": 1.0,
        })
    };
    (0..8).map(mate).collect()
}

#[tokio::test]
async fn poison_is_refused_alone_and_its_batch_mates_answer_as_ever() {
    let server = Server::start(EngineConfig::default());
    let ask = async |body: &Value| server.generate(body.clone()).await["text"].clone();
    let mut alone = Vec::new();
    for mate in mates() {
        alone.push(ask(&mate).await);
    }
    let mut refused = 0;
    let poisons = async {
        for body in corpus() {
            let told: String = body.chars().take(100).collect();
            let reply = server.ask(post("/v1/generate", &body)).await;
            let status = reply.status.as_u16();
            assert!(
                matches!(status, 200 | 400..500),
                "{told}: {status} {}",
                reply.text
            );
            if status != 200 {
                refused += 1;
                assert!(
                    reply.json()["error"]["code"].is_string(),
                    "{told}: {}",
                    reply.text
                );
            }
        }
    };
    let company = async {
        for _ in 0..4 {
            let mates = mates();
            let answers = mates.iter().map(ask);
            assert_eq!(join_all(answers).await, alone);
        }
    };
    tokio::join!(poisons, company);
    assert!(
        refused > 70,
        "only {refused} were refused: is it still poison?"
    );
    let ready = Request::get("/readyz").body(Body::empty()).unwrap();
    assert_eq!(server.ask(ready).await.status, 200);
}
