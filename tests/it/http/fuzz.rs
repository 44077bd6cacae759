//! Any number in any numeric field, and any id: an answer or a refusal in the promised shape, and
//! the server goes on serving.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::client::{Server, post};

/// Fields that take a number, or something with numbers in it.
const FIELDS: [&str; 24] = [
    "max_tokens",
    "max_completion_tokens",
    "min_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "n",
    "guidance",
    "top_logprobs",
    "logit_bias.5",
    "logit_bias.id",
    "stop_token_ids",
    "objective_weights.0",
    "objective_weights.helpfulness",
    "stream_options.include_usage",
    "stop",
    "logprobs",
    "echo",
];

/// Numbers as they are written, so that what no Rust type holds can be sent.
fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![
            "0",
            "-0",
            "-0.0",
            "-1",
            "1",
            "0.5",
            "1e39",
            "-1e39",
            "1e308",
            "1e400",
            "-1e400",
            "1e-400",
            "NaN",
            "Infinity",
            "-Infinity",
            "4294967296",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "-9223372036854775809",
            "1e19",
            "0x10",
            "01",
            "1.",
            ".5",
            "\"1\"",
            "\"NaN\"",
            "null",
            "true",
            "[1]",
            "{}",
        ])
        .prop_map(str::to_owned),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<u64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| n.to_string()),
        (-40i64..140).prop_map(|n| n.to_string()),
    ]
}

/// A body with this text in this field.
fn body(field: &str, number: &str) -> String {
    let value = match field {
        "stop_token_ids" => format!("[{number}]"),
        "logit_bias.5" => format!(r#"{{"5":{number}}}"#),
        "logit_bias.id" => format!(r#"{{"{}":1}}"#, number.replace('"', "")),
        "objective_weights.0" => format!("[{number},1]"),
        "objective_weights.helpfulness" => format!(r#"{{"helpfulness":{number}}}"#),
        "stream_options.include_usage" => format!(r#"{{"include_usage":{number}}}"#),
        _ => number.to_owned(),
    };
    let name = field.split('.').next().unwrap_or(field);
    let rest = match name {
        "max_tokens" | "max_completion_tokens" => "",
        _ => r#","max_tokens":2"#,
    };
    format!(r#"{{"prompt":"Hello","{name}":{value}{rest}}}"#)
}

fn check(status: StatusCode, text: &str, asked: &str) {
    if status == StatusCode::OK {
        return;
    }
    assert_eq!(status, StatusCode::BAD_REQUEST, "{asked}: {text}");
    let told: Value = serde_json::from_str(text).unwrap();
    let message = told["error"]["message"].as_str().unwrap();
    assert!(
        !message.is_empty() && message.len() < 1000,
        "{asked}: {message}"
    );
    assert!(told["error"]["code"].is_string(), "{asked}: {text}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        rng_seed: proptest::test_runner::RngSeed::Fixed(20_261_124),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_number_in_any_field_is_answered_or_refused(
        field in select(FIELDS.to_vec()),
        number in number(),
        path in select(vec!["/v1/generate", "/v1/completions"]),
    ) {
        let asked = body(field, &number);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let reply = runtime.block_on(Server::shared().ask(post(path, &asked)));
        check(reply.status, &reply.text, &asked);
    }
}

#[tokio::test]
async fn after_all_that_the_server_answers_as_before() {
    let server = Server::shared();
    let body = json!({"prompt": "Hello", "max_tokens": 3, "temperature": 0});
    let before = server.generate(body.clone()).await["text"].clone();
    for number in ["1e39", "-1", "18446744073709551616"] {
        server
            .ask(post("/v1/generate", &self::body("n", number)))
            .await;
    }
    assert_eq!(server.generate(body).await["text"], before);
    assert_eq!(server.get("/readyz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn ids_that_are_paths_or_worse_lead_nowhere() {
    let server = Server::shared();
    let long = "a".repeat(60_000);
    for id in [
        "..%2F..%2Fetc%2Fpasswd",
        "%2e%2e",
        "..",
        "%00",
        "a%00b",
        "kind%2F..%2Fkind",
        "%2Fetc%2Fpasswd",
        "C:%5Cwindows",
        "%FF%FE",
        "%E2%80%AE",
        &long,
    ] {
        let shown = &id[..id.len().min(40)];
        for (method, path) in [
            ("GET", format!("/v1/models/{id}")),
            ("GET", format!("/v1/profiles/{id}")),
            ("PUT", format!("/v1/profiles/{id}")),
            ("DELETE", format!("/v1/profiles/{id}")),
            ("POST", format!("/v1/profiles/{id}/comparisons")),
        ] {
            let request = Request::builder()
                .method(method)
                .uri(&path)
                .header("content-type", "application/json")
                .body(Body::from(r#"{"objective_weights":{"helpfulness":1}}"#));
            let reply = server.ask(request.unwrap()).await;
            // without a store profiles are 503, once their id is sound
            let refused = reply.status.is_client_error() || reply.status == 503;
            assert!(refused, "{method} {shown}: {} {}", reply.status, reply.text);
            assert!(reply.json()["error"]["code"].is_string(), "{shown}");
            assert!(
                reply.text.len() < 2000,
                "{method} {shown}: the id is told whole"
            );
            assert!(!reply.text.contains("root:"), "{shown}");
        }
    }
    for model in [
        "../kind",
        "/etc/passwd",
        "kind\u{0}",
        "kind/../plain",
        &long,
        "\u{202e}kind",
    ] {
        let body = json!({"prompt": "x", "max_tokens": 1, "model": model});
        let reply = server.post("/v1/generate", &body).await;
        assert!(
            [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST].contains(&reply.status),
            "{}",
            reply.text
        );
        assert!(reply.text.len() < 2000, "the id is told whole");
    }
}
