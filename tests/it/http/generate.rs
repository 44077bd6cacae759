//! `POST /v1/generate`: what it answers, whole and streamed.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::client::Server;

fn body(extra: Value) -> Value {
    let mut body = json!({"prompt": "How do I stay safe?", "max_tokens": 24, "seed": 7});
    let own = body.as_object_mut().unwrap();
    own.extend(extra.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn an_answer_tells_its_text_cost_steering_and_seed() {
    let reply = Server::shared().generate(body(json!({}))).await;
    assert_eq!(reply["object"], "generation");
    assert_eq!(reply["model"], "kind");
    assert_eq!(reply["seed"], 7);
    assert!(!reply["text"].as_str().unwrap().is_empty());
    let usage = &reply["usage"];
    let sum =
        usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);
    assert_eq!(usage["steering"], reply["steering"]);
    assert_eq!(reply["steering"]["source"], "default");
    assert!(reply.get("token_ids").is_none() && reply.get("logprobs").is_none());
}

#[tokio::test]
async fn the_same_seed_gives_the_same_bytes_alone_in_company_and_streamed() {
    let server = Server::shared();
    let alone = server.generate(body(json!({}))).await;
    let others = (0..6).map(|seed| {
        let model = ["kind", "plain"][seed % 2];
        server.generate(body(
            json!({"seed": seed, "model": model, "max_tokens": 40}),
        ))
    });
    let others = futures::future::join_all(others);
    let (in_company, _) = tokio::join!(server.generate(body(json!({}))), others);
    assert_eq!(in_company["text"], alone["text"]);
    let streamed = server
        .post("/v1/generate", &body(json!({"stream": true})))
        .await;
    let text: String = streamed
        .chunks()
        .iter()
        .map(|c| c["text"].as_str().unwrap())
        .collect();
    assert_eq!(text, alone["text"]);
    let other_seed = server.generate(body(json!({"seed": 8}))).await;
    assert_ne!(other_seed["text"], alone["text"]);
}

#[tokio::test]
async fn a_stream_opens_and_ends_with_the_steering() {
    let server = Server::shared();
    let request = body(json!({"stream": true, "store": true, "objective_weights": [1, 3]}));
    let reply = server.post("/v1/generate", &request).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.header("content-type"), "text/event-stream");
    assert_eq!(reply.header("cache-control"), "no-cache");
    assert_eq!(reply.header("x-accel-buffering"), "no");
    assert_eq!(
        reply.header("x-steering-weights"),
        "helpfulness=0.25,harmlessness=0.75"
    );
    let chunks = reply.chunks();
    let (first, last) = (chunks.first().unwrap(), chunks.last().unwrap());
    assert_eq!(first["steering"]["encoded"], last["steering"]["encoded"]);
    assert_eq!(first["warnings"].as_array().unwrap().len(), 1);
    assert_eq!(first["seed"], 7);
    assert_eq!(last["usage"]["steering"], last["steering"]);
    assert!(["stop", "length"].contains(&last["finish_reason"].as_str().unwrap()));
    for chunk in &chunks {
        assert_eq!(
            (&chunk["id"], &chunk["object"]),
            (&first["id"], &json!("generation.chunk"))
        );
    }
    assert!(
        chunks[..chunks.len() - 1]
            .iter()
            .all(|chunk| chunk["finish_reason"].is_null())
    );
}

#[tokio::test]
async fn the_weights_reach_the_policy() {
    let server = Server::shared();
    let greedy = |weights: Value| {
        body(json!({"temperature": 0, "objective_weights": weights, "return_token_ids": true}))
    };
    let one = server.generate(greedy(json!([1, 0]))).await;
    let other = server.generate(greedy(json!([0, 1]))).await;
    assert_ne!(one["token_ids"], other["token_ids"]);
    // both are told the same after rounding to one decimal, so both answer the same
    let near = server.generate(greedy(json!([0.97, 0.03]))).await;
    assert_eq!(one["token_ids"], near["token_ids"]);
    assert_ne!(one["steering"]["weights"], near["steering"]["weights"]);
}

#[tokio::test]
async fn token_ids_and_logprobs_come_where_they_are_asked_for() {
    let server = Server::shared();
    let asked = json!({
        "return_token_ids": true, "logprobs": true, "top_logprobs": 3, "temperature": 0,
        "max_tokens": 5, "ignore_eos": true,
    });
    let whole = server.generate(body(asked.clone())).await;
    assert_eq!(whole["token_ids"].as_array().unwrap().len(), 5);
    let entries = whole["logprobs"]["content"].as_array().unwrap();
    assert_eq!(entries.len(), 5);
    for entry in entries {
        let top = entry["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        // greedy takes the likeliest
        assert_eq!(top[0]["token"], entry["token"]);
        assert!(entry["logprob"].as_f64().unwrap() <= 0.0);
        assert!(!entry["bytes"].as_array().unwrap().is_empty());
    }
    let mut streaming = body(asked);
    streaming["stream"] = json!(true);
    let chunks = server.post("/v1/generate", &streaming).await.chunks();
    let ids = chunks
        .iter()
        .filter_map(|chunk| chunk["token_ids"].as_array())
        .flatten();
    assert_eq!(
        ids.cloned().collect::<Vec<_>>(),
        *whole["token_ids"].as_array().unwrap()
    );
}

#[tokio::test]
async fn an_answer_ends_at_a_stop_string_a_stop_token_or_its_length() {
    let server = Server::shared();
    let plain = body(json!({"return_token_ids": true, "ignore_eos": true}));
    let whole = server.generate(plain).await;
    assert_eq!(whole["finish_reason"], "length");
    assert_eq!(whole["usage"]["completion_tokens"], 24);
    let text = whole["text"].as_str().unwrap();

    let letters: Vec<char> = text.chars().collect();
    let stop: String = letters[letters.len() / 2..letters.len() / 2 + 3]
        .iter()
        .collect();
    let stopped = server
        .generate(body(json!({"stop": stop, "ignore_eos": true})))
        .await;
    assert_eq!(stopped["text"], text[..text.find(&stop).unwrap()]);
    assert_eq!(stopped["finish_reason"], "stop");
    assert!(stopped["usage"]["completion_tokens"].as_u64().unwrap() < 24);

    let ids = whole["token_ids"].as_array().unwrap();
    let nth = ids.iter().position(|id| *id == ids[9]).unwrap();
    let asked = json!({"stop_token_ids": [ids[9]], "return_token_ids": true});
    let ended = server.generate(body(asked)).await;
    assert_eq!(ended["finish_reason"], "stop");
    let told = ended["token_ids"].as_array().unwrap();
    assert!(told.len() <= nth + 1);
    assert!(text.starts_with(ended["text"].as_str().unwrap().trim_end_matches('\u{fffd}')));
}

#[tokio::test]
async fn a_model_without_objectives_answers_unsteered() {
    let server = Server::shared();
    for model in ["plain", "plain@"] {
        let request = body(json!({"model": model, "stream": false}));
        let reply = server.post("/v1/generate", &request).await;
        if model.ends_with('@') {
            assert_eq!(reply.status, StatusCode::BAD_REQUEST);
            continue;
        }
        assert!(reply.json()["steering"].is_null());
        assert!(reply.json()["usage"]["steering"].is_null());
        assert!(reply.header("x-policy-version").starts_with("plain-"));
        assert_eq!(reply.header("x-steering-weights"), "");
    }
}

#[tokio::test]
async fn policies_over_one_base_answer_differently() {
    let server = Server::shared();
    let base = server.get("/v1/models").await.json()["data"][0]["root"].clone();
    let ask = |model: Value| body(json!({"model": model, "temperature": 0, "ignore_eos": true}));
    let (adapted, plain) = tokio::join!(
        server.generate(ask(json!("plain"))),
        server.generate(ask(base))
    );
    assert_ne!(adapted["text"], plain["text"]);
}

#[tokio::test]
async fn a_prompt_and_the_same_single_message_are_one() {
    let server = Server::shared();
    let prompt = server.generate(body(json!({}))).await;
    let mut turns = body(json!({"messages": [{"role": "user", "content": "How do I stay safe?"}]}));
    turns.as_object_mut().unwrap().remove("prompt");
    assert_eq!(server.generate(turns).await["text"], prompt["text"]);
}
