//! A server on a real socket, and clients that write bytes as no library would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use steersman::engine::EngineConfig;
use steersman::http::{HttpSettings, ListenerSettings, Side, serve};
use steersman::service::{App, Phase, ServiceSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::folder;

/// Long enough for anything here, short of a hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that listens.
pub(super) struct Listening {
    pub(super) app: Arc<App>,
    pub(super) addr: SocketAddr,
    served: JoinHandle<std::io::Result<()>>,
}

/// A reply as it came over the wire.
pub(super) struct RawReply {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Listening {
    /// Over the folder with two policies.
    pub(super) async fn start(http: HttpSettings, limits: ListenerSettings) -> Self {
        let dir = folder::with_policies();
        let settings = ServiceSettings {
            engine: EngineConfig::default(),
            ..ServiceSettings::default()
        };
        let app = Arc::new(App::load(dir.path(), &settings).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let served = {
            let app = Arc::clone(&app);
            tokio::spawn(async move { serve(listener, app, Side::Public, &http, limits).await })
        };
        Self { app, addr, served }
    }

    /// With bounds that no test here meets.
    pub(super) async fn usual() -> Self {
        Self::start(HttpSettings::default(), ListenerSettings::default()).await
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Writes bytes and reads what comes until the server closes.
    pub(super) async fn send(&self, bytes: &[u8]) -> RawReply {
        let mut stream = self.connect().await;
        // who is refused early may not take the rest
        let _ = stream.write_all(bytes).await;
        read(&mut stream).await
    }

    /// The same, where the server may have ended already.
    pub(super) async fn try_send(&self, bytes: &[u8]) -> Option<RawReply> {
        let mut stream = TcpStream::connect(self.addr).await.ok()?;
        let _ = stream.write_all(bytes).await;
        let text = read_all(&mut stream).await;
        text.starts_with("HTTP/1.1 ").then(|| RawReply::of(&text))
    }

    /// Fails unless a fresh connection is served.
    pub(super) async fn goes_on_serving(&self) {
        let reply = self
            .send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    }

    /// Begins to drain and waits until the server has ended.
    pub(super) async fn drain(self) {
        self.app.lifecycle().advance(Phase::Draining);
        self.ended().await;
    }

    /// Waits until the server has ended.
    pub(super) async fn ended(self) {
        let served = tokio::time::timeout(PATIENCE, self.served).await;
        served.expect("ends").unwrap().unwrap();
    }
}

/// A POST of JSON to a route, whole.
pub(super) fn post(path: &str, body: &str, more: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{more}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Everything up to the end, or to where the connection broke.
pub(super) async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    // a reset ends it too
    let _ = tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("the server closes");
    String::from_utf8(bytes).unwrap()
}

/// Reads until the server closes; one reply.
pub(super) async fn read(stream: &mut TcpStream) -> RawReply {
    RawReply::of(&read_all(stream).await)
}

/// Reads until the text has come.
pub(super) async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = Vec::new();
    let reading = async {
        let mut part = [0; 1024];
        while !String::from_utf8_lossy(&seen).contains(text) {
            let count = stream.read(&mut part).await.unwrap();
            assert!(count > 0, "closed after {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&part[..count]);
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("comes");
    String::from_utf8(seen).unwrap()
}

impl RawReply {
    pub(super) fn of(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        Self {
            status: status.unwrap_or_else(|| panic!("no reply: {text:?}")),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    /// Fails unless it is this error, in the shape of every error.
    pub(super) fn check(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{} {}", self.head, self.body);
        let body: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(body["error"]["code"], code, "{body}");
        let keys: Vec<_> = body["error"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["message", "type", "param", "code"]);
        assert!(self.head.contains("x-request-id: "), "{}", self.head);
    }
}
