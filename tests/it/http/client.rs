//! Talks to the router as a client would, without a socket.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use steersman::engine::EngineConfig;
use steersman::http::{HttpSettings, router};
use steersman::service::{App, ServiceSettings};
use steersman::store::Store;
use tower::ServiceExt;

use super::folder;

/// A server of its own.
pub(crate) struct Server {
    pub(crate) app: Arc<App>,
    router: Router,
}

/// A whole reply.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Server {
    /// Over the folder with two policies.
    pub(crate) fn start(engine: EngineConfig) -> Self {
        // everything is read at the start, so the folder may go
        let dir = folder::with_policies();
        let settings = ServiceSettings {
            engine,
            ..ServiceSettings::default()
        };
        Self::over(dir.path(), &settings)
    }

    /// Over any folder.
    pub(crate) fn over(dir: &Path, settings: &ServiceSettings) -> Self {
        Self::of(App::load(dir, settings).unwrap())
    }

    /// Over the folder with two policies, with profiles and keys.
    pub(crate) fn with_store(store: Store) -> Self {
        let dir = folder::with_policies();
        let app = App::load(dir.path(), &ServiceSettings::default()).unwrap();
        Self::of(app.with_store(store))
    }

    /// Of an app.
    pub(crate) fn of(app: App) -> Self {
        Self::shared_by(Arc::new(app))
    }

    /// Of an app that somebody else has too.
    pub(crate) fn shared_by(app: Arc<App>) -> Self {
        Self::with_settings(app, &HttpSettings::default())
    }

    /// Of an app, with settings of its routes.
    pub(super) fn told(app: App, settings: &HttpSettings) -> Self {
        Self::with_settings(Arc::new(app), settings)
    }

    fn with_settings(app: Arc<App>, settings: &HttpSettings) -> Self {
        Self {
            router: router(Arc::clone(&app), settings),
            app,
        }
    }

    /// The server that tests share, where they change nothing about it.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(EngineConfig::default()))
    }

    /// Sends a request; the body is still under way.
    pub(crate) async fn send(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Sends a request and reads the reply to its end.
    pub(crate) async fn ask(&self, request: Request<Body>) -> Reply {
        let (parts, body) = self.send(request).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Reply {
            status: parts.status,
            headers: parts.headers,
            text,
        }
    }

    /// GETs a path.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    /// POSTs JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.ask(post(path, &body.to_string())).await
    }

    /// PUTs JSON.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Reply {
        let request = Request::put(path).header("content-type", "application/json");
        self.ask(request.body(Body::from(body.to_string())).unwrap())
            .await
    }

    /// DELETEs a path.
    pub(crate) async fn delete(&self, path: &str) -> Reply {
        let request = Request::delete(path).body(Body::empty());
        self.ask(request.unwrap()).await
    }

    /// POSTs JSON that must be answered with 200.
    pub(crate) async fn generate(&self, body: Value) -> Value {
        let reply = self.post("/v1/generate", &body).await;
        assert_eq!(reply.status, StatusCode::OK, "{body}: {}", reply.text);
        reply.json()
    }
}

/// A POST of JSON text.
pub(crate) fn post(path: &str, body: &str) -> Request<Body> {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(Body::from(body.to_owned())).unwrap()
}

impl Reply {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// One header's text; empty where it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The data of each server-sent event. Fails on any line that is neither data nor a comment.
    pub(crate) fn events(&self) -> Vec<String> {
        let lines = self
            .text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with(':'));
        let data = lines.map(|line| line.strip_prefix("data: ").map(str::to_owned));
        data.map(|data| data.unwrap_or_else(|| panic!("a strange line in {}", self.text)))
            .collect()
    }

    /// The chunks of a stream that ended well.
    pub(crate) fn chunks(&self) -> Vec<Value> {
        let mut events = self.events();
        assert_eq!(events.pop().as_deref(), Some("[DONE]"), "{}", self.text);
        events
            .iter()
            .map(|event| serde_json::from_str(event).unwrap())
            .collect()
    }
}
