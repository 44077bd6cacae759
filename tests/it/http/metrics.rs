//! `GET /metrics`: what it counts, who may read it, and that no caller's word is in it.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;
use steersman::engine::EngineConfig;
use steersman::http::HttpSettings;
use steersman::service::{
    Access, App, GenerationInput, PromptInput, SamplingInput, Scope, ServiceSettings,
};
use steersman::telemetry::names;

use super::client::Server;
use super::folder;
use super::keys::{Guarded, check_error, on_each};

/// The value of one line; `name` with its labels.
fn value(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|rest| rest.strip_prefix(' '));
    value
        .unwrap_or_else(|| panic!("{name} is not in {page}"))
        .parse()
        .unwrap()
}

fn server() -> Server {
    Server::start(EngineConfig::default())
}

#[tokio::test]
async fn an_answer_shows_in_every_figure_it_changes() {
    let server = server();
    let body = json!({"prompt": "Hello there", "max_tokens": 5, "ignore_eos": true, "objective_weights": [1, 0]});
    let usage = server.generate(body.clone()).await["usage"].clone();
    let again = server.generate(body).await["usage"].clone();
    let reply = server.get("/metrics").await;
    assert_eq!(reply.status, StatusCode::OK);
    assert!(
        reply
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    let page = reply.text;
    let prompt = usage["prompt_tokens"].as_f64().unwrap();
    let cached = again["prompt_tokens_details"]["cached_tokens"]
        .as_f64()
        .unwrap();
    for (name, expected) in [
        ("steersman_prompt_tokens_total", 2.0 * prompt),
        ("steersman_generation_tokens_total", 10.0),
        (
            r#"steersman_requests_finished_total{finished_reason="length"}"#,
            2.0,
        ),
        (
            r#"steersman_answers_total{policy="kind",weights="body"}"#,
            2.0,
        ),
        ("steersman_time_to_first_token_seconds_count", 2.0),
        ("steersman_inter_token_latency_seconds_count", 8.0),
        ("steersman_request_queue_time_seconds_count", 2.0),
        ("steersman_e2e_request_latency_seconds_count", 2.0),
        (
            "steersman_iteration_tokens_sum",
            2.0 * (prompt + 4.0) - cached,
        ),
        ("steersman_prefix_cache_queries_total", 2.0 * prompt),
        ("steersman_prefix_cache_hits_total", cached),
        ("steersman_requests_running", 0.0),
        ("steersman_requests_waiting", 0.0),
        ("steersman_kv_cache_usage_ratio", 0.0),
        (
            r#"steersman_http_requests_total{method="POST",route="/v1/generate",status="200"}"#,
            2.0,
        ),
    ] {
        assert_eq!(value(&page, name), expected, "{name}");
    }
    assert!(value(&page, "steersman_engine_loop_age_seconds") < 5.0);
    let blocks = ["used", "cached", "free"].map(|state| {
        value(
            &page,
            &format!("steersman_kv_cache_blocks{{state=\"{state}\"}}"),
        )
    });
    assert!(
        blocks[0] == 0.0 && blocks[1] > 0.0 && blocks[2] > 0.0,
        "{blocks:?}"
    );
}

#[tokio::test]
async fn refusals_count_by_code_and_routes_that_do_not_exist_share_a_line() {
    let server = server();
    server.post("/v1/generate", &json!({"prompt": ""})).await;
    server
        .post("/v1/generate", &json!({"prompt": "x", "top_k": -5}))
        .await;
    server.get("/canary-one").await;
    server.get("/canary-two").await;
    let page = server.get("/metrics").await.text;
    for (name, expected) in [
        (r#"steersman_http_errors_total{code="invalid_value"}"#, 2.0),
        (
            r#"steersman_http_errors_total{code="route_not_found"}"#,
            2.0,
        ),
        (
            r#"steersman_http_requests_total{method="GET",route="none",status="404"}"#,
            2.0,
        ),
    ] {
        assert_eq!(value(&page, name), expected, "{name}");
    }
    assert!(!page.contains("canary"), "{page}");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_to_its_end_counts_as_abandoned() {
    let server = server();
    let body = json!({"prompt": "Hello", "stream": true, "ignore_eos": true, "max_tokens": 90});
    let reply = server
        .send(super::client::post("/v1/generate", &body.to_string()))
        .await;
    drop(reply);
    let page = server.get("/metrics").await.text;
    let abandoned = r#"steersman_requests_finished_total{finished_reason="abort"}"#;
    assert_eq!(value(&page, abandoned), 1.0);
}

#[tokio::test]
async fn every_metric_is_there_from_the_start_and_vllm_names_where_they_are_wanted() {
    let dir = folder::with_policies();
    let app = |vllm_metrics| {
        let app = App::load(dir.path(), &ServiceSettings::default()).unwrap();
        let settings = HttpSettings {
            vllm_metrics,
            ..HttpSettings::default()
        };
        Server::told(app, &settings)
    };
    let plain = app(false).get("/metrics").await.text;
    let both = app(true).get("/metrics").await.text;
    for metric in names::ALL {
        let family = format!("# TYPE {} ", metric.name);
        assert!(
            plain.contains(&family) && both.contains(&family),
            "{family}"
        );
        if let Some(alias) = metric.alias {
            assert!(!plain.contains(alias), "{alias}");
            assert!(both.contains(&format!("# TYPE {alias} ")), "{alias}");
        }
    }
    let model = both
        .split("vllm:num_requests_running{model_name=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    assert!(
        model.is_some_and(|model| model.starts_with("tiny-")),
        "{model:?}"
    );
}

#[tokio::test]
async fn routers_made_for_vllm_hear_which_adapters_are_at_work() {
    const NAME: &str = "vllm:lora_requests_info";
    let dir = folder::with_policies();
    let app = |vllm_metrics| {
        // one place, so that the second answer waits
        let engine = EngineConfig {
            max_sequences: 1,
            ..EngineConfig::default()
        };
        let settings = ServiceSettings {
            engine,
            ..ServiceSettings::default()
        };
        let app = App::load(dir.path(), &settings).unwrap();
        let settings = HttpSettings {
            vllm_metrics,
            ..HttpSettings::default()
        };
        Server::told(app, &settings)
    };
    assert!(!app(false).get("/metrics").await.text.contains(NAME));
    let server = app(true);
    let labels = async || {
        let page = server.get("/metrics").await.text;
        assert!(page.contains("# TYPE vllm:lora_requests_info gauge"));
        let line = page.lines().find(|line| line.starts_with(NAME)).unwrap();
        let (labels, time) = line[NAME.len()..].rsplit_once(' ').unwrap();
        assert!(time.parse::<f64>().unwrap() > 1.7e9, "{line}");
        labels.to_owned()
    };
    let adapters = server.app.policies();
    let adapters = adapters.iter().filter(|policy| policy.adapter.is_some());
    let count = adapters.count();
    let said = |running: &str, waiting: &str| {
        format!(
            "{{running_lora_adapters=\"{running}\",waiting_lora_adapters=\"{waiting}\",\
             max_lora=\"{count}\"}}"
        )
    };
    assert_eq!(labels().await, said("", ""));
    let ask = async |model: &str| {
        let sampling = SamplingInput {
            max_tokens: Some(60),
            ignore_eos: true,
            ..SamplingInput::default()
        };
        let input = GenerationInput {
            model: Some(model.to_owned()),
            prompts: vec![PromptInput::Text("Hello".to_owned())],
            access: Access::open(),
            sampling,
            ..GenerationInput::default()
        };
        server.app.generate(input).await.unwrap()
    };
    // an answer that nobody reads pauses, and keeps its place
    let answers = (ask("kind").await, ask("plain").await);
    let begun = async {
        while labels().await != said("kind", "plain") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), begun)
        .await
        .unwrap();
    drop(answers);
    assert_eq!(labels().await, said("", ""));
}

#[tokio::test]
async fn metrics_need_a_key_with_their_scope() {
    on_each(async |guarded: &Guarded| {
        let ask =
            async |secret: Option<&str>| guarded.ask("GET", "/metrics", secret, &json!({})).await;
        let generates = guarded.with(&[Scope::Generate]).await;
        let measures = guarded.with(&[Scope::Metrics]).await;
        check_error(
            &ask(None).await,
            401,
            "authentication_error",
            "invalid_api_key",
        );
        let refused = ask(Some(&generates)).await;
        check_error(&refused, 403, "permission_error", "scope_required");
        assert_eq!(ask(Some(&measures)).await.status, StatusCode::OK);
    })
    .await;
}
