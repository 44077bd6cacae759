//! Replies that no route makes: to a head that is none, to who is too slow, to who is one too many.

use std::time::Duration;

use axum::response::IntoResponse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::error::ApiError;
use super::super::request_id::RequestId;

/// How long a client gets to take a last reply and to stop sending.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an unwanted body that are let in, so that the client gets to its reply.
const UNWANTED: usize = 16 << 20;

/// Sends an error as a last reply, and closes.
pub(super) async fn tell(mut stream: TcpStream, error: ApiError) {
    let bytes = last_reply(error);
    // who does not take it gets none
    let _ = tokio::time::timeout(PATIENCE, async {
        stream.write_all(&bytes).await?;
        stop_listening(&mut stream).await
    })
    .await;
}

/// Closes after a last reply while the client may still be sending: what closes with bytes unread
/// is reset, and a reset takes the reply away before the client has read it.
pub(super) async fn close(mut stream: TcpStream) {
    let _ = tokio::time::timeout(PATIENCE, stop_listening(&mut stream)).await;
}

async fn stop_listening(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.shutdown().await?;
    let mut unwanted = [0; 8 << 10];
    let mut left = UNWANTED;
    while left > 0 {
        match stream.read(&mut unwanted).await? {
            0 => return Ok(()),
            count => left = left.saturating_sub(count),
        }
    }
    Ok(())
}

/// A whole reply after which the connection ends.
fn last_reply(error: ApiError) -> Vec<u8> {
    let id = RequestId::invented();
    tracing::info!(
        id = id.as_str(),
        status = error.status().as_u16(),
        code = error.code(),
        "refused before a route"
    );
    // a shape of strings always serialises
    let body = serde_json::to_vec(&error.body()).unwrap_or_default();
    let (parts, _) = error.into_response().into_parts();
    let mut reply = format!("HTTP/1.1 {}\r\n", parts.status).into_bytes();
    for (name, value) in &parts.headers {
        reply.extend_from_slice(name.as_str().as_bytes());
        reply.extend_from_slice(b": ");
        reply.extend_from_slice(value.as_bytes());
        reply.extend_from_slice(b"\r\n");
    }
    let own = format!(
        "x-request-id: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        id.as_str(),
        body.len()
    );
    reply.extend_from_slice(own.as_bytes());
    reply.extend_from_slice(&body);
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_reply_is_a_whole_error_with_an_id() {
        let reply = String::from_utf8(last_reply(ApiError::too_many_connections())).expect("text");
        let (head, body) = reply.split_once("\r\n\r\n").expect("a head");
        assert!(
            head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
            "{head}"
        );
        for field in [
            "retry-after: 1",
            "connection: close",
            "content-type: application/json",
            "x-request-id: ",
            &format!("content-length: {}", body.len()),
        ] {
            assert!(head.contains(field), "{field} is not in {head}");
        }
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["error"]["code"], "too_many_connections");
    }
}
