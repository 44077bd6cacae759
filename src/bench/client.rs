//! An HTTP client that reads streamed answers and notes when each piece arrives.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde_json::Value;

use super::connections::{Connections, SendError};
use super::error::BenchError;
use super::events::EventReader;
use super::outcome::{Outcome, Refusal};
use super::stream::Hearing;

/// How much of a refusal is quoted.
const QUOTED_CHARACTERS: usize = 300;

/// Which server, and how long it may take.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its address, with or without the `/v1` behind.
    pub url: String,
    /// Sent as `authorization: Bearer KEY`.
    pub api_key: Option<String>,
    /// Most time for one request, from sending to its last byte.
    pub patience: Duration,
}

/// A client with as many connections as requests under way; each is used again.
#[derive(Debug)]
pub struct Client {
    connections: Connections,
    base: Uri,
    authorization: Option<HeaderValue>,
    patience: Duration,
}

impl Client {
    /// A client of this server. Connects with the first request.
    ///
    /// # Errors
    /// The address or the key cannot be used.
    pub fn new(target: &Target) -> Result<Self, BenchError> {
        let url = target.url.trim_end_matches('/');
        let url = url.strip_suffix("/v1").unwrap_or(url);
        let wrong = || BenchError::Url {
            url: target.url.clone(),
        };
        let base: Uri = url.parse().map_err(|_| wrong())?;
        let host = base.host().filter(|_| base.scheme_str() == Some("http"));
        let (Some(host), None) = (host, base.query()) else {
            return Err(wrong());
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        let connections = Connections::to(host, base.port_u16().unwrap_or(80));
        let authorization = match &target.api_key {
            Some(key) => {
                let value = HeaderValue::try_from(format!("Bearer {key}"));
                let mut value = value.map_err(|_| BenchError::Key)?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        Ok(Self {
            connections,
            base,
            authorization,
            patience: target.patience,
        })
    }

    /// The server's address.
    pub fn base(&self) -> String {
        self.base.to_string().trim_end_matches('/').to_owned()
    }

    /// GETs JSON.
    pub(super) async fn get(&self, path: &str) -> Result<Value, BenchError> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// POSTs JSON and reads JSON.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, BenchError> {
        self.ask(Method::POST, path, body.to_string().into()).await
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Value, BenchError> {
        let what = format!("{method} {}{path}", self.base());
        let asking = async {
            let request = self.request(method, path, body);
            let (reply, _connection) = self.connections.send(request).await?;
            let (parts, body) = reply.into_parts();
            Ok::<_, SendError>((parts.status, body.collect().await?.to_bytes()))
        };
        let answer: Result<_, Box<dyn std::error::Error + Send + Sync>> =
            match tokio::time::timeout(self.patience, asking).await {
                Ok(answer) => answer.map_err(Into::into),
                Err(elapsed) => Err(elapsed.into()),
            };
        let (status, bytes) = answer.map_err(|source| BenchError::NoAnswer {
            what: what.clone(),
            source,
        })?;
        let text = String::from_utf8_lossy(&bytes);
        if status != StatusCode::OK {
            return Err(BenchError::Refused {
                what,
                status: status.as_u16(),
                said: text.chars().take(QUOTED_CHARACTERS).collect(),
            });
        }
        serde_json::from_str(&text).map_err(|error| BenchError::Strange {
            what,
            problem: format!("the reply is not JSON: {error}"),
        })
    }

    /// POSTs a request for a streamed answer and listens to its end. Times count from `since`.
    pub(super) async fn stream(&self, path: &str, body: Bytes, since: Instant) -> Outcome {
        match tokio::time::timeout(self.patience, self.listen(path, body, since)).await {
            Ok(Ok(outcome) | Err(outcome)) => outcome,
            Err(_) => Outcome::failed("timeout"),
        }
    }

    async fn listen(&self, path: &str, body: Bytes, since: Instant) -> Result<Outcome, Outcome> {
        let request = self.request(Method::POST, path, body);
        let sent = self.connections.send(request).await;
        let (reply, connection) = sent.map_err(|error| {
            Outcome::failed(match error {
                SendError::Connect(_) => "no connection",
                SendError::Http(_) => "connection broke off before the reply",
            })
        })?;
        if reply.status() != StatusCode::OK {
            let outcome = refusal(reply, since).await;
            self.connections.put_back(connection);
            return Ok(outcome);
        }
        let mut events = EventReader::default();
        let mut hearing = Hearing::since(since);
        let mut body = reply.into_body();
        // beyond `[DONE]` too: only a body that was read to its end frees its connection
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Outcome::failed("stream broke off"))?;
            let now = Instant::now();
            for event in frame
                .data_ref()
                .map_or(Vec::new(), |data| events.push(data))
            {
                hearing.hear(&event, now)?;
            }
        }
        self.connections.put_back(connection);
        hearing.end()
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        let prefix = self.base.path().trim_end_matches('/');
        // both parts were parsed before, and a path and a query make a target
        *request.uri_mut() = format!("{prefix}{path}").parse().unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let host = self
            .base
            .authority()
            .map_or("", |authority| authority.as_str());
        if let Ok(host) = HeaderValue::from_str(host) {
            headers.insert(HOST, host);
        }
        if let Some(value) = &self.authorization {
            headers.insert(AUTHORIZATION, value.clone());
        }
        request
    }
}

async fn refusal(response: Response<Incoming>, since: Instant) -> Outcome {
    let after = since.elapsed();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes());
    let said: Value = body
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let code = &said["error"]["code"];
    Outcome::Refused(Refusal {
        status: parts.status.as_u16(),
        code: code.as_str().unwrap_or("").to_owned(),
        after,
        says_when: parts.headers.contains_key(RETRY_AFTER),
    })
}
