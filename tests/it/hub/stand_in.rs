//! A stand-in for a hub and for the host that its large files lie on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde_json::json;

use crate::elsewhere;

pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(super) const REPOSITORY: &str = "org/tiny";

/// What goes wrong, once.
#[derive(Clone)]
pub(super) enum Trick {
    /// An answer with this status, the hub's code for it, and its sentence.
    Refuse(u16, Option<&'static str>, &'static str),
    /// Only so many bytes of the body; then the connection ends.
    Cut(usize),
    /// Only so many bytes of the body; then nothing more.
    Stall(usize),
    /// The body with another first byte.
    Damage,
    /// All of the file, whatever range is asked for.
    Whole,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) of_hub: bool,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) token: Option<String>,
    pub(super) range: Option<String>,
}

#[derive(Default)]
struct Shared {
    files: BTreeMap<String, Vec<u8>>,
    elsewhere: String,
    tricks: Vec<(Method, &'static str, Trick)>,
    seen: Vec<Seen>,
}

/// A hub that has one repository, at one commit.
pub(super) struct StandIn {
    pub(super) url: String,
    shared: Arc<Mutex<Shared>>,
}

impl StandIn {
    pub(super) fn start(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let shared = Arc::new(Mutex::new(Shared {
            files: files.into_iter().collect(),
            ..Shared::default()
        }));
        // by another name, so that it is another host
        let elsewhere = listen(&shared, false).replace("127.0.0.1", "localhost");
        shared.lock().unwrap().elsewhere = elsewhere;
        Self {
            url: listen(&shared, true),
            shared,
        }
    }

    /// Lets the next request of this method for a file, or route, that ends so go wrong.
    pub(super) fn trick(&self, method: Method, end: &'static str, trick: Trick) {
        self.shared
            .lock()
            .unwrap()
            .tricks
            .push((method, end, trick));
    }

    /// What came since this was last asked.
    pub(super) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.lock().unwrap().seen)
    }
}

fn listen(shared: &Arc<Mutex<Shared>>, of_hub: bool) -> String {
    let router = Router::new()
        .fallback(answer)
        .with_state((Arc::clone(shared), of_hub));
    elsewhere::serve(router)
}

async fn answer(
    State((shared, of_hub)): State<(Arc<Mutex<Shared>>, bool)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let header = |name: &str| Some(headers.get(name)?.to_str().unwrap().to_owned());
    let mut shared = shared.lock().unwrap();
    shared.seen.push(Seen {
        of_hub,
        method: method.to_string(),
        path: uri.path().to_owned(),
        token: header("authorization"),
        range: header("range"),
    });
    // a body goes wrong where it comes from, not where the redirect does
    let is_body = !of_hub || uri.path().contains("/small/");
    let tricks = &mut shared.tricks;
    let found = tricks.iter().position(|(on, end, trick)| {
        let is_here = matches!(trick, Trick::Refuse(..)) || is_body;
        *on == method && uri.path().ends_with(end) && is_here
    });
    let trick = found.map(|at| tricks.remove(at).2);
    if let Some(Trick::Refuse(status, code, reason)) = trick {
        let mut response = StatusCode::from_u16(status).unwrap().into_response();
        let headers = response.headers_mut();
        headers.insert("x-error-message", reason.parse().unwrap());
        if let Some(code) = code {
            headers.insert("x-error-code", code.parse().unwrap());
        }
        return response;
    }
    let path = uri.path();
    if path.starts_with(&format!("/api/models/{REPOSITORY}/revision/")) {
        let names = shared.files.keys();
        let siblings: Vec<_> = names.map(|name| json!({"rfilename": name})).collect();
        let info = json!({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings});
        return axum::Json(info).into_response();
    }
    let resolve = format!("/{REPOSITORY}/resolve/{COMMIT}/");
    match path.strip_prefix(&resolve) {
        Some(name) if of_hub => send_on(&shared, name),
        _ => {
            let name = path
                .trim_start_matches("/small/")
                .trim_start_matches("/large/");
            content(&shared, name, header("range"), trick)
        }
    }
}

/// Large files lie elsewhere, small ones at another route of the hub.
fn send_on(shared: &Shared, name: &str) -> Response {
    let Some(bytes) = shared.files.get(name) else {
        return (StatusCode::NOT_FOUND, [("x-error-code", "EntryNotFound")]).into_response();
    };
    if !name.ends_with(".safetensors") && !name.ends_with(".gguf") {
        let location = format!("/small/{name}");
        return (StatusCode::TEMPORARY_REDIRECT, [("location", location)]).into_response();
    }
    let headers = [
        (
            "location",
            format!("{}/large/{name}?signed=yes", shared.elsewhere),
        ),
        ("x-linked-etag", format!("\"{}\"", etag(name, bytes))),
        ("x-linked-size", bytes.len().to_string()),
    ];
    (StatusCode::FOUND, headers).into_response()
}

fn content(shared: &Shared, name: &str, range: Option<String>, trick: Option<Trick>) -> Response {
    let Some(bytes) = shared.files.get(name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let range = range.filter(|_| !matches!(trick, Some(Trick::Whole)));
    let start = range.map(|range| {
        let start = range.strip_prefix("bytes=").unwrap().trim_end_matches('-');
        start.parse::<usize>().unwrap()
    });
    let mut rest = bytes[start.unwrap_or(0)..].to_vec();
    let (length, most) = match trick {
        Some(Trick::Cut(most) | Trick::Stall(most)) => (rest.len(), most),
        _ => (rest.len(), rest.len()),
    };
    if matches!(trick, Some(Trick::Damage)) {
        rest[0] ^= 1;
    }
    rest.truncate(most);
    let first = stream::iter([Ok(Bytes::from(rest))]);
    let body = match trick {
        Some(Trick::Cut(_)) => {
            // what was sent so far leaves the server while it waits for more
            let end = stream::once(async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("cut"))
            });
            Body::from_stream(first.chain(end))
        }
        Some(Trick::Stall(_)) => Body::from_stream(first.chain(stream::pending())),
        _ => Body::from_stream(first),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert("content-length", length.into());
    headers.insert(
        "etag",
        format!("\"{}\"", etag(name, bytes)).parse().unwrap(),
    );
    if let Some(start) = start {
        let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
        headers.insert("content-range", range.parse().unwrap());
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

/// What a hub calls a file's content: SHA-256 of a large file, else git's hash of it.
pub(super) fn etag(name: &str, bytes: &[u8]) -> String {
    let sum = match name.ends_with(".safetensors") || name.ends_with(".gguf") {
        true => digest(&SHA256, bytes),
        false => {
            let blob = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
            digest(&SHA1_FOR_LEGACY_USE_ONLY, &blob)
        }
    };
    let hex = sum.as_ref().iter().map(|byte| format!("{byte:02x}"));
    hex.collect()
}
