//! Slow, huge and many clients on real sockets: each is bounded, told why where HTTP still allows
//! it, and nobody else notices.

use std::time::{Duration, Instant};

use serde_json::json;
use steersman::http::{HttpSettings, ListenerSettings};
use steersman::service::Phase;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::socket::{Listening, RawReply, post, read, read_all, read_until};

/// Short enough to wait for, long enough for a busy machine to answer an honest client.
const SOON: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_head_that_trickles_in_is_cut_off_however_busy_it_looks() {
    let limits = ListenerSettings {
        header_timeout: SOON,
        ..ListenerSettings::default()
    };
    let server = Listening::start(HttpSettings::default(), limits).await;
    let stream = server.connect().await;
    let (mut reader, mut writer) = stream.into_split();
    writer
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n")
        .await
        .unwrap();
    let trickle = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        // as long as the server listens
        while writer.write_all(b"a: b\r\n").await.is_ok() {
            pace.tick().await;
        }
    });
    let mut text = String::new();
    let reading = reader.read_to_string(&mut text);
    let _ = tokio::time::timeout(Duration::from_secs(20), reading)
        .await
        .expect("closed");
    RawReply::of(&text).check(408, "request_timeout");
    trickle.abort();
    server.goes_on_serving().await;
}

#[tokio::test]
async fn who_connects_and_says_nothing_is_let_go_without_a_word() {
    let limits = ListenerSettings {
        idle_timeout: SOON,
        ..ListenerSettings::default()
    };
    let server = Listening::start(HttpSettings::default(), limits).await;
    let started = Instant::now();
    let mut silent = server.connect().await;
    assert_eq!(read_all(&mut silent).await, "");
    assert!(started.elapsed() >= SOON);
    // the same between two requests of one connection
    let mut kept = server.connect().await;
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for _ in 0..2 {
        kept.write_all(request).await.unwrap();
        read_until(&mut kept, r#"{"status":"live"}"#).await;
    }
    assert_eq!(read_all(&mut kept).await, "");
    server.goes_on_serving().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_does_not_hold_its_route() {
    let http = HttpSettings {
        body_timeout: SOON,
        ..HttpSettings::default()
    };
    let server = Listening::start(http, ListenerSettings::default()).await;
    let head =
        "POST /v1/generate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    for announced in [
        "content-length: 100\r\n\r\n{",
        "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
    ] {
        let reply = server.send(format!("{head}{announced}").as_bytes()).await;
        reply.check(408, "request_timeout");
    }
    server.goes_on_serving().await;
}

#[tokio::test]
async fn a_head_beyond_the_limit_gets_431_and_what_is_below_is_read() {
    let server = Listening::usual().await;
    let request = |bytes: usize| {
        let filler = "x".repeat(bytes);
        format!(
            "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nfiller: {filler}\r\n\r\n"
        )
    };
    let reply = server.send(request(30_000).as_bytes()).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    for bytes in [40_000, 120_000, 4 << 20] {
        let reply = server.send(request(bytes).as_bytes()).await;
        reply.check(431, "headers_too_large");
        assert!(reply.body.contains("32768"), "{}", reply.body);
    }
    let many = "a: b\r\n".repeat(150);
    let reply = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{many}\r\n");
    server
        .send(reply.as_bytes())
        .await
        .check(431, "headers_too_large");
    server.goes_on_serving().await;
}

#[tokio::test]
async fn what_is_no_http_is_told_so() {
    let server = Listening::usual().await;
    for bytes in [
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\nhost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nbad header\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
    ] {
        let reply = server.send(bytes.as_bytes()).await;
        reply.check(400, "malformed_request");
    }
    // so is what comes second on a connection, and the first reply stays whole
    let mut stream = server.connect().await;
    let first = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(first).await.unwrap();
    read_until(&mut stream, r#"{"status":"live"}"#).await;
    stream.write_all(b"nonsense\r\n\r\n").await.unwrap();
    read(&mut stream).await.check(400, "malformed_request");
    server.goes_on_serving().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_however_it_is_sent() {
    let http = HttpSettings {
        max_body_bytes: 4096,
        ..HttpSettings::default()
    };
    let server = Listening::start(http, ListenerSettings::default()).await;
    let body = json!({"prompt": "x".repeat(1 << 20)}).to_string();
    let reply = server.send(&post("/v1/generate", &body, "")).await;
    reply.check(413, "body_too_large");
    assert!(reply.body.contains("4096 bytes"), "{}", reply.body);
    // refused by its length alone: nothing of it was sent
    let announced = "POST /v1/generate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                     content-length: 4097\r\n\r\n";
    server
        .send(announced.as_bytes())
        .await
        .check(413, "body_too_large");
    server.goes_on_serving().await;
}

#[tokio::test]
async fn a_flood_of_tiny_chunks_is_bounded_by_its_bytes() {
    let http = HttpSettings {
        max_body_bytes: 100_000,
        ..HttpSettings::default()
    };
    let server = Listening::start(http, ListenerSettings::default()).await;
    let mut flood =
        b"POST /v1/generate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                      transfer-encoding: chunked\r\n\r\n"
            .to_vec();
    flood.extend(b"1\r\n[\r\n".repeat(110_000));
    let reply = server.send(&flood).await;
    reply.check(413, "body_too_large");
    server.goes_on_serving().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_get_503_and_places_come_free() {
    let limits = ListenerSettings {
        max_connections: 8,
        max_connections_per_peer: 3,
        ..ListenerSettings::default()
    };
    let server = Listening::start(HttpSettings::default(), limits).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = server.connect().await;
        let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
        stream.write_all(request).await.unwrap();
        read_until(&mut stream, r#"{"status":"live"}"#).await;
        held.push(stream);
    }
    let started = Instant::now();
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let refused = server.send(request).await;
    refused.check(503, "too_many_connections");
    assert!(refused.head.contains("retry-after: 1"), "{}", refused.head);
    assert!(started.elapsed() < Duration::from_secs(5));
    // those inside are served as before
    let first = &mut held[0];
    first
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    read_until(first, r#"{"status":"live"}"#).await;
    drop(held.pop());
    let free = async {
        while server.send(request).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), free)
        .await
        .expect("a place comes free");
}

#[tokio::test]
async fn who_takes_nothing_of_a_reply_is_let_go() {
    let limits = ListenerSettings {
        send_timeout: SOON,
        ..ListenerSettings::default()
    };
    let server = Listening::start(HttpSettings::default(), limits).await;
    let stream = server.connect().await;
    let (_unread, mut writer) = stream.into_split();
    // the document is large; asked for often enough it fills every buffer on the way
    let request = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let asking = async {
        while writer.write_all(&request.repeat(64)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asking)
        .await
        .expect("closed on");
    server.goes_on_serving().await;
}

/// A stream that lasts until it is cut or the context is full.
fn long_stream() -> Vec<u8> {
    let body = json!({"prompt": "Hello", "stream": true, "ignore_eos": true, "max_tokens": 60});
    post("/v1/generate", &body.to_string(), "")
}

#[tokio::test]
async fn a_draining_server_tells_probes_and_clients_and_finishes_its_streams() {
    let server = Listening::usual().await;
    let mut stream = server.connect().await;
    stream.write_all(&long_stream()).await.unwrap();
    let begun = read_until(&mut stream, "data: ").await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut idle, r#"{"status":"live"}"#).await;
    let silent = server.connect().await;

    server.app.lifecycle().advance(Phase::Draining);
    assert_eq!(read_all(&mut idle).await, "");
    let question = post("/v1/generate", r#"{"prompt":"x"}"#, "");
    let (readiness, asked) = tokio::join!(
        server.try_send(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        server.try_send(&question),
    );
    // the stream may be at its end by now, and with it the server
    for refused in [readiness, asked].into_iter().flatten() {
        refused.check(503, "draining");
        assert!(refused.head.contains("retry-after: "), "{}", refused.head);
    }
    let whole = begun + &read_all(&mut stream).await;
    assert!(whole.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"), "{whole}");
    server.ended().await;
    drop(silent);
}

#[tokio::test]
async fn who_asks_late_of_a_draining_server_hears_why_it_is_refused() {
    let server = Listening::usual().await;
    // runs until its body has come
    let mut running = server.connect().await;
    let head = "POST /v1/generate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                expect: 100-continue\r\ncontent-length: 14\r\n\r\n";
    running.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut running, "100 Continue").await;
    let (first, second) = ("GET /readyz HTTP/1.1\r\nhost:", " localhost\r\n\r\n");
    let mut half = server.connect().await;
    let known = format!("GET /healthz HTTP/1.1\r\nhost:{second}");
    half.write_all(known.as_bytes()).await.unwrap();
    read_until(&mut half, r#"{"status":"live"}"#).await;
    half.write_all(first.as_bytes()).await.unwrap();
    let mut silent = server.connect().await;
    let soon = || tokio::time::sleep(Duration::from_millis(20));
    soon().await;

    server.app.lifecycle().advance(Phase::Draining);
    let mut late = server.connect().await;
    soon().await;
    half.write_all(second.as_bytes()).await.unwrap();
    for stream in [&mut silent, &mut late] {
        let whole = format!("{first}{second}");
        stream.write_all(whole.as_bytes()).await.unwrap();
    }
    for stream in [&mut half, &mut silent, &mut late] {
        let reply = read(stream).await;
        reply.check(503, "draining");
        assert!(reply.head.contains("connection: close"), "{}", reply.head);
    }
    running.write_all(br#"{"prompt":"x"}"#).await.unwrap();
    read(&mut running).await.check(503, "draining");
    server.ended().await;
}

#[tokio::test]
async fn a_server_with_nothing_to_finish_ends_at_once() {
    let server = Listening::usual().await;
    let addr = server.addr;
    let idle = server.connect().await;
    server.goes_on_serving().await;
    server.drain().await;
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
    drop(idle);
}

#[tokio::test]
async fn a_stream_cut_at_the_deadline_says_so_before_the_server_ends() {
    let server = Listening::usual().await;
    let mut stream = server.connect().await;
    stream.write_all(&long_stream()).await.unwrap();
    let begun = read_until(&mut stream, "data: ").await;
    server.app.lifecycle().advance(Phase::Ending);
    let whole = begun + &read_all(&mut stream).await;
    let told = whole.contains(r#""code":"draining""#) || whole.contains("[DONE]");
    assert!(told && whole.ends_with("0\r\n\r\n"), "{whole}");
    server.ended().await;
}

#[tokio::test]
async fn odd_hosts_and_targets_open_no_other_door() {
    let server = Listening::usual().await;
    let status = async |line: &str, fields: &str| {
        let request = format!("{line} HTTP/1.1\r\n{fields}connection: close\r\n\r\n");
        server.send(request.as_bytes()).await.status
    };
    for fields in [
        "host: evil.example\r\n",
        "host: 127.0.0.1:1\r\nx-forwarded-host: evil.example\r\n",
        "host: localhost\r\nx-forwarded-for: 127.0.0.1\r\nx-forwarded-prefix: /admin\r\n",
        "host: localhost\r\nx-original-url: /metrics\r\nx-rewrite-url: /metrics\r\n",
        "",
    ] {
        assert_eq!(status("GET /healthz", fields).await, 200, "{fields}");
    }
    let host = "host: localhost\r\n";
    assert_eq!(status("GET http://evil.example/healthz", host).await, 200);
    assert_eq!(status("GET /healthz/", host).await, 200);
    for target in [
        "//healthz",
        "/HEALTHZ",
        "/%68ealthz",
        "/./healthz",
        "/v1/../healthz",
        "/v1/%2e%2e/healthz",
        "http://evil.example//healthz",
        "/healthz%00",
        "/healthz;a=b",
    ] {
        assert_eq!(
            status(&format!("GET {target}"), host).await,
            404,
            "{target}"
        );
    }
    for line in [
        "CONNECT x:1",
        "OPTIONS *",
        "TRACE /healthz",
        "BREW /healthz",
    ] {
        let found = status(line, host).await;
        assert!((400..500).contains(&found), "{line}: {found}");
    }
}
