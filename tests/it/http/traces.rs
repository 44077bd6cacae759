//! Traces of requests, as a collector gets them: which spans, in which order, under whose trace,
//! and nothing of what was said.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use serde_json::{Value, json};
use steersman::http::HttpSettings;
use steersman::service::{App, ServiceSettings};
use steersman::telemetry::Traces;

use super::client::{Server, post};
use super::folder;

const CANARY: &str = "canary91b2";

/// A collector that takes one post.
fn collector() -> (String, JoinHandle<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let taking = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = BufReader::new(stream);
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.get_mut().write_all(reply).unwrap();
        (head, body)
    });
    (url, taking)
}

/// One field of a protobuf message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// A protobuf message's fields by number, in order.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (first, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => {
                let (number, rest) = bytes.split_first_chunk().unwrap();
                bytes = rest;
                Field::Number(u64::from_le_bytes(*number))
            }
            2 => {
                let length = varint(&mut bytes) as usize;
                let (content, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(content)
            }
            5 => {
                let (number, rest) = bytes.split_first_chunk().unwrap();
                bytes = rest;
                Field::Number(u64::from(u32::from_le_bytes(*number)))
            }
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, field));
    }
    found
}

fn messages(bytes: &[u8], number: u64) -> Vec<&[u8]> {
    let fields = fields(bytes).into_iter();
    let of = |(found, field)| match field {
        Field::Bytes(content) if found == number => Some(content),
        _ => None,
    };
    fields.filter_map(of).collect()
}

fn number(bytes: &[u8], number: u64) -> Option<u64> {
    fields(bytes)
        .into_iter()
        .find_map(|(found, field)| match field {
            Field::Number(value) if found == number => Some(value),
            _ => None,
        })
}

fn text(bytes: &[u8], number: u64) -> String {
    let content = messages(bytes, number).first().copied().unwrap_or_default();
    String::from_utf8(content.to_vec()).unwrap()
}

/// Attributes (field `number`) as `key=value`.
fn attributes(bytes: &[u8], number: u64) -> Vec<String> {
    let pairs = messages(bytes, number).into_iter();
    pairs
        .map(|pair| {
            let key = text(pair, 1);
            let value = messages(pair, 2)[0];
            match fields(value).first() {
                Some((1, Field::Bytes(_))) => format!("{key}={}", text(value, 1)),
                Some((2, Field::Number(flag))) => format!("{key}={}", *flag == 1),
                Some((3, Field::Number(count))) => format!("{key}={count}"),
                _ => panic!("{key}"),
            }
        })
        .collect()
}

struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    start: u64,
    end: u64,
    attributes: Vec<String>,
}

impl Span {
    fn of(bytes: &[u8]) -> Self {
        let hex = |field: u64| {
            let content = messages(bytes, field).first().copied().unwrap_or_default();
            content.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        Self {
            trace: hex(1),
            id: hex(2),
            parent: hex(4),
            name: text(bytes, 5),
            start: number(bytes, 7).unwrap(),
            end: number(bytes, 8).unwrap(),
            attributes: attributes(bytes, 9),
        }
    }

    fn has(&self, attribute: &str) -> bool {
        self.attributes.iter().any(|it| it == attribute)
    }
}

/// The trace that a caller works on, and its own span.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// What a collector was posted of one request, and what its caller was told.
struct Posted {
    head: String,
    body: Vec<u8>,
    version: String,
    usage: Value,
}

async fn posted() -> Posted {
    let (url, taking) = collector();
    let traces = Traces::start(Some(&url)).unwrap();
    assert!(traces.are_on());
    let settings = HttpSettings {
        traces: traces.clone(),
        ..HttpSettings::default()
    };
    let dir = folder::with_policies();
    let app = App::load(dir.path(), &ServiceSettings::default()).unwrap();
    let server = Server::told(app, &settings);
    let body = json!({"prompt": CANARY, "max_tokens": 5, "ignore_eos": true, "user": CANARY});
    let mut request = post("/v1/generate?q=canary91b2", &body.to_string());
    let headers = request.headers_mut();
    headers.insert("x-request-id", "r-17".parse().unwrap());
    headers.insert("authorization", format!("Bearer {CANARY}").parse().unwrap());
    let parent = format!("00-{TRACE}-{PARENT}-01");
    headers.insert("traceparent", parent.parse().unwrap());
    let reply = server.ask(request).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let version = reply.header("x-policy-version").to_owned();
    let usage = reply.json()["usage"].clone();
    // one that its caller does not keep is not told
    let mut unsampled = post("/v1/generate", &body.to_string());
    let parent = parent.replace("-01", "-00");
    unsampled
        .headers_mut()
        .insert("traceparent", parent.parse().unwrap());
    server.ask(unsampled).await;
    tokio::task::spawn_blocking(move || traces.end())
        .await
        .unwrap();
    let (head, body) = taking.join().unwrap();
    Posted {
        head,
        body,
        version,
        usage,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_a_request_with_its_wait_prefill_and_decoding() {
    let Posted {
        head,
        body,
        version,
        usage,
    } = posted().await;
    assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
    assert!(head.contains("application/x-protobuf"), "{head}");
    let told = String::from_utf8_lossy(&body).into_owned();
    assert!(!told.contains(CANARY), "{told}");
    let resource = messages(&body, 1)[0];
    let service = attributes(messages(resource, 1)[0], 1);
    assert!(
        service.contains(&"service.name=steersman".to_owned()),
        "{service:?}"
    );
    let scope = messages(resource, 2)[0];
    let spans: Vec<Span> = messages(scope, 2).into_iter().map(Span::of).collect();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["queue", "prefill", "decode", "POST /v1/generate"]);
    assert!(spans.iter().all(|span| span.trace == TRACE));
    let [queue, prefill, decode, request] = &spans[..] else {
        panic!("{names:?}");
    };
    assert_eq!(request.parent, PARENT);
    for stage in [queue, prefill, decode] {
        assert_eq!(stage.parent, request.id, "{}", stage.name);
        assert!(
            request.start <= stage.start && stage.end <= request.end,
            "{}",
            stage.name
        );
    }
    assert!(queue.start <= queue.end && queue.end == prefill.start);
    assert!(prefill.start < prefill.end && prefill.end == decode.start);
    assert!(decode.start < decode.end);
    let prompt = format!("gen_ai.usage.input_tokens={}", usage["prompt_tokens"]);
    for attribute in [
        "http.response.status_code=200",
        "steersman.request_id=r-17",
        "gen_ai.response.model=kind",
        &format!("steersman.policy_version={version}"),
        "gen_ai.usage.output_tokens=5",
        "steersman.complete=true",
        &prompt,
    ] {
        assert!(
            request.has(attribute),
            "{attribute}: {:?}",
            request.attributes
        );
    }
    assert!(prefill.has(&prompt), "{:?}", prefill.attributes);
    assert!(
        decode.has("gen_ai.usage.output_tokens=5"),
        "{:?}",
        decode.attributes
    );
    assert!(
        decode.has("gen_ai.response.finish_reasons=length"),
        "{:?}",
        decode.attributes
    );
}
