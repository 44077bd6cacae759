//! Posts JSON to one address, several requests at once, and asks again what may pass.
//!
//! Blocks. No redirect is followed, no proxy asked, and an answer is read to a bound only.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use hyper::{Request, Response};
use serde_json::Value;
use tokio::sync::oneshot;

use super::call::Call;
use super::error::ServiceError;
use crate::outbound::{self, Connector};
use crate::rewards::RewardError;

/// Most bytes of an answer: numbers for a batch, or one grade's reasons.
const ANSWER_LIMIT: usize = 16 << 20;
/// Most characters that are quoted of what a service says of a failure.
const QUOTED: usize = 200;
/// Pause between two looks at whether anybody still waits for the answers.
const LOOK: Duration = Duration::from_millis(20);

type Connection = outbound::Client<Full<Bytes>>;

/// Calls one service.
pub(super) struct Client {
    call: Call,
    connector: Connector,
}

/// Why questions stay without an answer.
pub(super) enum Unanswered {
    /// One was asked so often.
    Failed { attempts: u32, source: ServiceError },
    /// Nobody waits for the answers any longer.
    CalledOff,
}

impl Unanswered {
    pub(super) fn of(self, reward: &str) -> RewardError {
        match self {
            Self::Failed { attempts, source } => RewardError::Service {
                reward: reward.to_owned(),
                attempts,
                source,
            },
            Self::CalledOff => RewardError::CalledOff,
        }
    }
}

/// What is asked and what counts as an answer. `attempt` counts from 0.
pub(super) trait Question: Sync {
    /// What an answer says.
    type Answer: Send;

    /// How many questions there are.
    fn count(&self) -> usize;

    /// The body of one question.
    fn body(&self, index: usize, attempt: u32) -> Value;

    /// What the answer to it says.
    fn read(&self, index: usize, answer: Value) -> Result<Self::Answer, ServiceError>;
}

impl Client {
    pub(super) fn new(call: Call) -> Self {
        Self {
            call,
            connector: outbound::connector(),
        }
    }

    /// The answers in the order of the questions. The first that stays unanswered ends it, and so
    /// does `stop`, whatever is being waited for.
    pub(super) fn ask_all<Q: Question>(
        &self,
        question: &Q,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Q::Answer>, Unanswered> {
        let here = |reason: String| Unanswered::Failed {
            attempts: 0,
            source: ServiceError::Client(reason),
        };
        // a thread of its own, because a runtime must not be entered from within another; this one
        // asks meanwhile whether to go on
        std::thread::scope(|scope| {
            let (wanted, unwanted) = oneshot::channel::<()>();
            let (at_work, done) = mpsc::channel::<()>();
            let asking = scope.spawn(move || {
                // dropped at the end, be it a panic
                let _at_work = at_work;
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|error| here(error.to_string()))
                    .and_then(|runtime| {
                        runtime.block_on(async {
                            tokio::select! {
                                answers = self.ask_side_by_side(question) => answers,
                                _ = unwanted => Err(Unanswered::CalledOff),
                            }
                        })
                    })
            });
            while done.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) && !stop() {}
            drop(wanted);
            asking
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    async fn ask_side_by_side<Q: Question>(
        &self,
        question: &Q,
    ) -> Result<Vec<Q::Answer>, Unanswered> {
        let connection = outbound::client(self.connector.clone());
        stream::iter(0..question.count())
            .map(|index| self.ask_patiently(&connection, question, index))
            .buffered(self.call.parallel)
            .try_collect()
            .await
    }

    async fn ask_patiently<Q: Question>(
        &self,
        connection: &Connection,
        question: &Q,
        index: usize,
    ) -> Result<Q::Answer, Unanswered> {
        let mut attempt = 0;
        loop {
            let body = question.body(index, attempt);
            let answer = self.ask(connection, &body).await;
            let source = match answer.and_then(|answer| question.read(index, answer)) {
                Ok(answer) => return Ok(answer),
                Err(source) => source,
            };
            let attempts = attempt + 1;
            if attempts == self.call.attempts || !source.may_pass() {
                return Err(Unanswered::Failed { attempts, source });
            }
            let asked = match &source {
                ServiceError::Status { retry_after, .. } => *retry_after,
                _ => None,
            };
            let wait = self.call.wait(attempt, asked);
            let ms = wait.as_millis();
            tracing::warn!(
                attempts,
                ms,
                "a reward service failed, asked again soon: {source}"
            );
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    async fn ask(&self, connection: &Connection, body: &Value) -> Result<Value, ServiceError> {
        let bytes = body.to_string().into_bytes();
        let mut request = Request::post(self.call.uri.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(bytes))
            .map_err(|error| ServiceError::Client(error.to_string()))?;
        if let Some(key) = &self.call.authorization {
            request.headers_mut().insert(AUTHORIZATION, key.clone());
        }
        let whole = async {
            let response = connection.request(request).await;
            read(response.map_err(|error| ServiceError::Unreachable(reason(&error)))?).await
        };
        match tokio::time::timeout(self.call.timeout, whole).await {
            Ok(answer) => answer,
            Err(_) => Err(ServiceError::TimedOut {
                seconds: self.call.timeout.as_secs_f64(),
            }),
        }
    }
}

async fn read(response: Response<Incoming>) -> Result<Value, ServiceError> {
    let status = response.status();
    if status.is_redirection() {
        return Err(ServiceError::Redirected {
            status: status.as_u16(),
        });
    }
    let retry_after = retry_after(response.headers());
    let body = Limited::new(response.into_body(), ANSWER_LIMIT);
    let bytes =
        body.collect()
            .await
            .map_err(|error| match error.downcast_ref::<LengthLimitError>() {
                Some(_) => ServiceError::TooLarge {
                    limit: ANSWER_LIMIT,
                },
                None => ServiceError::Unreachable(format!("the answer broke off: {error}")),
            })?;
    let answer = serde_json::from_slice(&bytes.to_bytes());
    if !status.is_success() {
        return Err(ServiceError::Status {
            status: status.as_u16(),
            said: said(answer.ok()),
            retry_after,
        });
    }
    answer.map_err(ServiceError::NotJson)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// A failure's own words. Only plain sentences: structures like a validator's echo the request.
fn said(body: Option<Value>) -> String {
    let Some(body) = body else {
        return String::new();
    };
    let places = [
        &body["error"]["message"],
        &body["error"],
        &body["message"],
        &body["detail"],
    ];
    let sentence = places.into_iter().find_map(Value::as_str);
    sentence.map_or_else(String::new, |text| {
        format!(": {}", text.chars().take(QUOTED).collect::<String>())
    })
}

/// An error with its causes: the client's own message only says at which stage it failed.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
