//! Who may do what: no key, wrong keys, scopes, bounds of weights.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use steersman::service::{ApiKey, NewKey, Scope, WeightRange, create_key, revoke_key};
use steersman::store::Store;

use super::client::{Reply, Server};
use crate::store::backends;

/// A server and its store, on which keys can be made.
pub(super) struct Guarded {
    server: Server,
    store: Store,
}

impl Guarded {
    pub(super) async fn key(&self, new: NewKey) -> (String, ApiKey) {
        let (secret, key) = create_key(&self.store, new).await.unwrap();
        (secret.reveal().to_owned(), key)
    }

    pub(super) async fn with(&self, scopes: &[Scope]) -> String {
        let new = NewKey {
            scopes: scopes.to_vec(),
            ..NewKey::default()
        };
        self.key(new).await.0
    }

    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        secret: Option<&str>,
        body: &Value,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(secret) = secret {
            request = request.header("authorization", format!("Bearer {secret}"));
        }
        let request = request.header("content-type", "application/json");
        self.server
            .ask(request.body(Body::from(body.to_string())).unwrap())
            .await
    }

    async fn put(&self, id: &str, weights: Value) {
        let admin = self.with(&[Scope::Admin]).await;
        let body = json!({"objective_weights": weights});
        let path = format!("/v1/profiles/{id}");
        let reply = self.ask("PUT", &path, Some(&admin), &body).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
    }

    pub(super) async fn generate(&self, secret: &str, body: Value) -> Reply {
        let mut request = json!({"prompt": "Hello there", "max_tokens": 1});
        for (key, value) in body.as_object().unwrap() {
            request[key] = value.clone();
        }
        self.ask("POST", "/v1/generate", Some(secret), &request)
            .await
    }
}

pub(super) async fn on_each(test: impl AsyncFn(&Guarded)) {
    for backend in backends().await {
        backend.announce();
        let store = Store::open(&backend.settings).await.unwrap();
        let server = Server::with_store(store.clone());
        test(&Guarded {
            server,
            store: store.clone(),
        })
        .await;
        store.close().await;
        backend.end().await;
    }
}

pub(super) fn check_error(reply: &Reply, status: u16, kind: &str, code: &str) {
    assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    let error = reply.json()["error"].clone();
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!(kind), &json!(code)),
        "{error}"
    );
}

fn check_401(reply: &Reply, words: &str) {
    check_error(reply, 401, "authentication_error", "invalid_api_key");
    assert_eq!(reply.header("www-authenticate"), "Bearer");
    assert!(
        reply.text.contains(words),
        "{words} is not in {}",
        reply.text
    );
}

/// Every route of the document: method, path with ids filled in, whether it is open to all.
fn routes(document: &Value) -> Vec<(Method, String)> {
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            routes.push((method, path.replace("{id}", "kind")));
        }
    }
    routes
}

#[tokio::test]
async fn without_a_key_only_the_open_routes_answer() {
    on_each(async |guarded: &Guarded| {
        let open = ["/healthz", "/health", "/ping", "/readyz"];
        let document = guarded.server.get("/openapi.json").await.json();
        let key = guarded.with(&[]).await;
        let wrong = format!("sk-steer-{}", "0".repeat(64));
        let mut checked = 0;
        for (method, path) in routes(&document) {
            for secret in [None, Some(wrong.as_str()), Some("x"), Some("")] {
                let reply = guarded
                    .ask(method.as_str(), &path, secret, &json!({}))
                    .await;
                match open.contains(&path.as_str()) {
                    true => assert_eq!(reply.status, StatusCode::OK, "{method} {path}"),
                    false => check_401(&reply, "key"),
                }
                checked += 1;
            }
            // a key without scopes: what needs one answers 403, the rest as usual
            let reply = guarded
                .ask(method.as_str(), &path, Some(&key), &json!({}))
                .await;
            assert_ne!(reply.status, StatusCode::UNAUTHORIZED, "{method} {path}");
            let security = &document["paths"][path.replace("kind", "{id}")]
                [method.as_str().to_lowercase()]["security"][0]["key"];
            let scoped = security.as_array().is_some_and(|scopes| !scopes.is_empty());
            assert_eq!(
                reply.status == StatusCode::FORBIDDEN,
                scoped,
                "{method} {path}"
            );
        }
        assert!(checked >= 4 * 18, "{checked}");
        // no method that a route does not document is a way in
        for (_, path) in routes(&document) {
            for method in [
                "GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "LINK",
            ] {
                let reply = guarded.ask(method, &path, None, &json!({})).await;
                let is_open = open.contains(&path.as_str()) && method == "GET";
                let refused = [StatusCode::UNAUTHORIZED, StatusCode::METHOD_NOT_ALLOWED];
                assert_eq!(!refused.contains(&reply.status), is_open, "{method} {path}");
            }
        }
        for path in ["/", "/openapi.json", "/docs", "/docs/page.js"] {
            assert_eq!(guarded.server.get(path).await.status, StatusCode::OK);
        }
        // other ways to write a path find no other door
        for path in [
            "//v1/models",
            "/V1/models",
            "/v1/models/",
            "/v1/%6dodels",
            "/v1/./models",
        ] {
            let reply = guarded.server.get(path).await;
            assert!(
                [StatusCode::NOT_FOUND, StatusCode::UNAUTHORIZED].contains(&reply.status),
                "{path}: {}",
                reply.text
            );
        }
        let head = guarded.ask("HEAD", "/v1/models", None, &json!({})).await;
        assert_eq!(head.status, StatusCode::UNAUTHORIZED);
    })
    .await;
}

#[tokio::test]
async fn a_server_is_open_until_its_first_key_and_closed_for_ever_after() {
    on_each(async |guarded: &Guarded| {
        let models =
            async |secret: Option<&str>| guarded.ask("GET", "/v1/models", secret, &json!({})).await;
        // clients that must send some key may
        assert_eq!(models(None).await.status, StatusCode::OK);
        assert_eq!(models(Some("dummy")).await.status, StatusCode::OK);
        let (secret, key) = guarded.key(NewKey::default()).await;
        check_401(&models(None).await, "authorization: Bearer KEY");
        check_401(&models(Some("dummy")).await, "not known");
        assert_eq!(models(Some(&secret)).await.status, StatusCode::OK);
        let request = Request::get("/v1/models").header("authorization", format!("Basic {secret}"));
        let reply = guarded.server.ask(request.body(Body::empty()).unwrap());
        check_401(&reply.await, "`Bearer KEY`");

        assert!(revoke_key(&guarded.store, &key.id).await.unwrap());
        let followed = async {
            while models(Some(&secret)).await.status == StatusCode::OK {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(3), followed)
            .await
            .unwrap();
        check_401(&models(Some(&secret)).await, "revoked");
        check_401(&models(None).await, "needs an API key");

        let expired = NewKey {
            lifetime: Some(Duration::ZERO),
            ..NewKey::default()
        };
        let (secret, _) = guarded.key(expired).await;
        check_401(&models(Some(&secret)).await, "expired");
    })
    .await;
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say() {
    on_each(async |guarded: &Guarded| {
        let generates = guarded.with(&[Scope::Generate]).await;
        let profiles = guarded.with(&[Scope::Profiles]).await;
        let admin = guarded.with(&[Scope::Admin]).await;
        let list = async |secret: &str| {
            guarded
                .ask("GET", "/v1/profiles", Some(secret), &json!({}))
                .await
        };
        let refused = list(&generates).await;
        check_error(&refused, 403, "permission_error", "scope_required");
        assert!(refused.text.contains("`profiles`") && refused.text.contains("generate"));
        assert_eq!(list(&profiles).await.status, StatusCode::OK);
        assert_eq!(list(&admin).await.status, StatusCode::OK);
        let refused = guarded.generate(&profiles, json!({})).await;
        check_error(&refused, 403, "permission_error", "scope_required");
        assert_eq!(
            guarded.generate(&generates, json!({})).await.status,
            StatusCode::OK
        );
        assert_eq!(
            guarded.generate(&admin, json!({})).await.status,
            StatusCode::OK
        );
    })
    .await;
}

#[tokio::test]
async fn a_keys_default_profile_fills_in_and_its_bounds_hold_everywhere() {
    on_each(async |guarded: &Guarded| {
        let calm = json!({"helpfulness": 1, "harmlessness": 1});
        guarded.put("calm", calm).await;
        guarded.put("wild", json!({"helpfulness": 1})).await;
        let bounded = NewKey {
            scopes: vec![Scope::Generate],
            default_profile: Some("calm".to_owned()),
            weight_ranges: vec![WeightRange {
                objective: "harmlessness".to_owned(),
                least: 0.3,
                most: 1.0,
            }],
            ..NewKey::default()
        };
        let (secret, _) = guarded.key(bounded.clone()).await;
        let source = async |body: Value| {
            let reply = guarded.generate(&secret, body).await;
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
            reply.json()["steering"]["source"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(source(json!({})).await, "key");
        assert_eq!(source(json!({"user": "nobody"})).await, "key");
        assert_eq!(source(json!({"user": "calm"})).await, "user");
        assert_eq!(source(json!({"objective_weights": [7, 3]})).await, "body");
        for body in [
            json!({"objective_weights": [0.8, 0.2]}),
            json!({"profile": "wild"}),
            json!({"user": "wild"}),
            json!({"model": "kind@wild"}),
            json!({"model": "kind@helpfulness=1"}),
        ] {
            let refused = guarded.generate(&secret, body).await;
            check_error(
                &refused,
                403,
                "permission_error",
                "objective_weight_forbidden",
            );
            let error = refused.json()["error"].clone();
            assert_eq!(error["param"], "objective_weights.harmlessness");
            assert!(refused.text.contains("from 0.3 to 1"), "{}", refused.text);
        }
        // the checkpoint's own defaults (0.75, 0.25) are no way round the bounds
        let without = NewKey {
            default_profile: None,
            ..bounded
        };
        let (secret, _) = guarded.key(without).await;
        let refused = guarded.generate(&secret, json!({})).await;
        check_error(
            &refused,
            403,
            "permission_error",
            "objective_weight_forbidden",
        );
    })
    .await;
}

#[tokio::test]
async fn a_keys_default_profile_that_is_gone_is_said_and_not_replaced() {
    on_each(async |guarded: &Guarded| {
        guarded.put("calm", json!({"helpfulness": 1})).await;
        let lost = NewKey {
            scopes: vec![Scope::Generate],
            default_profile: Some("lost".to_owned()),
            ..NewKey::default()
        };
        let (secret, _) = guarded.key(lost).await;
        let refused = guarded.generate(&secret, json!({})).await;
        check_error(&refused, 404, "not_found_error", "profile_not_found");
        assert!(
            refused.text.contains("default profile of the API key"),
            "{}",
            refused.text
        );
        assert_eq!(
            guarded
                .generate(&secret, json!({"profile": "calm"}))
                .await
                .status,
            200
        );
    })
    .await;
}
