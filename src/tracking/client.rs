//! Speaks JSON over HTTP to one tracker. No redirect is followed; an answer is read to a bound only.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request, StatusCode};
use serde_json::Value;

use super::MlflowSettings;
use crate::outbound;

/// Most bytes of an answer.
const ANSWER_LIMIT: usize = 1 << 20;
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a request was not answered as hoped.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("it gave no answer within {} s", PATIENCE.as_secs())]
    TimedOut,
    #[error("it answered {status} ({code})")]
    Refused { status: u16, code: String },
    #[error("it answered otherwise than MLflow does: {0}")]
    Odd(String),
}

impl CallError {
    /// Whether the tracker knows no such thing.
    pub(super) fn is_missing(&self) -> bool {
        match self {
            Self::Refused { status, code } => *status == 404 || code == "RESOURCE_DOES_NOT_EXIST",
            _ => false,
        }
    }
}

/// A connection to a tracker.
pub(super) struct Client {
    http: outbound::Client<Full<Bytes>>,
    settings: MlflowSettings,
}

impl Client {
    /// From within a runtime.
    pub(super) fn new(settings: MlflowSettings) -> Self {
        Self {
            // steps are seconds apart
            http: outbound::client_without_pool(outbound::connector()),
            settings,
        }
    }

    pub(super) fn settings(&self) -> &MlflowSettings {
        &self.settings
    }

    pub(super) async fn get(&self, route: &str) -> Result<Value, CallError> {
        self.call(Method::GET, route, Bytes::new()).await
    }

    pub(super) async fn post(&self, route: &str, body: &Value) -> Result<Value, CallError> {
        self.call(Method::POST, route, body.to_string().into())
            .await
    }

    async fn call(&self, method: Method, route: &str, body: Bytes) -> Result<Value, CallError> {
        let address = format!("{}/api/2.0/mlflow/{route}", self.settings.base);
        let mut request = Request::builder()
            .method(method)
            .uri(address)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body))
            .map_err(|error| CallError::Odd(error.to_string()))?;
        if let Some(key) = &self.settings.authorization {
            request.headers_mut().insert(AUTHORIZATION, key.clone());
        }
        let whole = async {
            let unreachable = |error: String| CallError::Unreachable(error);
            let response = self.http.request(request).await;
            let response = response.map_err(|error| unreachable(error.to_string()))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect();
            let bytes = body.await.map_err(|error| unreachable(error.to_string()))?;
            read(status, &bytes.to_bytes())
        };
        tokio::time::timeout(PATIENCE, whole)
            .await
            .unwrap_or(Err(CallError::TimedOut))
    }
}

fn read(status: StatusCode, bytes: &[u8]) -> Result<Value, CallError> {
    let answer: Result<Value, _> = serde_json::from_slice(bytes);
    if !status.is_success() {
        let code = answer.ok().and_then(|answer| {
            let word = answer["error_code"].as_str()?.chars().take(80);
            Some(word.collect())
        });
        return Err(CallError::Refused {
            status: status.as_u16(),
            code: code.unwrap_or_else(|| "no error code".to_owned()),
        });
    }
    answer.map_err(|error| CallError::Odd(error.to_string()))
}
