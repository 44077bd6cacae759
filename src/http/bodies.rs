//! Bodies that tell how far they have come.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

/// A request's body that calls once it is read to its end.
pub(super) struct Arriving<F: FnOnce()> {
    body: Incoming,
    at_end: Option<F>,
}

impl<F: FnOnce()> Arriving<F> {
    pub(super) fn new(body: Incoming, at_end: F) -> Self {
        Self {
            body,
            at_end: Some(at_end),
        }
    }
}

impl<F: FnOnce() + Unpin> HttpBody for Arriving<F> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if (frame.is_none() || self.body.is_end_stream())
            && let Some(at_end) = self.at_end.take()
        {
            at_end();
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

/// A reply's body that holds something until it is at its end or given up.
pub(super) struct Leaving<H> {
    body: Body,
    held: Option<H>,
}

impl<H> Leaving<H> {
    pub(super) fn new(body: Body, held: H) -> Self {
        let held = Some(held).filter(|_| !body.is_end_stream());
        Self { body, held }
    }
}

impl<H: Unpin> HttpBody for Leaving<H> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.held = None;
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
