//! Several answers to one prompt, and the fields that shape them.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::client::Server;

fn body(extra: Value) -> Value {
    let mut body = json!({"prompt": "How do I stay safe?", "max_tokens": 16, "seed": 7});
    let own = body.as_object_mut().unwrap();
    own.extend(extra.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn each_choice_can_be_had_alone_with_its_seed() {
    let server = Server::shared();
    let whole = server.generate(body(json!({"n": 4}))).await;
    let choices = whole["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 4);
    assert_eq!(
        (&choices[0]["seed"], &whole["seed"]),
        (&json!(7), &json!(7))
    );
    assert_eq!(choices[0]["text"], whole["text"]);
    let mut texts = std::collections::BTreeSet::new();
    let mut tokens = 0;
    for (index, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], index);
        let alone = server.generate(body(json!({"seed": choice["seed"]}))).await;
        assert_eq!(alone["text"], choice["text"], "choice {index}");
        assert_eq!(alone["finish_reason"], choice["finish_reason"]);
        assert!(alone.get("choices").is_none());
        tokens += alone["usage"]["completion_tokens"].as_u64().unwrap();
        texts.insert(choice["text"].as_str().unwrap().to_owned());
    }
    assert!(texts.len() > 1, "{texts:?}");
    // the prompt counts once
    let alone = server.generate(body(json!({}))).await;
    assert_eq!(
        whole["usage"]["prompt_tokens"],
        alone["usage"]["prompt_tokens"]
    );
    assert_eq!(whole["usage"]["completion_tokens"], tokens);
}

#[tokio::test]
async fn streamed_choices_are_the_same_side_by_side() {
    let server = Server::shared();
    let whole = server.generate(body(json!({"n": 3, "echo": true}))).await;
    let asked = body(json!({"n": 3, "echo": true, "stream": true}));
    let chunks = server.post("/v1/generate", &asked).await.chunks();
    for (index, choice) in whole["choices"].as_array().unwrap().iter().enumerate() {
        let own = || chunks.iter().filter(|chunk| chunk["index"] == index);
        let text: String = own().map(|c| c["text"].as_str().unwrap()).collect();
        assert_eq!(choice["text"], text, "choice {index}");
        assert!(text.starts_with("How do I stay safe?"));
        let ends = own().filter(|chunk| !chunk["finish_reason"].is_null());
        assert_eq!(ends.count(), 1);
    }
    let told: Vec<_> = chunks.iter().filter(|c| c.get("usage").is_some()).collect();
    assert_eq!(told.len(), 1);
    assert_eq!(
        told[0]["usage"]["completion_tokens"],
        whole["usage"]["completion_tokens"]
    );
    assert_eq!(chunks.last().unwrap()["usage"], told[0]["usage"]);
}

#[tokio::test]
async fn chats_take_several_choices_too() {
    let server = Server::shared();
    let mut asked = json!({
        "messages": [{"role": "user", "content": "Hello"}], "n": 2, "seed": 5, "max_tokens": 8,
    });
    let route = "/v1/chat/completions";
    let whole = server.post(route, &asked).await.json();
    let choices = whole["choices"].as_array().unwrap();
    assert_eq!((choices.len(), &choices[1]["index"]), (2, &json!(1)));
    assert_ne!(choices[0]["seed"], choices[1]["seed"]);
    asked["stream"] = json!(true);
    asked["stream_options"] = json!({"include_usage": true});
    let chunks = server.post(route, &asked).await.chunks();
    for (index, choice) in choices.iter().enumerate() {
        let own = chunks.iter().filter(|c| c["choices"][0]["index"] == index);
        let deltas: Vec<_> = own.map(|c| &c["choices"][0]["delta"]).collect();
        assert_eq!(deltas[0]["role"], "assistant");
        let text: String = deltas
            .iter()
            .filter_map(|d| d["content"].as_str())
            .collect();
        assert_eq!(choice["message"]["content"], text);
    }
    let last = chunks.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(
        last["usage"]["total_tokens"],
        whole["usage"]["total_tokens"]
    );
}

#[tokio::test]
async fn a_bias_forbids_or_forces_a_token() {
    let server = Server::shared();
    let greedy = json!({
        "temperature": 0, "return_token_ids": true, "ignore_eos": true, "max_tokens": 6,
    });
    let mut asked = body(greedy);
    let plain = server.generate(asked.clone()).await;
    let first = plain["token_ids"][0].as_u64().unwrap();
    asked["logit_bias"] = json!({first.to_string(): -100});
    let forbidden = server.generate(asked.clone()).await;
    let ids = forbidden["token_ids"].as_array().unwrap();
    assert!(ids.iter().all(|id| *id != first), "{ids:?}");
    asked["logit_bias"] = json!({"77": 100});
    let forced = server.generate(asked).await;
    assert_eq!(forced["token_ids"], json!([77, 77, 77, 77, 77, 77]));
}

#[tokio::test]
async fn penalties_keep_a_forced_token_from_coming_again() {
    let server = Server::shared();
    let check = async |penalty: Value| {
        let mut asked = body(json!({
            "temperature": 0, "return_token_ids": true, "ignore_eos": true, "max_tokens": 24,
        }));
        let plain = server.generate(asked.clone()).await;
        asked
            .as_object_mut()
            .unwrap()
            .extend(penalty.as_object().unwrap().clone());
        let held = server.generate(asked).await;
        let distinct = |reply: &Value| {
            let ids = reply["token_ids"].as_array().unwrap();
            ids.iter()
                .map(Value::to_string)
                .collect::<std::collections::BTreeSet<_>>()
                .len()
        };
        assert_ne!(plain["token_ids"], held["token_ids"], "{penalty}");
        assert!(distinct(&held) >= distinct(&plain), "{penalty}");
    };
    check(json!({"presence_penalty": 2})).await;
    check(json!({"frequency_penalty": 2})).await;
    check(json!({"repetition_penalty": 2})).await;
}

#[tokio::test]
async fn guidance_of_one_changes_nothing_and_more_does() {
    let server = Server::shared();
    let ask = async |guidance: Value, weights: Value| {
        let asked = body(json!({
            "temperature": 0, "objective_weights": weights, "guidance": guidance,
            "return_token_ids": true, "ignore_eos": true, "max_tokens": 24,
        }));
        server.generate(asked).await["token_ids"].clone()
    };
    let plain = ask(Value::Null, json!([1, 0])).await;
    assert_eq!(ask(json!(1), json!([1, 0])).await, plain);
    assert_ne!(ask(json!(8), json!([1, 0])).await, plain);
    // guided by nothing but equal weights, the policy answers as under equal weights
    let equal = ask(Value::Null, json!([1, 1])).await;
    assert_eq!(ask(json!(0), json!([1, 0])).await, equal);
    assert_eq!(ask(json!(8), json!([1, 1])).await, equal);
}

#[tokio::test]
async fn a_request_that_can_never_be_placed_is_told_so() {
    let server = Server::start(steersman::engine::EngineConfig {
        max_sequences: 2,
        queue_capacity: 1,
        ..Default::default()
    });
    let refused = server.post("/v1/generate", &body(json!({"n": 4}))).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    assert_eq!(refused.json()["error"]["param"], "n");
    server.generate(body(json!({"n": 3}))).await;
}
