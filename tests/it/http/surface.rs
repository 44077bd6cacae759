//! Everything but the answers: models, objectives, health, errors of the router, the document.

use std::path::Path;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::json;
use steersman::service::{Dtype, ServiceSettings};

use super::client::Server;
use super::folder;

#[tokio::test]
async fn models_are_listed_with_versions_and_objectives() {
    let seen = Server::shared().get("/v1/models").await.json();
    assert_eq!(seen["object"], "list");
    let [kind, base, plain] = seen["data"].as_array().unwrap().as_slice() else {
        panic!("{seen}")
    };
    assert_eq!(
        (&kind["id"], &plain["id"]),
        (&json!("kind"), &json!("plain"))
    );
    assert_eq!(
        (&kind["default"], &base["default"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(kind["root"], base["id"]);
    assert_eq!(kind["objectives"][1]["max_weight"], 10.0);
    assert_eq!(kind["max_model_len"], 128);
    assert_eq!(base["objectives"], json!([]));
    let versions = [base, kind, plain].map(|model| model["policy_version"].as_str().unwrap());
    assert!(versions[1].starts_with("kind-") && versions[1].len() == "kind-".len() + 12);
    assert_ne!(versions[1]["kind-".len()..], versions[2]["plain-".len()..]);
}

#[tokio::test]
async fn slashes_too_many_change_nothing() {
    let server = Server::shared();
    for (path, plain) in [
        ("/v1/models/", "/v1/models"),
        ("/v1//models", "/v1/models"),
        (
            "/v1/models/kind@helpfulness=1/",
            "/v1/models/kind@helpfulness=1",
        ),
        ("/v1/objectives/?model=kind", "/v1/objectives?model=kind"),
    ] {
        let (with, without) = (server.get(path).await, server.get(plain).await);
        assert_eq!(with.status, StatusCode::OK, "{path}: {}", with.text);
        assert_eq!(with.text, without.text, "{path}");
    }
    let body = json!({"prompt": "Hello", "max_tokens": 2, "seed": 1});
    let reply = server.post("/v1//generate/", &body).await;
    assert_eq!(reply.json()["text"], server.generate(body).await["text"]);
}

#[tokio::test]
async fn other_numbers_are_told_and_are_another_version() {
    let dir = folder::with_policies();
    let card = async |dtype: Dtype| {
        let settings = ServiceSettings {
            dtype,
            ..ServiceSettings::default()
        };
        let server = Server::over(dir.path(), &settings);
        let body = json!({"prompt": "Hello", "max_tokens": 3});
        let version = server.generate(body).await["steering"]["policy_version"].clone();
        let card = server.get("/v1/models/kind").await.json();
        assert_eq!(card["policy_version"], version);
        card
    };
    let (auto, f32, bf16) = (
        card(Dtype::Auto).await,
        card(Dtype::F32).await,
        card(Dtype::Bf16).await,
    );
    assert_eq!(
        (&f32["dtype"], &bf16["dtype"]),
        (&json!("f32"), &json!("bf16"))
    );
    // what the fixture is served in by itself
    assert_eq!(auto["policy_version"], f32["policy_version"]);
    assert_ne!(bf16["policy_version"], f32["policy_version"]);
}

#[tokio::test]
async fn a_model_is_found_by_every_way_to_write_its_id() {
    let server = Server::shared();
    for id in [
        "kind",
        "default",
        "kind@helpfulness=0.7,harmlessness=0.3",
        "kind%40helpfulness%3D1",
    ] {
        let reply = server.get(&format!("/v1/models/{id}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{id}: {}", reply.text);
        assert_eq!(
            reply.json()["policy_version"],
            reply.header("x-policy-version")
        );
        assert!(reply.header("x-policy-version").starts_with("kind-"));
        assert_eq!(
            reply.json().get("steering").is_some(),
            id.contains('=') || id.contains("%3D")
        );
    }
    for id in ["org/model", "org%2Fmodel", "nope", "nope:free", "a/b/c"] {
        let reply = server.get(&format!("/v1/models/{id}")).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{id}");
        assert_eq!(reply.json()["error"]["code"], "model_not_found");
        let asked = id.replace("%2F", "/");
        assert!(
            reply.text.contains(&format!("`{asked}`")),
            "{id}: {}",
            reply.text
        );
    }
    let reply = server.get("/v1/models/kind@kindness=1").await;
    assert_eq!(reply.json()["error"]["code"], "unknown_objective");
}

#[tokio::test]
async fn objectives_tell_names_ranges_and_defaults() {
    let server = Server::shared();
    let seen = server.get("/v1/objectives").await.json();
    assert_eq!(seen["model"], "kind");
    assert_eq!(seen["description"], "a policy of the tests");
    assert_eq!(seen["decimals"], 1);
    assert_eq!(seen["objectives"][0]["name"], "helpfulness");
    assert_eq!(seen["objectives"][0]["default_weight"], 3.0);
    assert!(seen["objectives"][0]["max_weight"].is_null());
    let plain = server.get("/v1/objectives?model=plain").await.json();
    assert_eq!(plain["objectives"], json!([]));
    assert_eq!(
        server.get("/v1/objectives?model=x").await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        server.get("/v1/objectives?modle=x").await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn health_readiness_and_version_answer() {
    let server = Server::shared();
    for path in ["/healthz", "/health", "/ping"] {
        assert_eq!(server.get(path).await.json(), json!({"status": "live"}));
    }
    assert_eq!(
        server.get("/readyz").await.json(),
        json!({"status": "ready"})
    );
    let version = json!({"name": "steersman", "version": env!("CARGO_PKG_VERSION")});
    assert_eq!(server.get("/version").await.json(), version);
}

#[tokio::test]
async fn the_playground_is_one_page_that_loads_nothing_else() {
    let page = Server::shared().get("/").await;
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(
        page.header("content-security-policy")
            .contains("default-src 'none'")
    );
    for outside in ["src=\"http", "href=\"http", "@import", "//cdn"] {
        assert!(!page.text.contains(outside), "{outside}");
    }
}

#[tokio::test]
async fn the_docs_come_whole_from_this_server_under_a_strict_policy() {
    let server = Server::shared();
    let page = server.get("/docs").await;
    assert!(page.header("content-type").starts_with("text/html"));
    let policy = page.header("content-security-policy");
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    let mut files = Vec::new();
    for part in page
        .text
        .split(['"'])
        .filter(|part| part.starts_with("docs/"))
    {
        let file = server.get(&format!("/{part}")).await;
        assert_eq!(file.status, StatusCode::OK, "{part}");
        assert_eq!(file.header("x-content-type-options"), "nosniff");
        files.push(file.text);
    }
    assert_eq!(files.len(), 2);
    files.push(page.text);
    for text in files {
        // what the policy would block, and what would need another server
        for outside in [
            "http://",
            "https://",
            "//cdn",
            "@import",
            "style=",
            "innerHTML",
            "eval(",
        ] {
            assert!(!text.contains(outside), "{outside}");
        }
        assert!(!text.contains("<script>") && !text.contains("onclick=\""));
    }
    assert_eq!(
        server.get("/docs/other.js").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn what_the_router_refuses_has_the_same_shape() {
    let server = Server::shared();
    for path in ["/nope", "/v1", "//v1/models", "/v1/%2e%2e/secret"] {
        let reply = server.get(path).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(reply.json()["error"]["type"], "not_found_error");
    }
    for (method, path) in [
        ("PUT", "/healthz"),
        ("GET", "/v1/generate"),
        ("GET", "/v1/generate/"),
        ("DELETE", "/v1/models/x"),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::empty())
            .unwrap();
        let reply = server.ask(request).await;
        assert_eq!(
            reply.status,
            StatusCode::METHOD_NOT_ALLOWED,
            "{method} {path}"
        );
        assert_eq!(reply.json()["error"]["code"], "method_not_allowed");
        assert_ne!(reply.header("allow"), "");
    }
}

#[tokio::test]
async fn the_requests_id_is_honoured_or_invented() {
    let server = Server::shared();
    let ask = async |id: &str, path: &str| {
        let request = Request::get(path)
            .header("x-request-id", id)
            .body(Body::empty())
            .unwrap();
        server.ask(request).await.header("x-request-id").to_owned()
    };
    assert_eq!(ask("abc-123", "/healthz").await, "abc-123");
    assert_eq!(ask("abc-123", "/nope").await, "abc-123");
    assert_eq!(ask(&"x".repeat(128), "/healthz").await, "x".repeat(128));
    for unsound in ["x".repeat(129), "a b\tc".to_owned()] {
        let invented = ask(&unsound, "/healthz").await;
        assert_eq!(invented.len(), 32, "{invented}");
    }
    let (one, other) = (ask("", "/healthz").await, ask("", "/healthz").await);
    assert!(one.len() == 32 && one != other);
}

#[tokio::test]
async fn the_document_is_the_committed_one_and_names_every_route() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap();
    let served = Server::shared().get("/openapi.json").await;
    assert!(
        served.text == committed,
        "openapi/openapi.json is not what the handlers say; run `cargo run -- openapi --write`"
    );
    let document = served.json();
    for path in [
        "/v1/generate",
        "/v1/sweep",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/tokenize",
        "/v1/detokenize",
        "/v1/models",
        "/v1/models/{id}",
        "/v1/objectives",
        "/v1/profiles",
        "/v1/profiles/{id}",
        "/v1/profiles/{id}/comparisons",
        "/v1/profiles/{id}/comparisons/next",
        "/healthz",
        "/readyz",
        "/version",
        "/metrics",
    ] {
        let methods = document["paths"][path]
            .as_object()
            .unwrap_or_else(|| panic!("{path}"));
        for operation in methods.values() {
            assert!(
                operation["operationId"].is_string() && operation["summary"].is_string(),
                "{path}"
            );
        }
    }
    // every reference leads somewhere
    for (at, _) in committed.match_indices("\"#/components/schemas/") {
        let name = committed[at + 22..].split('"').next().unwrap();
        assert!(
            document["components"]["schemas"][name].is_object(),
            "{name}"
        );
    }
}
