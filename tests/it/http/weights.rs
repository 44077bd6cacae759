//! Where weights come in, which win, and what the reply says of them.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::client::{Server, post};

/// Asks with weights from body, header and suffix; checks the source and weights that were used.
async fn check(
    body: Value,
    header: Option<&str>,
    suffix: &str,
    expected: Result<(&str, [f64; 2]), &str>,
) {
    let mut request = json!({"prompt": "Hello there", "max_tokens": 2});
    if !body.is_null() {
        request["objective_weights"] = body;
    }
    if !suffix.is_empty() {
        request["model"] = json!(format!("kind@{suffix}"));
    }
    let mut sent = post("/v1/generate", &request.to_string());
    if let Some(header) = header {
        sent.headers_mut()
            .insert("x-objective-weights", header.parse().unwrap());
    }
    let reply = Server::shared().ask(sent).await;
    let seen = reply.json();
    match expected {
        Ok((source, weights)) => {
            assert_eq!(reply.status, StatusCode::OK, "{request}: {}", reply.text);
            let steering = &seen["steering"];
            assert_eq!(steering["source"], source);
            for (name, weight) in ["helpfulness", "harmlessness"].iter().zip(weights) {
                let used = steering["weights"][name].as_f64().unwrap();
                assert!(
                    (used - weight).abs() < 1e-6,
                    "{name}: {used}, expected {weight}"
                );
            }
            assert_eq!(steering["policy_version"], reply.header("x-policy-version"));
            assert!(
                reply
                    .header("x-steering-weights")
                    .starts_with("helpfulness=")
            );
        }
        Err(code) => {
            assert_eq!(
                reply.status,
                StatusCode::BAD_REQUEST,
                "{request}: {}",
                reply.text
            );
            assert_eq!(seen["error"]["code"], code, "{}", reply.text);
            assert_eq!(seen["error"]["type"], "invalid_request_error");
        }
    }
}

#[tokio::test]
async fn the_strongest_source_is_used_and_named() {
    check(Value::Null, None, "", Ok(("default", [0.75, 0.25]))).await;
    check(
        json!({"helpfulness": 0.7, "harmlessness": 0.3}),
        None,
        "",
        Ok(("body", [0.7, 0.3])),
    )
    .await;
    check(json!([7, 3]), None, "", Ok(("body", [0.7, 0.3]))).await;
    check(
        json!({"harmlessness": 2}),
        None,
        "",
        Ok(("body", [0.0, 1.0])),
    )
    .await;
    check(
        Value::Null,
        Some("helpfulness=1,harmlessness=3"),
        "",
        Ok(("header", [0.25, 0.75])),
    )
    .await;
    check(
        Value::Null,
        None,
        "helpfulness=0.2,harmlessness=0.8",
        Ok(("model", [0.2, 0.8])),
    )
    .await;
}

#[tokio::test]
async fn sources_that_agree_are_fine_and_others_conflict() {
    check(
        json!([7, 3]),
        Some("helpfulness=0.7,harmlessness=0.3"),
        "",
        Ok(("body", [0.7, 0.3])),
    )
    .await;
    check(
        json!([7, 3]),
        Some("helpfulness=0.6,harmlessness=0.4"),
        "",
        Err("objective_conflict"),
    )
    .await;
    check(
        json!([7, 3]),
        None,
        "helpfulness=1",
        Err("objective_conflict"),
    )
    .await;
    check(
        Value::Null,
        Some("helpfulness=1"),
        "harmlessness=1",
        Err("objective_conflict"),
    )
    .await;
}

#[tokio::test]
async fn weights_that_cannot_be_used_are_refused() {
    let out_of_range = Err("objective_weight_out_of_range");
    check(json!({"kindness": 1}), None, "", Err("unknown_objective")).await;
    check(json!({"helpfulness": 1e39}), None, "", out_of_range).await;
    check(json!({"helpfulness": -0.5}), None, "", out_of_range).await;
    check(json!({"harmlessness": 10.5}), None, "", out_of_range).await;
    check(Value::Null, Some("helpfulness=NaN"), "", out_of_range).await;
    check(Value::Null, Some("helpfulness=inf"), "", out_of_range).await;
    check(json!([0, 0]), None, "", Err("invalid_value")).await;
    check(json!({}), None, "", Err("invalid_value")).await;
    check(json!([1]), None, "", Err("invalid_value")).await;
    check(json!([1, 1, 1]), None, "", Err("invalid_value")).await;
    check(json!("helpfulness=1"), None, "", Err("invalid_type")).await;
    check(json!({"helpfulness": "1"}), None, "", Err("invalid_type")).await;
    check(json!([1, null]), None, "", Err("invalid_type")).await;
    check(Value::Null, Some("0.7,0.3"), "", Err("invalid_value")).await;
    check(
        Value::Null,
        Some("helpfulness=1,helpfulness=2"),
        "",
        Err("invalid_value"),
    )
    .await;
    check(Value::Null, None, "helpfulness=", Err("invalid_value")).await;
}

#[tokio::test]
async fn refusals_name_the_objective_the_value_and_what_was_expected() {
    let check = async |weights: Value, param: &str, words: &[&str]| {
        let body = json!({"prompt": "x", "objective_weights": weights});
        let error = Server::shared().post("/v1/generate", &body).await.json()["error"].clone();
        let message = error["message"].as_str().unwrap();
        assert_eq!(error["param"], param, "{error}");
        for word in words {
            assert!(message.contains(word), "`{word}` is not in: {message}");
        }
    };
    let both = "helpfulness, harmlessness";
    check(
        json!({"kindness": 1}),
        "objective_weights.kindness",
        &["`kindness`", both],
    )
    .await;
    let helpfulness = "objective_weights.helpfulness";
    check(
        json!({"helpfulness": -0.5}),
        helpfulness,
        &["is -0.5", "expected"],
    )
    .await;
    check(
        json!({"helpfulness": 1e39}),
        helpfulness,
        &["is 1e39", "expected"],
    )
    .await;
    check(json!([0, 0]), "objective_weights", &["all zero", both]).await;
    check(json!([1]), "objective_weights", &["1 objectives", both]).await;
}

#[tokio::test]
async fn what_the_policy_was_told_is_rounded_and_said() {
    let request = json!({"prompt": "Hi", "max_tokens": 1, "objective_weights": [0.66, 0.34]});
    let steering = Server::shared().generate(request).await["steering"].clone();
    assert_eq!(
        steering["weights"],
        json!({"helpfulness": 0.66, "harmlessness": 0.34})
    );
    assert_eq!(
        steering["encoded"],
        json!({"helpfulness": 0.7, "harmlessness": 0.3})
    );
}
