//! `truncate_prompt_tokens`: prompts that are too long lose text, and nothing else.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::client::Server;

const WEIGHTS: &str = "kind@helpfulness=0.7,harmlessness=0.3";

async fn post(route: &str, body: &Value) -> Value {
    let reply = Server::shared().post(route, body).await;
    assert_eq!(reply.status, StatusCode::OK, "{body}: {}", reply.text);
    reply.json()
}

/// The prompt that is left, as text, and how many tokens it has.
async fn left(mut body: Value, tokens: i64) -> (String, u64) {
    body["model"] = json!(WEIGHTS);
    body["truncate_prompt_tokens"] = json!(tokens);
    let seen = post("/v1/tokenize", &body).await;
    let text = post("/v1/detokenize", &json!({"tokens": seen["tokens"]})).await;
    let text = text["prompt"].as_str().unwrap().to_owned();
    (text, seen["count"].as_u64().unwrap())
}

fn many(count: usize) -> String {
    let words: Vec<_> = (100..100 + count).map(|i| format!("w{i}")).collect();
    words.join(" ")
}

#[tokio::test]
async fn a_text_loses_its_beginning_and_no_conditioning() {
    let prompt = many(200);
    let (text, count) = left(json!({"prompt": prompt}), 60).await;
    assert_eq!(count, 60);
    let fenced = "<|begin_of_text|><|end_of_text|>help 0.7 harm 0.3<|pad|>";
    let kept = text
        .strip_prefix(fenced)
        .unwrap_or_else(|| panic!("{text}"));
    assert!(prompt.ends_with(kept) && kept.len() > 20, "{kept}");
    let asked = json!({"prompt": prompt, "truncation_side": "right"});
    let (text, count) = left(asked, 60).await;
    assert_eq!(count, 60);
    let kept = text
        .strip_prefix(fenced)
        .unwrap_or_else(|| panic!("{text}"));
    assert!(prompt.starts_with(kept) && kept.len() > 20, "{kept}");
}

#[tokio::test]
async fn a_conversation_loses_its_oldest_text_and_no_frame() {
    let messages = json!([
        {"role": "system", "content": "Be kind"},
        {"role": "user", "content": many(60)},
        {"role": "assistant", "content": "I see."},
        {"role": "user", "content": "And who is last?"},
    ]);
    let (whole, _) = left(json!({"messages": messages}), 127).await;
    let frames = whole.matches("<|").count();
    let (text, count) = left(json!({"messages": messages}), 110).await;
    assert!((100..=110).contains(&count), "{count}: {text}");
    assert_eq!(text.matches("<|").count(), frames, "{text}");
    for kept in ["help 0.7 harm 0.3", "Be kind", "I see.", "And who is last?"] {
        assert!(text.contains(kept), "{kept}: {text}");
    }
    assert!(!text.contains("w100"), "{text}");
}

#[tokio::test]
async fn every_generating_route_honours_it_and_says_what_was_lost() {
    let server = Server::shared();
    let (long, turns) = (many(200), json!([{"role": "user", "content": many(200)}]));
    for (route, mut body) in [
        ("/v1/generate", json!({"prompt": long})),
        ("/v1/generate", json!({"messages": turns})),
        ("/v1/chat/completions", json!({"messages": turns})),
        ("/v1/completions", json!({"prompt": long})),
        ("/v1/sweep", json!({"prompt": long, "grid": 3})),
    ] {
        body["max_tokens"] = json!(4);
        let refused = server.post(route, &body).await.json()["error"].clone();
        assert_eq!(
            refused["code"], "context_length_exceeded",
            "{route}: {refused}"
        );
        for (tokens, most) in [(90, 90), (-1, 124)] {
            body["truncate_prompt_tokens"] = json!(tokens);
            let seen = post(route, &body).await;
            let usage = match route {
                "/v1/sweep" => &seen["points"][0]["usage"],
                _ => &seen["usage"],
            };
            let prompt = usage["prompt_tokens"].as_u64().unwrap();
            assert!(
                (most - 3..=most).contains(&prompt),
                "{route} {tokens}: {prompt}"
            );
            let said = seen["warnings"][0].as_str().unwrap_or_default();
            assert!(
                said.contains("`truncate_prompt_tokens` left out"),
                "{route}: {seen}"
            );
        }
    }
}

#[tokio::test]
async fn a_short_prompt_and_all_rows_of_guidance_stay_the_same() {
    let server = Server::shared();
    let body = json!({"prompt": "Hello", "max_tokens": 6, "seed": 4});
    let mut cut = body.clone();
    cut["truncate_prompt_tokens"] = json!(100);
    let (plain, cut) = (server.generate(body).await, server.generate(cut).await);
    assert_eq!(plain["text"], cut["text"]);
    assert!(cut.get("warnings").is_none(), "{cut}");
    // both rows see one text: that of the longer span
    let guided = json!({"prompt": many(200), "max_tokens": 3, "guidance": 2.0,
        "objective_weights": {"helpfulness": 1}, "truncate_prompt_tokens": 80});
    let guided = server.generate(guided).await;
    assert!(
        guided["usage"]["prompt_tokens"].as_u64() <= Some(80),
        "{guided}"
    );
}

#[tokio::test]
async fn lengths_that_leave_nothing_are_refused() {
    let server = Server::shared();
    let turns = json!([{"role": "user", "content": many(20)}]);
    for (body, expected) in [
        (
            json!({"prompt": "Hello", "truncate_prompt_tokens": 0}),
            "between 1 and 127",
        ),
        (
            json!({"prompt": "Hello", "truncate_prompt_tokens": -2}),
            "got -2",
        ),
        (
            json!({"prompt": "Hello", "truncate_prompt_tokens": 128}),
            "got 128",
        ),
        (
            json!({"messages": turns, "truncate_prompt_tokens": 5}),
            "must be at least",
        ),
    ] {
        let reply = server.post("/v1/generate", &body).await;
        assert_eq!(
            reply.status,
            StatusCode::BAD_REQUEST,
            "{body}: {}",
            reply.text
        );
        let error = reply.json()["error"].clone();
        assert_eq!(error["param"], "truncate_prompt_tokens", "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(expected), "{message}");
    }
}
