//! Drives one connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use futures::FutureExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tower::ServiceExt;

use super::super::bodies::{Arriving, Leaving};
use super::super::error::ApiError;
use super::turn::{Late, Turn};
use super::wire::Wire;
use super::{Host, refusal};
use crate::service::Phase;

/// The least buffer that hyper takes.
const LEAST_BUFFER: usize = 8 << 10;

/// One more running request, until it is dropped.
struct Running(watch::Sender<usize>);

/// Serves a connection until one of both sides ends it.
pub(super) async fn drive(stream: TcpStream, host: &Arc<Host>) {
    let turn = Arc::new(Turn::new());
    let wire = TokioIo::new(Wire::new(stream, Arc::clone(&turn)));
    let service = service_fn({
        let (host, turn) = (Arc::clone(host), Arc::clone(&turn));
        move |request| answer(&host, &turn, request).boxed()
    });
    let most = host.limits.max_header_bytes;
    let mut connection = http1::Builder::new()
        .max_header_size(most)
        .max_buf_size(most.max(LEAST_BUFFER))
        .serve_connection(wire, service);
    let mut draining = pin!(host.lifecycle.reached(Phase::Draining));
    let mut closing = pin!(async {
        // the sender is the host's own, so it cannot be gone
        let _ = host.closing.subscribe().wait_for(|closing| *closing).await;
    });
    let (mut drains, mut closes) = (false, false);
    let late = loop {
        tokio::select! {
            // an error of a connection concerns its client alone
            _ = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break None,
            late = turn.overdue(&host.limits) => break Some(late),
            () = &mut draining, if !drains => {
                drains = true;
                // one that may be asking hears why it is refused, and is closed by that reply
                if !turn.may_ask() {
                    std::pin::Pin::new(&mut connection).graceful_shutdown();
                }
            }
            // the others end by themselves, once their reply is sent
            () = &mut closing, if !closes => {
                closes = true;
                if turn.may_ask() {
                    break None;
                }
            }
        }
    };
    if let Some(late) = late {
        host.meters.late_connections.add(late.word());
    }
    let (stream, refused) = connection.into_parts().io.into_inner().into_parts();
    let error = match (refused, late) {
        (Some(status), _) => Some(refusal_of(status, most)),
        (None, Some(Late::Head)) => Some(ApiError::head_too_slow(host.limits.header_timeout)),
        (None, _) => None,
    };
    match error {
        Some(error) => {
            host.meters.errors.add(error.code());
            refusal::tell(stream, error).await;
        }
        None if turn.has_unread_body() && late.is_none() => refusal::close(stream).await,
        None => {}
    }
}

/// hyper's words for a head that is none, in ours.
fn refusal_of(status: u16, max_header_bytes: usize) -> ApiError {
    match StatusCode::from_u16(status) {
        Ok(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE) => {
            ApiError::head_too_large(max_header_bytes)
        }
        Ok(StatusCode::URI_TOO_LONG) => ApiError::uri_too_long(),
        _ => ApiError::not_http(),
    }
}

/// Hands a request to the router, and sees how far its body and its reply have come.
fn answer(
    host: &Host,
    turn: &Arc<Turn>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response, Infallible>> + Send + 'static {
    let under = turn.begin(!request.body().is_end_stream());
    let running = Running::new(&host.running);
    let read = Arc::clone(turn);
    let request = request.map(|body| Body::new(Arriving::new(body, move || read.body_read())));
    let reply = host.router.clone().oneshot(request);
    let lifecycle = Arc::clone(&host.lifecycle);
    async move {
        let held = (under, running);
        let mut reply = reply.await?;
        if lifecycle.phase() >= Phase::Draining {
            let close = HeaderValue::from_static("close");
            reply.headers_mut().insert(header::CONNECTION, close);
        }
        Ok(reply.map(|body| Body::new(Leaving::new(body, held))))
    }
}

impl Running {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|n| *n += 1);
        Self(count.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}
