//! One line of log for each request, at the end of its reply. It tells figures, ids and the route's
//! own path, never what a caller wrote: a path may hold a user's name, a query anything.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::MatchedPath;
use axum::http::{Method, StatusCode};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tracing::Span;

use super::account::{Account, Figures};
use super::meters::HttpMeters;

/// A request's line under way.
pub(super) struct Entry {
    method: &'static str,
    route: Option<MatchedPath>,
    started: Instant,
    /// When the reply's head was there.
    answered: Option<(StatusCode, Instant)>,
    account: Account,
    meters: Arc<HttpMeters>,
}

impl Entry {
    pub(super) fn new(
        method: &Method,
        route: Option<&MatchedPath>,
        account: Account,
        meters: Arc<HttpMeters>,
    ) -> Self {
        Self {
            method: word_of(method),
            route: route.cloned(),
            started: Instant::now(),
            answered: None,
            account,
            meters,
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
            policy_version,
            usage,
            error,
        } = self.account.figures();
        if let Some(code) = error {
            self.meters.errors.add(code);
        }
        let status = status.as_u16();
        self.meters
            .requests
            .add((self.method, route.to_owned(), status));
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
        self.end(complete);
        // what the body holds may have something to say when it goes
        let _entered = self.span.clone().entered();
        drop(std::mem::take(&mut self.body));
    }
}
