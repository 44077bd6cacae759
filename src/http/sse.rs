//! Frames an answer as server-sent events.
//!
//! Only `data:` lines and comments: clients choke on `id:` and `event:`. A stream ends in
//! `data: [DONE]`, or in one `data: {"error": ...}` and no `[DONE]`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, stream};
use serde::Serialize;

use super::asking::Caller;
use super::error::ApiError;
use super::tell::{Piece, Wording};
use crate::service::{AnswerEvent, Answers, RequestError};

/// Proxies cut streams that are silent for a minute; a comment keeps them open.
const PING_EVERY: Duration = Duration::from_secs(10);

/// A chunk as JSON. Shapes of strings, numbers and lists always serialise.
pub(super) fn json(chunk: &impl Serialize) -> String {
    serde_json::to_string(chunk).unwrap_or_else(|error| {
        tracing::error!("a chunk does not serialise: {error}");
        json(&ApiError::internal().body())
    })
}

/// Streams answers, side by side.
pub(super) fn stream_answers<W: Wording>(
    answers: Answers,
    mut wording: W,
    caller: Caller,
    headers: HeaderMap,
) -> Response {
    let ending = answers.ending().boxed();
    let ready = wording.opening().into();
    let teller = Teller {
        answers,
        wording,
        caller,
        ending,
        ready,
        over: false,
    };
    let ping = KeepAlive::new().interval(PING_EVERY).text("ping");
    let mut response = Sse::new(teller.events()).keep_alive(ping).into_response();
    let own = response.headers_mut();
    own.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    own.extend(headers);
    response
}

/// Answers on their way to the wire.
struct Teller<W> {
    answers: Answers,
    wording: W,
    caller: Caller,
    /// Resolves when what still runs has to be cut.
    ending: BoxFuture<'static, ()>,
    ready: VecDeque<String>,
    over: bool,
}

impl<W: Wording> Teller<W> {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut teller| async move {
            let data = teller.next().await?;
            Some((Ok(Event::default().data(data)), teller))
        })
    }

    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(data) = self.ready.pop_front() {
                return Some(data);
            }
            if self.over {
                return None;
            }
            // a panic must not end the stream without a word
            let step = AssertUnwindSafe(self.step()).catch_unwind().await;
            if let Err(error) = step.unwrap_or_else(|_| Err(ApiError::internal())) {
                self.caller.account.failed(error.code());
                let body = error.for_request(self.caller.request_id.as_str()).body();
                self.ready.push_back(json(&body));
                self.over = true;
            }
        }
    }

    async fn step(&mut self) -> Result<(), ApiError> {
        let event = tokio::select! {
            event = self.answers.next() => event,
            () = &mut self.ending => return Err(RequestError::Draining.into()),
        };
        match event {
            Some(event) => {
                let (index, event) = event?;
                let words = match event {
                    AnswerEvent::Delta { text, tokens } => {
                        self.caller.account.told(tokens.len());
                        let piece = Piece { text, tokens };
                        self.wording.piece(&self.answers, index, piece)
                    }
                    AnswerEvent::Finished { reason, .. } => {
                        let usage = self.answers.usage();
                        if let Some(usage) = usage {
                            self.caller.account.cost(usage);
                        }
                        self.wording.end(index, reason, usage)
                    }
                };
                self.ready.extend(words);
            }
            None => {
                self.ready.push_back("[DONE]".to_owned());
                self.over = true;
            }
        }
        Ok(())
    }
}
