//! A connection's bytes, watched on their way: when the client speaks, when it stops taking.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::turn::{Turn, Waits};

/// A socket that tells the connection's [`Turn`] what happens on it.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    turn: Arc<Turn>,
    refused: Option<u16>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, turn: Arc<Turn>) -> Self {
        Self {
            stream,
            turn,
            refused: None,
        }
    }

    /// The socket, and the status of a refusal that was kept back.
    pub(super) fn into_parts(self) -> (TcpStream, Option<u16>) {
        (self.stream, self.refused)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.turn.heard();
        }
        outcome
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        // A head that is none is refused by hyper itself, without a body. It is kept back, and
        // the connection sends the same status in the shape that every error has.
        if self.turn.waits() == Waits::Head
            && let Some(status) = refusal_of_hyper(buf)
        {
            self.refused = Some(status);
            return Poll::Ready(Ok(buf.len()));
        }
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        match &outcome {
            Poll::Ready(_) => self.turn.taken(),
            Poll::Pending => self.turn.blocked(),
        }
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The status of a reply that no route made: a client error without the id that all of ours have.
fn refusal_of_hyper(reply: &[u8]) -> Option<u16> {
    let status = reply
        .strip_prefix(b"HTTP/1.1 ")
        .or_else(|| reply.strip_prefix(b"HTTP/1.0 "))?
        .get(..3)?;
    let status: u16 = std::str::from_utf8(status).ok()?.parse().ok()?;
    let ours = reply
        .windows(b"x-request-id".len())
        .any(|window| window.eq_ignore_ascii_case(b"x-request-id"));
    (matches!(status, 400 | 414 | 431) && !ours).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_that_no_route_made_are_kept_back() {
        let check = |reply: &str, expected: Option<u16>| {
            assert_eq!(refusal_of_hyper(reply.as_bytes()), expected, "{reply}");
        };
        let bare = "\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        check(
            &format!("HTTP/1.1 431 Request Header Fields Too Large{bare}"),
            Some(431),
        );
        check(&format!("HTTP/1.1 400 Bad Request{bare}"), Some(400));
        check("HTTP/1.1 400 Bad Request\r\nx-request-id: a\r\n\r\n", None);
        check(&format!("HTTP/1.1 200 OK{bare}"), None);
        check("HTTP/1.1 100 Continue\r\n\r\n", None);
        check("HTTP/1.1 4", None);
        check("data: HTTP/1.1 431 ", None);
    }
}
