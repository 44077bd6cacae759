//! What surrounds every request: its id, one line of log, and a net under panics.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use tracing::Instrument;

use super::error::ApiError;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id taken from a caller.
const LONGEST_ID: usize = 128;

/// The id of one request: the caller's own, else a new one.
#[derive(Debug, Clone)]
pub(super) struct RequestId(String);

impl RequestId {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let given = headers
            .get(REQUEST_ID)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        let visible: String = given
            .chars()
            .filter(char::is_ascii_graphic)
            .take(LONGEST_ID)
            .collect();
        match visible.is_empty() {
            true => Self(uuid::Uuid::now_v7().simple().to_string()),
            false => Self(visible),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Wraps one request.
pub(super) async fn wrap(mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let started = Instant::now();
    let span = tracing::info_span!("request", id = id.as_str());
    request.extensions_mut().insert(id.clone());
    let reply = AssertUnwindSafe(next.run(request).instrument(span.clone()))
        .catch_unwind()
        .await;
    let _entered = span.enter();
    // the panic's own message went to the log through the panic hook
    let mut response = reply.unwrap_or_else(|_| ApiError::internal().into_response());
    if let Some(error) = response.extensions_mut().remove::<ApiError>()
        && error.status().is_server_error()
    {
        response = error.for_request(id.as_str()).into_response();
    }
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let (status, ms) = (response.status().as_u16(), started.elapsed().as_millis());
    tracing::info!(%method, path, status, ms, "answered");
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
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
        let router = Router::new()
            .route("/", get(breaks))
            .layer(middleware::from_fn(wrap));
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
    }
}
