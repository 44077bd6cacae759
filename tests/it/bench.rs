//! The bench against our own server and against one that knows less and does worse.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use steersman::bench::{
    Api, BenchError, Client, LevelReport, Load, Plan, Report, Target, WeightsMix, Workload, run,
    survey,
};
use steersman::http::HttpSettings;
use steersman::service::{App, ServiceSettings};

/// Serves on a free port for as long as the test's runtime lives.
async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    addr
}

async fn our_own() -> SocketAddr {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let app = App::load(&demo, &ServiceSettings::default()).unwrap();
    serve(steersman::http::router(
        Arc::new(app),
        &HttpSettings::default(),
    ))
    .await
}

fn client(addr: SocketAddr) -> Client {
    Client::new(&Target {
        url: format!("http://{addr}/v1"),
        api_key: Some("none".into()),
        patience: Duration::from_secs(600),
    })
    .unwrap()
}

fn workload(api: Api, weights: Option<WeightsMix>) -> Workload {
    Workload {
        api,
        prompt_tokens: 48,
        output_tokens: 4,
        requests: 4,
        warm_up: 0,
        temperature: 1.0,
        seed: 1,
        weights,
    }
}

async fn measured(addr: SocketAddr, workload: Workload, load: Load) -> (LevelReport, String) {
    let client = client(addr);
    let plan = Plan {
        survey: survey(&client, &workload, None).await.unwrap(),
        workload,
    };
    let ended = Cell::new(0);
    let level = run(&client, &plan, load, 0, &|| ended.set(ended.get() + 1)).await;
    assert_eq!(ended.get(), plan.workload.requests);
    let mut report = Report::begin(client.base(), &plan);
    report.push(level.clone());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["workload"]["output_tokens"], 4);
    assert!(json["machine"]["cores"].as_u64() > Some(0), "{json}");
    (level, report.table())
}

fn check_whole(level: &LevelReport) {
    assert_eq!((level.completed, level.requests), (4, 4), "{level:?}");
    assert!(level.errors.is_empty(), "{level:?}");
    assert_eq!(
        level.output_tokens_mean,
        Some(4.0),
        "ignore_eos makes answers equally long"
    );
    let prompt = level.prompt_tokens_mean.unwrap();
    assert!(
        (38.0..58.0).contains(&prompt),
        "{prompt} tokens, 48 were asked for"
    );
    let (first, whole) = (level.ttft_ms.unwrap(), level.end_to_end_ms.unwrap());
    assert!(first.p50 > 0.0 && first.max <= whole.max, "{level:?}");
    assert!(level.output_tokens_per_s > 0.0);
}

#[tokio::test]
async fn our_own_server_is_measured_by_both_routes_loops_and_mixes() {
    let addr = our_own().await;
    let closed = Load::Closed { concurrency: 2 };
    let (chat, table) = measured(addr, workload(Api::Chat, Some(WeightsMix::Mixed)), closed).await;
    check_whole(&chat);
    assert!(
        table.contains("2 at once") && table.contains("4/4"),
        "{table}"
    );
    let open = Load::Open { rate_per_s: 200.0 };
    let same = workload(Api::Completions, Some(WeightsMix::Same));
    check_whole(&measured(addr, same, open).await.0);
}

/// A server of the least that OpenAI's routes need: one model, no objectives, no `ignore_eos`, no
/// usage. Of five requests two are answered.
fn foreign() -> Router {
    let asked = Arc::new(AtomicUsize::new(0));
    let completions = move |body: String| {
        let asked = Arc::clone(&asked);
        async move { foreign_reply(&serde_json::from_str(&body).unwrap(), &asked) }
    };
    let models = || async { r#"{"data": [{"id": "theirs"}]}"# };
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/completions", post(completions))
}

fn foreign_reply(body: &Value, asked: &AtomicUsize) -> Response {
    if body["ignore_eos"] == true {
        return (StatusCode::BAD_REQUEST, "what is ignore_eos?").into_response();
    }
    assert_eq!(body["model"], "theirs");
    if body["stream"] != true {
        return json!({"choices": []}).to_string().into_response();
    }
    let piece = "data: {\"choices\":[{\"text\":\" a\"}]}\n\n";
    let error = "data: {\"error\":{\"message\":\"x\",\"code\":\"engine_error\"}}\n\n";
    let full = r#"{"error": {"code": "queue_full"}}"#;
    match asked.fetch_add(1, Ordering::Relaxed) % 5 {
        0 | 1 => format!("{piece}{piece}data: [DONE]\n\n").into_response(),
        2 => (StatusCode::TOO_MANY_REQUESTS, full).into_response(),
        3 => format!("{piece}{error}").into_response(),
        _ => piece.into_response(),
    }
}

#[tokio::test]
async fn a_server_that_knows_no_weights_is_measured_and_its_errors_are_counted_by_kind() {
    let addr = serve(foreign()).await;
    let mut asked = workload(Api::Completions, None);
    asked.requests = 10;
    let (level, table) = measured(addr, asked, Load::Closed { concurrency: 3 }).await;
    assert_eq!((level.completed, level.requests), (4, 10));
    assert_eq!(
        level.output_tokens_mean,
        Some(2.0),
        "pieces stand for tokens"
    );
    assert_eq!(level.prompt_tokens_mean, None);
    assert_eq!(level.refused_without_retry_after, 2);
    let kinds: Vec<_> = level
        .errors
        .iter()
        .map(|(kind, n)| (kind.as_str(), *n))
        .collect();
    let expected = [
        ("error in the stream: engine_error", 2),
        ("status 429 queue_full", 2),
        ("stream ended without [DONE]", 2),
    ];
    assert_eq!(kinds, expected);
    assert!(table.contains("2 x status 429 queue_full"), "{table}");
}

#[tokio::test]
async fn what_cannot_be_measured_is_refused_in_a_sentence() {
    let addr = serve(foreign()).await;
    let asked = workload(Api::Completions, Some(WeightsMix::Mixed));
    let error = survey(&client(addr), &asked, None).await.unwrap_err();
    assert!(
        matches!(&error, BenchError::NoObjectives { model } if model == "theirs"),
        "{error}"
    );
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = gone.local_addr().unwrap();
    drop(gone);
    let error = survey(&client(nobody), &asked, None).await.unwrap_err();
    assert!(matches!(error, BenchError::NoAnswer { .. }), "{error}");
    for url in [
        "127.0.0.1:8080",
        "ftp://host",
        "http://",
        "http://host/?a=b",
    ] {
        let target = Target {
            url: url.into(),
            api_key: None,
            patience: Duration::from_secs(1),
        };
        let error = Client::new(&target).err();
        assert!(matches!(error, Some(BenchError::Url { .. })), "{url}");
    }
}
