//! What surrounds every request: its id, its line of log, and a net under panics.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use tracing::Instrument;
use tracing::field::Empty;

use super::access_log::{Entry, Logged, Names, Watch};
use super::account::Account;
use super::error::ApiError;
use super::request_id::{REQUEST_ID, RequestId, trace_of};

/// Milliseconds until the reply began, under OpenAI's name; a stream begins with its first token.
const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");

/// Wraps one request.
pub(super) async fn wrap(State(watch): State<Watch>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::of(request.headers());
    let account = Account::default();
    let caller = trace_of(request.headers());
    // of the highest level, so that no filter takes the id off a line that it lets through
    let span = tracing::error_span!(
        "request",
        id = id.as_str(),
        trace = Empty,
        caller_span = Empty
    );
    if let Some(caller) = &caller {
        span.record("trace", &caller.trace);
        span.record("caller_span", &caller.span);
    }
    request.extensions_mut().insert(id.clone());
    let names = Names {
        request_id: id.clone(),
        caller,
    };
    let mut entry = Entry::new(&request, names, account.clone(), watch);
    request.extensions_mut().insert(account.clone());
    let reply = AssertUnwindSafe(next.run(request).instrument(span.clone()))
        .catch_unwind()
        .await;
    let _entered = span.enter();
    // the panic's own message went to the log through the panic hook
    let mut response = reply.unwrap_or_else(|_| ApiError::internal().into_response());
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        account.failed(error.code());
        if error.status().is_server_error() {
            response = error.for_request(id.as_str()).into_response();
        }
    }
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let headers = response.headers_mut();
    headers.insert(PROCESSING_MS, HeaderValue::from(ms));
    entry.answered(response.status());
    response.map(|body| Body::new(Logged::new(body, span.clone(), entry)))
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use axum::{Router, middleware};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn breaks() -> &'static str {
        panic!("a secret of the server")
    }

    #[tokio::test]
    async fn a_panic_becomes_a_500_that_names_the_request_alone() {
        let watch = Watch::default();
        let router = Router::new()
            .route("/", get(breaks))
            .layer(middleware::from_fn_with_state(watch.clone(), wrap));
        let request = Request::get("/")
            .header("x-request-id", "r-17")
            .body(Body::empty());
        let reply = router
            .oneshot(request.expect("sound"))
            .await
            .expect("a reply");
        assert_eq!(reply.status(), 500);
        assert_eq!(reply.headers()["x-request-id"], "r-17");
        let body = reply
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["error"]["type"], "server_error");
        let message = body["error"]["message"].as_str().expect("a message");
        assert!(
            message.contains("r-17") && !message.contains("secret"),
            "{message}"
        );
        assert_eq!(watch.meters.errors.counts(), [("engine_error", 1)]);
    }
}
