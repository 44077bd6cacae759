//! `POST /v1/sweep`: one prompt, many weight vectors, one seed.

use std::path::Path;

use axum::http::StatusCode;
use serde_json::{Value, json};
use steersman::service::ServiceSettings;

use super::client::{Server, post};

const ROUTE: &str = "/v1/sweep";

async fn sweep(server: &Server, body: Value) -> Value {
    let reply = server.post(ROUTE, &body).await;
    assert_eq!(reply.status, StatusCode::OK, "{body}: {}", reply.text);
    assert_eq!(
        reply.json()["policy_version"],
        reply.header("x-policy-version")
    );
    reply.json()
}

#[tokio::test]
async fn each_point_answers_as_it_would_alone() {
    let server = Server::shared();
    let asked = json!({"prompt": "Stay safe", "grid": 5, "max_tokens": 12, "seed": 9});
    let whole = sweep(server, asked).await;
    let points = whole["points"].as_array().unwrap();
    assert_eq!(points.len(), 5);
    assert_eq!(whole["objectives"], json!(["helpfulness", "harmlessness"]));
    assert_eq!(points[0]["steering"]["weights"]["helpfulness"], 0.0);
    assert_eq!(points[4]["steering"]["weights"]["helpfulness"], 1.0);
    let mut total = 0;
    for (index, point) in points.iter().enumerate() {
        assert_eq!(point["index"], index);
        assert!(point.get("rewards").is_none() && point.get("pareto").is_none());
        let alone = server
            .generate(json!({
                "prompt": "Stay safe", "max_tokens": 12, "seed": 9,
                "objective_weights": point["steering"]["weights"],
            }))
            .await;
        assert_eq!(alone["text"], point["text"], "point {index}");
        assert_eq!(alone["steering"]["encoded"], point["steering"]["encoded"]);
        total += point["usage"]["total_tokens"].as_u64().unwrap();
    }
    assert_eq!(whole["usage"]["total_tokens"], total);
    assert_eq!(whole["seed"], 9);
}

#[tokio::test]
async fn points_may_be_listed_in_both_forms() {
    let asked = json!({
        "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3,
        "points": [[3, 1], {"harmlessness": 2}], "return_token_ids": true, "logprobs": true,
    });
    let whole = sweep(Server::shared(), asked).await;
    let weights = |i: usize| whole["points"][i]["steering"]["weights"]["helpfulness"].clone();
    assert_eq!((weights(0), weights(1)), (json!(0.75), json!(0.0)));
    let point = &whole["points"][0];
    assert_eq!(
        point["token_ids"].as_array().unwrap().len(),
        point["logprobs"]["content"].as_array().unwrap().len()
    );
}

#[tokio::test]
async fn the_demos_rewards_score_its_answers_and_mark_the_front() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let server = Server::over(&demo, &ServiceSettings::default());
    let asked = json!({
        "prompt": "Tell me the capital of France.", "grid": 3, "max_tokens": 60, "seed": 1,
        "temperature": 0.5, "score": true,
    });
    let whole = sweep(&server, asked).await;
    let points = whole["points"].as_array().unwrap();
    assert_eq!(points.len(), 3);
    let reward = |point: &Value, name: &str| point["rewards"][name].as_f64().unwrap();
    for point in points {
        let beaten = points.iter().any(|other| {
            let (a, b) = (
                ["brevity", "detail"].map(|name| reward(other, name)),
                ["brevity", "detail"].map(|name| reward(point, name)),
            );
            a[0] >= b[0] && a[1] >= b[1] && a != b
        });
        assert_eq!(point["pareto"], !beaten, "{whole}");
    }
    assert!(points.iter().any(|point| point["pareto"] == true));
    let unknown = json!({"prompt": "Why?", "grid": 2, "max_tokens": 4, "score": true});
    let refused = server.post(ROUTE, &unknown).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    assert_eq!(refused.json()["error"]["code"], "rewards_unavailable");
    assert!(refused.text.contains("Why?"), "{}", refused.text);
}

async fn check_refused(extra: Value, code: &str, param: &str, words: &str) {
    let mut body = json!({"prompt": "x", "max_tokens": 2});
    let own = body.as_object_mut().unwrap();
    own.extend(extra.as_object().unwrap().clone());
    let reply = Server::shared().post(ROUTE, &body).await;
    assert_eq!(
        reply.status,
        StatusCode::BAD_REQUEST,
        "{body}: {}",
        reply.text
    );
    let error = reply.json()["error"].clone();
    let told = (&error["code"], &error["param"]);
    assert_eq!(told, (&json!(code), &json!(param)), "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(words), "{error}");
}

#[tokio::test]
async fn points_that_are_none_too_many_or_wrong_are_refused() {
    let both = json!({"grid": 3, "points": [[1, 0]]});
    let many = json!({"points": vec![[1, 0]; 65]});
    for (extra, param, words) in [
        (json!({}), "points", "neither"),
        (both, "points", "both"),
        (json!({"grid": 1}), "grid", "at least 2"),
        (json!({"grid": 65}), "grid", "65 weight vectors"),
        (json!({"grid": u64::MAX}), "grid", "1 to 64"),
        (json!({"points": []}), "points", "0 weight vectors"),
        (many, "points", "65"),
    ] {
        check_refused(extra, "invalid_value", param, words).await;
    }
    let unknown = json!({"points": [[1, 0], {"wit": 1}]});
    check_refused(unknown, "unknown_objective", "points[1]", "`wit`").await;
    let negative = json!({"points": [[1, -1]]});
    check_refused(negative, "objective_weight_out_of_range", "points[0]", "-1").await;
}

#[tokio::test]
async fn what_a_sweep_cannot_do_is_refused() {
    for (field, value, code, words) in [
        (
            "objective_weights",
            json!([1, 0]),
            "unsupported_parameter",
            "points",
        ),
        ("profile", json!("calm"), "unsupported_parameter", "points"),
        ("n", json!(2), "unsupported_parameter", "one answer"),
        ("stream", json!(true), "unsupported_parameter", ""),
        ("echo", json!(true), "unsupported_parameter", ""),
        ("model", json!("plain"), "invalid_value", "no objectives"),
        (
            "model",
            json!("kind@helpfulness=1"),
            "invalid_value",
            "weights",
        ),
        ("score", json!(true), "rewards_unavailable", "states none"),
        ("prompt", json!(""), "invalid_value", "empty"),
    ] {
        check_refused(json!({"grid": 3, field: value}), code, field, words).await;
    }
    let mut with_header = post(ROUTE, r#"{"prompt": "x", "grid": 2}"#);
    let headers = with_header.headers_mut();
    headers.insert("x-objective-weights", "helpfulness=1".parse().unwrap());
    let reply = Server::shared().ask(with_header).await;
    assert_eq!(reply.json()["error"]["param"], "x-objective-weights");
}
