//! `POST /v1/tokenize` and `/v1/detokenize`.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::client::Server;

async fn ask(route: &str, body: Value) -> Value {
    let reply = Server::shared().post(route, &body).await;
    assert_eq!(reply.status, StatusCode::OK, "{body}: {}", reply.text);
    assert!(reply.header("x-policy-version").contains('-'));
    reply.json()
}

#[tokio::test]
async fn text_goes_to_tokens_and_back() {
    let text = "Stay safe, naïve 日本 👋";
    let seen = ask("/v1/tokenize", json!({"prompt": text})).await;
    let ids = seen["tokens"].as_array().unwrap();
    assert_eq!(seen["count"], ids.len());
    assert_eq!(seen["token_strs"].as_array().unwrap().len(), ids.len());
    assert_eq!(
        (&seen["max_model_len"], &seen["steering"]),
        (&json!(128), &Value::Null)
    );
    let skipped = json!({"tokens": ids, "skip_special_tokens": true});
    assert_eq!(ask("/v1/detokenize", skipped).await["prompt"], text);
    let whole = ask("/v1/detokenize", json!({"tokens": ids})).await;
    assert_eq!(whole["prompt"], format!("<|begin_of_text|>{text}"));
    assert_eq!(
        ask("/v1/detokenize", json!({"tokens": []})).await["prompt"],
        ""
    );
}

#[tokio::test]
async fn weights_bring_the_conditioning() {
    let plain = ask("/v1/tokenize", json!({"prompt": "Hi"})).await;
    for body in [
        json!({"prompt": "Hi", "objective_weights": {"helpfulness": 0.7, "harmlessness": 0.3}}),
        json!({"prompt": "Hi", "model": "kind@helpfulness=0.7,harmlessness=0.3"}),
    ] {
        let told = ask("/v1/tokenize", body).await;
        assert_eq!(told["steering"]["encoded"]["helpfulness"], 0.7);
        let text = ask("/v1/detokenize", json!({"tokens": told["tokens"]})).await;
        let expected = "<|begin_of_text|><|end_of_text|>help 0.7 harm 0.3<|pad|>Hi";
        assert_eq!(text["prompt"], expected);
        assert!(told["count"].as_u64() > plain["count"].as_u64());
    }
}

#[tokio::test]
async fn a_chats_tokens_are_those_that_its_answer_costs() {
    let messages = json!([{"role": "user", "content": "Hello <|eot_id|> there"}]);
    let weights = json!([1, 1]);
    let asked = json!({"messages": messages, "objective_weights": weights});
    let seen = ask("/v1/tokenize", asked).await;
    let generated = Server::shared()
        .generate(json!({"messages": messages, "objective_weights": weights, "max_tokens": 1}))
        .await;
    assert_eq!(generated["usage"]["prompt_tokens"], seen["count"]);
    // what the caller wrote is no special token
    let ends = seen["token_strs"].as_array().unwrap();
    assert_eq!(ends.iter().filter(|text| *text == "<|eot_id|>").count(), 1);
}

#[tokio::test]
async fn what_cannot_be_tokenised_is_refused() {
    let check = async |route: &str, body: Value, param: &str| {
        let reply = Server::shared().post(route, &body).await;
        assert_eq!(
            reply.status,
            StatusCode::BAD_REQUEST,
            "{body}: {}",
            reply.text
        );
        assert_eq!(reply.json()["error"]["param"], param, "{}", reply.text);
    };
    check("/v1/tokenize", json!({}), "prompt").await;
    check(
        "/v1/tokenize",
        json!({"prompt": "a", "messages": []}),
        "prompt",
    )
    .await;
    check("/v1/tokenize", json!({"messages": []}), "messages").await;
    check("/v1/tokenize", json!({"prompt": "a", "mood": 1}), "mood").await;
    check("/v1/detokenize", json!({}), "tokens").await;
    check("/v1/detokenize", json!({"tokens": [1, 512]}), "tokens[1]").await;
    check("/v1/detokenize", json!({"tokens": ["a"]}), "tokens").await;
    let missing = json!({"tokens": [1], "model": "nope"});
    let reply = Server::shared().post("/v1/detokenize", &missing).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
}
