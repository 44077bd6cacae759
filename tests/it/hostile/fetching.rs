//! Addresses in a caller's words (CVE-2026-24779, CVE-2026-0599): the server fetches nothing for
//! anybody, so there is nobody to send elsewhere. That rewards follow no redirect is tested with
//! the rewards.

use std::io::ErrorKind;
use std::net::TcpListener;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::http::client::{Server, post};

/// Bodies that name an address wherever a caller can write one, some of them refused.
fn bodies(url: &str) -> Vec<(&'static str, Value)> {
    let image = format!("![p]({url}/a)");
    let schema = json!({"$ref": format!("{url}/schema.json"), "$schema": url, "$id": url});
    let format = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}});
    let parts = json!([
        {"type": "text", "text": image},
        {"type": "image_url", "image_url": {"url": format!("{url}/c.png")}},
        {"type": "input_audio", "input_audio": {"data": url, "format": "wav"}},
        {"type": "file", "file": {"file_data": url}},
    ]);
    let messages = json!([{"role": "user", "content": image}]);
    vec![
        (
            "/v1/generate",
            json!({"prompt": image, "max_tokens": 2, "user": url}),
        ),
        (
            "/v1/generate",
            json!({"prompt": url, "profile": url, "max_tokens": 2}),
        ),
        (
            "/v1/generate",
            json!({"prompt": "a", "model": url, "max_tokens": 2}),
        ),
        (
            "/v1/generate",
            json!({"prompt": "a", "regex": image, "max_tokens": 2}),
        ),
        (
            "/v1/generate",
            json!({"prompt": "a", "response_format": format, "max_tokens": 2}),
        ),
        (
            "/v1/completions",
            json!({"prompt": image, "max_tokens": 2, "suffix": url}),
        ),
        ("/v1/completions", json!({"prompt": image, "max_tokens": 2})),
        (
            "/v1/chat/completions",
            json!({"messages": messages, "max_tokens": 2}),
        ),
        (
            "/v1/chat/completions",
            json!({"messages": [{"role": "user", "content": parts}], "max_tokens": 2}),
        ),
        (
            "/v1/chat/completions",
            json!({"messages": messages, "chat_template": url, "max_tokens": 2}),
        ),
        (
            "/v1/chat/completions",
            json!({"messages": messages, "max_tokens": 2, "webhook_url": url,
                   "tools": [{"type": "mcp", "server_url": url}]}),
        ),
        (
            "/v1/sweep",
            json!({"prompt": image, "grid": 2, "max_tokens": 2}),
        ),
        ("/v1/tokenize", json!({"prompt": image})),
    ]
}

#[tokio::test]
async fn no_address_in_a_request_is_ever_called() {
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let url = format!("http://{}", trap.local_addr().unwrap());
    let server = Server::shared();
    let mut answered = 0;
    for (path, body) in bodies(&url) {
        let reply = server.post(path, &body).await;
        assert!(reply.status.as_u16() < 500, "{path} {body}: {}", reply.text);
        answered += usize::from(reply.status.is_success());
    }
    // some of them were worked on, not only refused
    assert!(answered >= 4, "{answered}");
    let body = json!({"prompt": "a", "max_tokens": 2}).to_string();
    for header in [
        "host",
        "referer",
        "origin",
        "x-forwarded-host",
        "x-forwarded-for",
        "forwarded",
    ] {
        let mut request = post("/v1/generate", &body);
        request.headers_mut().insert(header, url.parse().unwrap());
        server.ask(request).await;
    }
    for path in ["/v1/models/", "/docs/", "/v1/profiles/"] {
        let request = Request::get(format!("{path}{}", url.replace('/', "%2f")));
        server.ask(request.body(Body::empty()).unwrap()).await;
    }
    let called = trap.accept().map(|(_, from)| from);
    assert_eq!(called.unwrap_err().kind(), ErrorKind::WouldBlock);
}
