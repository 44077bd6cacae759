//! One line of log for each request, at the end of its reply. It tells figures, ids and the route's
//! own path, never what a caller wrote: a path may hold a user's name, a query anything.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request};
use axum::http::{Method, StatusCode};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tracing::Span;

use super::account::{Account, Figures};
use super::meters::HttpMeters;
use super::request_id::RequestId;
use crate::telemetry::{CallerSpan, RequestTrace, Traces};

/// A request's line under way.
pub(super) struct Entry {
    method: &'static str,
    route: Option<MatchedPath>,
    started: Instant,
    /// When the reply's head was there.
    answered: Option<(StatusCode, Instant)>,
    account: Account,
    names: Names,
    watch: Watch,
}

/// By what a request can be found again.
pub(super) struct Names {
    pub(super) request_id: RequestId,
    /// Whose trace it is part of.
    pub(super) caller: Option<CallerSpan>,
}

/// Who else hears of requests, beside the log.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    pub(super) meters: Arc<HttpMeters>,
    pub(super) traces: Traces,
}

impl Entry {
    pub(super) fn new(request: &Request, names: Names, account: Account, watch: Watch) -> Self {
        Self {
            method: word_of(request.method()),
            route: request.extensions().get::<MatchedPath>().cloned(),
            started: Instant::now(),
            answered: None,
            account,
            names,
            watch,
        }
    }

    /// The reply's head is there.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.answered = Some((status, Instant::now()));
    }

    /// Writes the line. `complete` says whether the reply went out to its end.
    fn write(self, complete: bool) {
        let Some((status, answered)) = self.answered else {
            return;
        };
        let route = self.route.as_ref().map_or("none", MatchedPath::as_str);
        let Figures {
            key,
            model,
            policy_version,
            usage,
            error,
        } = self.account.figures();
        let Watch { meters, traces } = &self.watch;
        if let Some(code) = error {
            meters.errors.add(code);
        }
        let status = status.as_u16();
        let kind = (self.method, route.to_owned(), status);
        meters.requests.add(kind);
        traces.tell(&RequestTrace {
            method: self.method,
            route,
            status,
            request_id: self.names.request_id.as_str(),
            caller: self.names.caller.as_ref(),
            model: model.as_deref(),
            policy_version: policy_version.as_deref(),
            prompt_tokens: usage.prompt_tokens,
            cached_tokens: usage.cached_tokens,
            completion_tokens: usage.completion_tokens,
            error,
            complete,
            started: self.started,
            answers: self.account.timeline().take(),
        });
        tracing::info!(
            method = self.method,
            route,
            status,
            ms = ms(self.started.elapsed()),
            head_ms = ms(answered - self.started),
            prompt_tokens = usage.prompt_tokens,
            cached_tokens = usage.cached_tokens,
            completion_tokens = usage.completion_tokens,
            policy_version,
            key = key.as_deref(),
            error,
            complete,
            "answered"
        );
    }
}

fn ms(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A method's word; callers may invent methods, and each would be a line of metrics.
fn word_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// A reply's body whose end writes the request's line. What happens on its way is logged as part
/// of the request.
pub(super) struct Logged {
    body: Body,
    span: Span,
    entry: Option<Entry>,
}

impl Logged {
    pub(super) fn new(body: Body, span: Span, entry: Entry) -> Self {
        Self {
            body,
            span,
            entry: Some(entry),
        }
    }

    fn end(&mut self, complete: bool) {
        if let Some(entry) = self.entry.take() {
            self.span.in_scope(|| entry.write(complete));
        }
    }
}

impl HttpBody for Logged {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let span = self.span.clone();
        let frame = ready!(span.in_scope(|| Pin::new(&mut self.body).poll_frame(cx)));
        if frame.is_none() || self.body.is_end_stream() {
            self.end(true);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        // of a body that is not sent nobody asks for the end
        let is_head = |entry: &Entry| entry.method == "HEAD";
        let complete = self.body.is_end_stream() || self.entry.as_ref().is_some_and(is_head);
        // what the body holds may have something to say when it goes, and answers that it holds
        // end with it
        let span = self.span.clone();
        let body = std::mem::take(&mut self.body);
        span.in_scope(|| drop(body));
        self.end(complete);
    }
}
