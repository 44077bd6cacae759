//! Bad requests: each a status, a code, the field at fault, and a sentence to act on; and the
//! server goes on serving.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use steersman::engine::EngineConfig;

use super::client::{Reply, Server, post};

fn check_error(reply: &Reply, status: u16, code: &str, param: Value, words: &str) {
    assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    let error = reply.json()["error"].clone();
    let keys: Vec<_> = error.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["message", "type", "param", "code"]);
    assert_eq!(error["code"], code, "{error}");
    assert_eq!(error["param"], param, "{error}");
    assert!(
        error["message"].as_str().unwrap().contains(words),
        "{words} is not in {error}"
    );
}

async fn check(body: &str, status: u16, code: &str, param: Value, words: &str) {
    let reply = Server::shared().ask(post("/v1/generate", body)).await;
    check_error(&reply, status, code, param, words);
}

#[tokio::test]
async fn values_out_of_range_are_named() {
    let check = async |field: &str, value: Value, words: &str| {
        let mut body = json!({"prompt": "x"});
        body[field] = value;
        let reply = Server::shared().post("/v1/generate", &body).await;
        assert_eq!(
            reply.status,
            StatusCode::BAD_REQUEST,
            "{body}: {}",
            reply.text
        );
        let error = reply.json()["error"].clone();
        assert!(
            error["param"].as_str().unwrap().starts_with(field),
            "{body}: {error}"
        );
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains(field) && message.contains(words),
            "{body}: {error}"
        );
    };
    check("temperature", json!(2.5), "between 0 and 2, got 2.5").await;
    check("temperature", json!(-0.1), "got -0.1").await;
    check("temperature", json!(1e39), "between 0 and 2").await;
    check("temperature", json!("hot"), "a number").await;
    check("top_p", json!(0), "above 0").await;
    check("top_p", json!(1.01), "at most 1").await;
    check("top_k", json!(-2), "got -2").await;
    check("top_k", json!(1.5), "whole number").await;
    check("min_p", json!(1.1), "between 0 and 1").await;
    check("max_tokens", json!(0), "at least 1").await;
    check("max_tokens", json!(-5), "0 or more").await;
    check("min_tokens", json!(999), "at most max_tokens").await;
    check("seed", json!(-1), "0 or more").await;
    check("seed", json!(1.5), "whole number").await;
    check("stop", json!([""]), "1 to 256 bytes").await;
    check("stop", json!("x".repeat(257)), "got 257").await;
    check("stop", json!(vec!["a"; 17]), "up to 16").await;
    check("stop", json!(7), "a string").await;
    check("stop_token_ids", json!([512]), "below 512").await;
    check("stop_token_ids", json!([-1]), "0 or more").await;
    check("top_logprobs", json!(3), "logprobs").await;
    check("stream", json!("yes"), "true or false").await;
    check("n", json!(0), "between 1 and 16, got 0").await;
    check("n", json!(17), "got 17").await;
    check("typical_p", json!(0), "above 0").await;
    check("presence_penalty", json!(2.1), "between -2 and 2").await;
    check("frequency_penalty", json!(-2.1), "got -2.1").await;
    check("repetition_penalty", json!(0), "above 0").await;
    check("repetition_penalty", json!(2.5), "at most 2").await;
    check("logit_bias", json!({"5": 101}), "between -100 and 100").await;
    check("logit_bias", json!({"512": 1}), "below 512").await;
    check("logit_bias", json!({"x": 1}), "token id").await;
    check("logit_bias", json!({"-1": 1}), "token id").await;
    check("logit_bias", json!({"5": "much"}), "a number").await;
    check("logit_bias", json!([5]), "a map").await;
    check("guidance", json!(-1), "between 0 and 10").await;
    check("guidance", json!(11), "got 11").await;
    check("echo", json!("yes"), "true or false").await;
    check("response_format", json!({"type": "xml"}), "json_schema").await;
    check("response_format", json!("json"), "response_format").await;
    check("regex", json!("("), "compiled").await;
    check("regex", json!(""), "nothing").await;
    check("stream_options", json!({"include_usage": true}), "`stream`").await;
    check("prompt", json!(7), "a string").await;
    check("prompt", json!(["a", "b"]), "a string").await;
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused() {
    let none = Value::Null;
    check("{", 400, "invalid_json", none.clone(), "line 1").await;
    check("", 400, "invalid_json", none.clone(), "EOF").await;
    check(
        "[]",
        400,
        "invalid_json",
        none.clone(),
        "object, got an array",
    )
    .await;
    check(
        r#"{"prompt":"x","temperature":NaN}"#,
        400,
        "invalid_json",
        none.clone(),
        "line",
    )
    .await;
    check(
        r#"{"prompt":"a","prompt":"b"}"#,
        400,
        "invalid_json",
        none.clone(),
        "`prompt`",
    )
    .await;
    check(
        r#"{"prompt":"x","temperature":1e400}"#,
        400,
        "invalid_json",
        none.clone(),
        "range",
    )
    .await;
    let nested = "[".repeat(10_000);
    check(&nested, 400, "invalid_json", none.clone(), "recursion").await;
    let huge = format!(r#"{{"prompt":"{}"}}"#, "x".repeat(3 << 20));
    check(&huge, 413, "body_too_large", none, "2097152 bytes").await;
    let server = Server::shared();
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let request = Request::post("/v1/generate").header("content-type", kind);
        let reply = server.ask(request.body(Body::from("{}")).unwrap()).await;
        check_error(
            &reply,
            415,
            "unsupported_media_type",
            json!("content-type"),
            kind,
        );
    }
}

#[tokio::test]
async fn fields_that_cannot_be_honoured_are_refused_by_name() {
    for (field, value, code) in [
        ("foo", json!(1), "unknown_parameter"),
        (
            "tools",
            json!([{"type": "function"}]),
            "unsupported_parameter",
        ),
        ("best_of", json!(2), "unsupported_parameter"),
        ("guided_json", json!({}), "unsupported_parameter"),
        (
            "include_stop_str_in_output",
            json!(true),
            "unsupported_parameter",
        ),
    ] {
        let body = json!({"prompt": "x", field: value}).to_string();
        check(&body, 400, code, json!(field), field).await;
    }
}

#[tokio::test]
async fn prompts_that_cannot_be_answered_are_refused() {
    let check = async |body: Value, code: &str, param: &str, words: &str| {
        check(&body.to_string(), 400, code, json!(param), words).await;
    };
    check(json!({"prompt": ""}), "invalid_value", "prompt", "empty").await;
    check(
        json!({"prompt": " \n"}),
        "invalid_value",
        "prompt",
        "some text",
    )
    .await;
    check(json!({}), "invalid_value", "prompt", "neither").await;
    check(
        json!({"prompt": "a", "messages": []}),
        "invalid_value",
        "prompt",
        "both",
    )
    .await;
    check(
        json!({"messages": []}),
        "invalid_value",
        "messages",
        "at least one",
    )
    .await;
    let turn =
        |role: &str, content: Value| json!({"messages": [{"role": role, "content": content}]});
    check(
        turn("user", json!("")),
        "invalid_value",
        "messages",
        "some text",
    )
    .await;
    check(
        turn("robot", json!("x")),
        "invalid_value",
        "messages[0].role",
        "robot",
    )
    .await;
    check(
        turn("user", json!(5)),
        "invalid_value",
        "messages[0].content",
        "a number",
    )
    .await;
    let image = json!([{"type": "image_url", "image_url": {}}]);
    check(
        turn("user", image),
        "invalid_value",
        "messages[0].content[0]",
        "image_url",
    )
    .await;
    let strange = json!({"messages": [{"role": "user", "content": "x", "mood": "good"}]});
    check(strange, "unknown_parameter", "messages[0].mood", "mood").await;
    let overflow = "This model's maximum context length is 128 tokens.";
    let long = json!({"prompt": "word ".repeat(400)});
    check(long, "context_length_exceeded", "messages", overflow).await;
    let greedy = json!({"prompt": "x", "max_tokens": 4000});
    check(greedy, "context_length_exceeded", "messages", overflow).await;
    let same = json!({"prompt": "x", "n": 2, "temperature": 0});
    check(same, "invalid_value", "n", "would be the same").await;
    let both = json!({"prompt": "x", "regex": "a", "response_format": {"type": "json_object"}});
    check(both, "invalid_value", "regex", "one grammar").await;
    let endless = json!({"prompt": "x", "regex": "a", "ignore_eos": true});
    check(endless, "invalid_value", "ignore_eos", "`regex`").await;
    let longer = json!({"prompt": "x", "regex": "a", "min_tokens": 3});
    check(longer, "invalid_value", "min_tokens", "complete").await;
    let echo = json!({"messages": [{"role": "user", "content": "x"}], "echo": true});
    check(echo, "invalid_value", "echo", "`prompt`").await;
    let told = json!({"prompt": "x", "echo": true, "logprobs": true});
    check(told, "unsupported_parameter", "echo", "log-probabilities").await;
    let unsteered = json!({"prompt": "x", "model": "plain", "guidance": 2});
    check(unsteered, "invalid_value", "guidance", "`plain` has none").await;
    let two = json!({"prompt": "x", "max_tokens": 5, "max_completion_tokens": 6});
    check(two, "invalid_value", "max_tokens", "must not differ").await;
}

#[tokio::test]
async fn models_that_do_not_exist_are_named_with_those_that_do() {
    let body = json!({"prompt": "x", "model": "gpt-9"}).to_string();
    check(&body, 404, "model_not_found", json!("model"), "`kind`").await;
    let body = json!({"prompt": "x", "model": "kind@cautious"}).to_string();
    check(
        &body,
        404,
        "profile_not_found",
        json!("model"),
        "`cautious`",
    )
    .await;
    let body = json!({"prompt": "x", "model": ""}).to_string();
    check(&body, 400, "invalid_value", json!("model"), "leave it out").await;
    let body = json!({"prompt": "x", "model": "plain", "objective_weights": [1, 0]}).to_string();
    check(
        &body,
        400,
        "unknown_objective",
        json!("objective_weights"),
        "no objectives",
    )
    .await;
}

#[tokio::test]
async fn a_refusal_comes_before_a_stream_begins() {
    let body = json!({"prompt": "x", "stream": true, "max_tokens": 4000});
    let reply = Server::shared().post("/v1/generate", &body).await;
    check_error(
        &reply,
        400,
        "context_length_exceeded",
        json!("messages"),
        "128 tokens",
    );
    assert_eq!(reply.header("content-type"), "application/json");
}

#[tokio::test]
async fn a_prompt_whose_bytes_tell_that_it_is_too_long_is_not_encoded() {
    let words = "tokens of prompt at the least, and at least 1 of completion";
    let vast = "word ".repeat(100_000);
    for prompt in [
        json!({"prompt": vast}),
        json!({"messages": [{"role": "user", "content": vast}]}),
    ] {
        let reply = Server::shared().post("/v1/generate", &prompt).await;
        let param = json!("messages");
        check_error(&reply, 400, "context_length_exceeded", param, words);
    }
}

#[tokio::test]
async fn a_full_engine_refuses_before_a_prompt_is_encoded() {
    let server = Server::start(EngineConfig {
        max_sequences: 1,
        queue_capacity: 0,
        ..EngineConfig::default()
    });
    let body = json!({"prompt": "x", "stream": true, "max_tokens": 80, "ignore_eos": true});
    // pauses before its end, as nobody reads it, and keeps its place
    let held = server.send(post("/v1/generate", &body.to_string())).await;
    assert_eq!(held.status(), StatusCode::OK);
    let long = json!({"prompt": "word ".repeat(400), "grid": 3});
    for (route, field) in [("/v1/generate", "grid"), ("/v1/sweep", "none")] {
        let mut asked = long.clone();
        asked.as_object_mut().unwrap().remove(field);
        let reply = server.post(route, &asked).await;
        assert_eq!(
            reply.json()["error"]["code"],
            "queue_full",
            "{}",
            reply.text
        );
    }
    drop(held);
}

#[tokio::test]
async fn the_server_goes_on_serving() {
    let server = Server::shared();
    for body in ["{", "{\"prompt\":\"\"}", "{\"prompt\":\"x\",\"seed\":-1}"] {
        assert!(
            server
                .ask(post("/v1/generate", body))
                .await
                .status
                .is_client_error()
        );
    }
    assert_eq!(server.get("/readyz").await.status, StatusCode::OK);
    server
        .generate(json!({"prompt": "Hello", "max_tokens": 3}))
        .await;
}
