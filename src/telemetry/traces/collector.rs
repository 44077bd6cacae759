//! Posts batches of spans to a collector.
//!
//! The SDK waits for a batch on a thread of its own, where no runtime is: each post runs as a task
//! of the server's runtime.

use std::error::Error;
use std::pin::Pin;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

use crate::outbound;

/// For one post: OpenTelemetry's own default.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of an answer.
const ANSWER_LIMIT: usize = 1 << 20;

type Connection = outbound::Client<Full<Bytes>>;

/// The client of a collector.
#[derive(Debug, Clone)]
pub(super) struct Collector {
    connection: Connection,
    runtime: Handle,
}

impl Collector {
    /// One that posts on the current runtime.
    pub(super) fn new() -> Result<Self, String> {
        let runtime = Handle::try_current().map_err(|error| error.to_string())?;
        Ok(Self {
            connection: outbound::client(outbound::connector()),
            runtime,
        })
    }
}

impl HttpClient for Collector {
    // what `async fn` in this trait stands for
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let connection = self.connection.clone();
        let post = self.runtime.spawn(async move {
            let answer = match tokio::time::timeout(PATIENCE, post(&connection, request)).await {
                Ok(answer) => answer,
                Err(late) => Err(late.into()),
            };
            match &answer {
                Ok(answer) if answer.status().is_success() => {}
                Ok(answer) => {
                    tracing::warn!(status = answer.status().as_u16(), "traces were refused");
                }
                Err(error) => tracing::warn!("traces cannot be told: {error}"),
            }
            answer
        });
        Box::pin(async move { post.await? })
    }
}

async fn post(
    connection: &Connection,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, Box<dyn Error + Send + Sync>> {
    let answer = connection.request(request.map(Full::new)).await?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_LIMIT).collect().await?;
    Ok(Response::from_parts(head, body.to_bytes()))
}
