//! OpenAI's fields one by one: each is honoured, refused or named in `warnings`, on every
//! generating route; and what replies carry beside the answer.

use std::path::Path;

use axum::http::StatusCode;
use serde_json::{Value, json};
use steersman::service::ServiceSettings;

use super::client::Server;

/// The generating routes, each with what it needs at the least.
fn routes() -> [(&'static str, Value); 4] {
    let messages = json!([{"role": "user", "content": "Hello"}]);
    [
        (
            "/v1/chat/completions",
            json!({"messages": messages, "max_tokens": 1}),
        ),
        (
            "/v1/completions",
            json!({"prompt": "Hello", "max_tokens": 1}),
        ),
        ("/v1/generate", json!({"prompt": "Hello", "max_tokens": 1})),
        (
            "/v1/sweep",
            json!({"prompt": "Hello", "max_tokens": 1, "grid": 2}),
        ),
    ]
}

fn with(body: &Value, field: &str, value: &Value) -> Value {
    let mut body = body.clone();
    body[field] = value.clone();
    body
}

/// Whether a reply's warnings name a field.
fn warns_of(reply: &Value, field: &str) -> bool {
    let warnings = reply["warnings"].as_array().into_iter().flatten();
    let mut texts = warnings.filter_map(Value::as_str);
    texts.any(|text| text.contains(&format!("`{field}`")))
}

async fn is_refused(route: &str, body: &Value, field: &str) {
    let reply = Server::shared().post(route, body).await;
    let text = &reply.text;
    assert_eq!(
        reply.status,
        StatusCode::BAD_REQUEST,
        "{route} {body}: {text}"
    );
    let error = reply.json()["error"].clone();
    let param = error["param"].as_str().unwrap_or_default();
    assert!(param.starts_with(field), "{route} {field}: {error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(field), "{route} {field}: {error}");
}

#[tokio::test]
async fn a_field_with_effect_is_read_on_every_route() {
    // each with a value that no reader of it takes
    let fields = [
        ("model", json!(5)),
        ("max_tokens", json!(0)),
        ("max_completion_tokens", json!("x")),
        ("temperature", json!(2.5)),
        ("top_p", json!(0)),
        ("n", json!(0)),
        ("stop", json!(5)),
        ("stream", json!("x")),
        ("stream_options", json!(5)),
        ("logprobs", json!("x")),
        ("logit_bias", json!({"x": 1})),
        ("presence_penalty", json!(3)),
        ("frequency_penalty", json!(-3)),
        ("seed", json!(-1)),
        ("response_format", json!({"type": "x"})),
        ("user", json!(5)),
        ("metadata", json!({"objectives": 1})),
        ("truncate_prompt_tokens", json!(0)),
        ("truncation_side", json!("left")),
    ];
    for (route, body) in routes() {
        for (field, wrong) in &fields {
            is_refused(route, &with(&body, field, wrong), field).await;
        }
    }
}

#[tokio::test]
async fn a_field_without_effect_is_named_in_warnings_on_every_route() {
    let fields = [
        ("service_tier", json!("auto")),
        ("store", json!(false)),
        ("safety_identifier", json!("x")),
        ("prompt_cache_key", json!("x")),
        ("prompt_cache_retention", json!("24h")),
        ("reasoning_effort", json!("low")),
        ("verbosity", json!("low")),
        ("parallel_tool_calls", json!(true)),
        ("metadata", json!({"team": "x"})),
        ("user", json!("nobody")),
    ];
    let server = Server::shared();
    for (route, body) in routes() {
        for (field, value) in &fields {
            let body = with(&body, field, value);
            let reply = server.post(route, &body).await;
            assert_eq!(
                reply.status,
                StatusCode::OK,
                "{route} {body}: {}",
                reply.text
            );
            assert!(
                warns_of(&reply.json(), field),
                "{route} {field}: {}",
                reply.text
            );
            if route != "/v1/sweep" {
                let chunks = server
                    .post(route, &with(&body, "stream", &json!(true)))
                    .await;
                assert!(warns_of(&chunks.chunks()[0], field), "{route} {field}");
            }
        }
        let said = server.post(route, &body).await.json();
        assert!(said.get("warnings").is_none(), "{route}: {said}");
    }
}

#[tokio::test]
async fn a_field_that_cannot_be_honoured_is_refused_on_every_route() {
    let fields = [
        ("tools", json!([{"type": "function"}])),
        ("tool_choice", json!("required")),
        ("functions", json!([{}])),
        ("suffix", json!("x")),
        ("best_of", json!(2)),
        ("modalities", json!(["audio"])),
        ("prompt_logprobs", json!(1)),
    ];
    for (route, body) in routes() {
        for (field, value) in &fields {
            is_refused(route, &with(&body, field, value), field).await;
        }
    }
}

#[tokio::test]
async fn a_user_that_is_not_asked_is_named_with_the_reason() {
    let server = Server::shared();
    for (extra, reason) in [
        (json!({}), "names no profile"),
        (json!({"objective_weights": [1, 1]}), "`objective_weights`"),
        (json!({"model": "plain"}), "no objectives"),
    ] {
        let mut body = json!({"prompt": "Hello", "max_tokens": 1, "user": "nobody"});
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        let said = server.generate(body).await["warnings"][0].to_string();
        assert!(said.contains("`user`") && said.contains(reason), "{said}");
    }
}

#[tokio::test]
async fn weights_in_metadata_are_as_good_as_others() {
    let server = Server::shared();
    let route = "/v1/chat/completions";
    let messages = json!([{"role": "user", "content": "Hello"}]);
    let body = json!({"messages": messages, "max_tokens": 2, "seed": 1,
        "metadata": {"objectives": "helpfulness=0.7,harmlessness=0.3"}});
    let seen = server.post(route, &body).await.json();
    assert_eq!(seen["steering"]["source"], "metadata", "{seen}");
    assert_eq!(seen["steering"]["encoded"]["helpfulness"], 0.7);
    assert!(seen.get("warnings").is_none(), "{seen}");
    // any of the others stands before it, and must say the same
    let same = with(&body, "model", &json!("kind@helpfulness=7,harmlessness=3"));
    assert_eq!(
        server.post(route, &same).await.json()["steering"]["source"],
        "model"
    );
    let other = server
        .post(route, &with(&body, "objective_weights", &json!([1, 1])))
        .await;
    let error = other.json()["error"].clone();
    assert_eq!(
        (other.status.as_u16(), &error["code"]),
        (400, &json!("objective_conflict"))
    );
    assert_eq!(error["param"], "metadata.objectives");
    let unknown = with(&body, "metadata", &json!({"objectives": "mood=1"}));
    let error = server.post(route, &unknown).await.json()["error"].clone();
    assert_eq!(error["code"], "unknown_objective", "{error}");
    assert_eq!(error["param"], "metadata.objectives");
    let (sweep, least) = routes()[3].clone();
    is_refused(
        sweep,
        &with(&least, "metadata", &body["metadata"]),
        "metadata.objectives",
    )
    .await;
}

#[tokio::test]
async fn replies_tell_their_tokens_and_their_time_as_openai_does() {
    let server = Server::shared();
    for (route, body) in routes() {
        let reply = server.post(route, &body).await;
        let usage = reply.json()["usage"].clone();
        assert_eq!(
            usage["completion_tokens_details"],
            json!({"reasoning_tokens": 0})
        );
        assert!(
            usage["prompt_tokens_details"]["cached_tokens"].is_u64(),
            "{route}"
        );
        let ms = reply.header("openai-processing-ms").parse::<u64>();
        assert!(ms.is_ok_and(|ms| ms < 600_000), "{route}");
    }
    let (route, body) = routes()[0].clone();
    let streamed = with(&body, "stream", &json!(true));
    let refused = with(&body, "temperature", &json!(9));
    for body in [streamed, refused] {
        let reply = server.post(route, &body).await;
        assert!(reply.header("openai-processing-ms").parse::<u64>().is_ok());
    }
}

#[tokio::test]
async fn raw_text_to_a_policy_of_conversations_is_remarked_upon() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let server = Server::over(&demo, &ServiceSettings::default());
    let remarked = async |route: &str, body: Value| {
        let reply = server.post(route, &body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        let said = reply.json()["warnings"].to_string();
        said.contains("/v1/chat/completions") && said.contains("`prompt`")
    };
    let [chat, raw, native, _] = routes();
    assert!(remarked(raw.0, raw.1.clone()).await);
    assert!(!remarked(raw.0, with(&raw.1, "model", &json!("demo"))).await);
    assert!(!remarked(raw.0, with(&raw.1, "prompt", &json!([5, 6, 7]))).await);
    assert!(!remarked(chat.0, chat.1).await);
    assert!(!remarked(native.0, native.1).await);
}
