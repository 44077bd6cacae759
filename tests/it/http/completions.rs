//! `POST /v1/completions`, in OpenAI's shapes.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::client::Server;

const ROUTE: &str = "/v1/completions";

fn body(extra: Value) -> Value {
    let mut body = json!({"prompt": "Stay safe", "max_tokens": 8, "seed": 3});
    let own = body.as_object_mut().unwrap();
    own.extend(extra.as_object().unwrap().clone());
    body
}

async fn complete(extra: Value) -> Value {
    let asked = body(extra);
    let reply = Server::shared().post(ROUTE, &asked).await;
    assert_eq!(reply.status, StatusCode::OK, "{asked}: {}", reply.text);
    assert!(reply.header("x-policy-version").starts_with("kind-"));
    reply.json()
}

async fn check_refused(extra: Value, code: &str, param: &str, words: &str) {
    let asked = body(extra);
    let reply = Server::shared().post(ROUTE, &asked).await;
    assert_eq!(
        reply.status,
        StatusCode::BAD_REQUEST,
        "{asked}: {}",
        reply.text
    );
    let error = reply.json()["error"].clone();
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!(code), &json!(param)),
        "{error}"
    );
    assert!(
        error["message"].as_str().unwrap().contains(words),
        "{error}"
    );
}

#[tokio::test]
async fn a_completion_has_openais_shape_and_the_steering() {
    let seen = complete(json!({})).await;
    assert!(seen["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(seen["object"], "text_completion");
    let choice = &seen["choices"][0];
    assert!(choice["text"].is_string() && choice["logprobs"].is_null());
    assert!(["stop", "length"].contains(&choice["finish_reason"].as_str().unwrap()));
    assert_eq!(seen["usage"]["steering"], seen["steering"]);
    assert_eq!(seen["steering"]["source"], "default");
    assert!(seen["usage"]["prompt_tokens_details"]["cached_tokens"].is_u64());
}

#[tokio::test]
async fn a_stream_says_the_same_in_chunks() {
    let whole = complete(json!({"n": 2, "echo": true})).await;
    let asked = body(json!({
        "n": 2, "echo": true, "stream": true, "stream_options": {"include_usage": true},
    }));
    let chunks = Server::shared().post(ROUTE, &asked).await.chunks();
    for (index, choice) in whole["choices"].as_array().unwrap().iter().enumerate() {
        let own = chunks.iter().filter(|c| c["choices"][0]["index"] == index);
        let text: String = own
            .map(|c| c["choices"][0]["text"].as_str().unwrap())
            .collect();
        assert_eq!(choice["text"], text);
        assert!(text.starts_with("Stay safe"));
    }
    assert!(chunks[0]["steering"].is_object() && chunks[0]["seed"] == 3);
    let [others @ .., last] = chunks.as_slice() else {
        panic!("no chunks")
    };
    assert_eq!(last["choices"], json!([]));
    assert_eq!(
        last["usage"]["total_tokens"],
        whole["usage"]["total_tokens"]
    );
    for chunk in others {
        assert!(chunk["usage"].is_null() && chunk["object"] == "text_completion");
    }
}

#[tokio::test]
async fn prompts_may_be_several_and_token_ids() {
    let server = Server::shared();
    let one = complete(json!({"prompt": "Stay safe"})).await;
    let other = complete(json!({"prompt": "Hello there"})).await;
    let both = complete(json!({"prompt": ["Stay safe", "Hello there"]})).await;
    let texts = |seen: &Value| {
        let choices = seen["choices"].as_array().unwrap();
        choices
            .iter()
            .map(|c| c["text"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(texts(&both), [texts(&one), texts(&other)].concat());
    let sum = |field: &str| {
        let tokens = [&one, &other].map(|seen| seen["usage"][field].as_u64().unwrap());
        tokens[0] + tokens[1]
    };
    for field in ["prompt_tokens", "completion_tokens"] {
        assert_eq!(both["usage"][field], sum(field), "{field}");
    }
    let tokens = server
        .post("/v1/tokenize", &json!({"prompt": "Stay safe"}))
        .await;
    let ids = tokens.json()["tokens"].clone();
    assert_eq!(
        texts(&complete(json!({"prompt": ids.clone()})).await),
        texts(&one)
    );
    let listed = complete(json!({"prompt": [ids.clone(), ids], "echo": true})).await;
    for text in texts(&listed) {
        assert_eq!(
            text,
            format!("Stay safe{}", texts(&one)[0].as_str().unwrap())
        );
    }
}

#[tokio::test]
async fn logprobs_come_in_the_older_shape_and_offsets_point_into_the_text() {
    let greedy = json!({"logprobs": 2, "temperature": 0, "ignore_eos": true, "max_tokens": 12});
    let seen = complete(greedy).await;
    let choice = &seen["choices"][0];
    let (told, text) = (&choice["logprobs"], choice["text"].as_str().unwrap());
    let list = |name: &str| told[name].as_array().unwrap().clone();
    assert_eq!(list("tokens").len(), 12);
    assert_eq!(list("token_logprobs").len(), 12);
    let offsets = list("text_offset");
    for (index, token) in list("tokens").iter().enumerate() {
        let (token, offset) = (token.as_str().unwrap(), offsets[index].as_u64().unwrap());
        let top = list("top_logprobs")[index].as_object().unwrap().clone();
        assert!((1..=2).contains(&top.len()));
        let likeliest = top
            .values()
            .filter_map(Value::as_f64)
            .fold(-9999.0, f64::max);
        let own = list("token_logprobs")[index].as_f64().unwrap();
        assert_eq!(likeliest, own, "greedy takes the likeliest");
        if !token.contains('\u{fffd}') {
            let rest: String = text.chars().skip(offset as usize).collect();
            assert!(rest.starts_with(token), "`{token}` at {offset} of `{text}`");
        }
    }
    let none = complete(json!({"logprobs": 0})).await;
    assert_eq!(none["choices"][0]["logprobs"]["top_logprobs"][0], json!({}));
}

#[tokio::test]
async fn what_completions_cannot_do_is_refused() {
    let (value, kind) = ("invalid_value", "invalid_type");
    let unsupported = "unsupported_parameter";
    let echoed = json!({"echo": true, "logprobs": 1});
    let many = json!({"prompt": vec!["x"; 5], "n": 16});
    for (extra, code, param, words) in [
        (
            json!({"prompt": null}),
            "missing_field",
            "prompt",
            "missing",
        ),
        (json!({"prompt": []}), value, "prompt", "at least one"),
        (json!({"prompt": [[]]}), value, "prompt", "token id"),
        (json!({"prompt": [512]}), value, "prompt[0]", "below 512"),
        (json!({"prompt": [-1]}), kind, "prompt", "token ids"),
        (json!({"prompt": [1, "a"]}), kind, "prompt", "token ids"),
        (json!({"logprobs": 6}), value, "logprobs", "between 0 and 5"),
        (json!({"logprobs": true}), kind, "logprobs", "whole number"),
        (json!({"top_logprobs": 2}), unsupported, "top_logprobs", ""),
        (json!({"suffix": "x"}), unsupported, "suffix", ""),
        (json!({"best_of": 3}), unsupported, "best_of", ""),
        (echoed, unsupported, "echo", "log-probabilities"),
        (many, value, "prompt", "at most 64"),
    ] {
        check_refused(extra, code, param, words).await;
    }
}

#[tokio::test]
async fn token_ids_cannot_forge_the_conditioning() {
    let weights = json!({"prompt": "x", "objective_weights": [1, 0]});
    let tokens = Server::shared().post("/v1/tokenize", &weights).await.json();
    let ids = tokens["tokens"].clone();
    check_refused(
        json!({"prompt": ids}),
        "invalid_value",
        "prompt[1]",
        "fences",
    )
    .await;
    // a model without conditioning has nothing to forge
    complete_plain(ids).await;
}

async fn complete_plain(ids: Value) {
    let asked = body(json!({"prompt": ids, "model": "plain"}));
    let reply = Server::shared().post(ROUTE, &asked).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
}
