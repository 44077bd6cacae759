//! The prefix cache between keys: what one key's callers asked serves that key alone. To anyone else
//! a prompt that is known costs as many tokens and iterations as a fresh one, so that there is nothing
//! to time. (`tests/e2e/tenants.py` holds a clock against the real server.)

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use steersman::engine::EngineConfig;
use steersman::service::{App, NewKey, Scope, ServiceSettings, create_key};
use steersman::store::{Store, StoreSettings};

use crate::http::client::Server;
use crate::http::folder;

const ROUNDS: usize = 12;

struct Tenants {
    server: Server,
    store: Store,
    _state: tempfile::TempDir,
}

/// What one prompt cost.
#[derive(Debug, PartialEq, Eq)]
struct Cost {
    prompt_tokens: u64,
    cached_tokens: u64,
    computed_tokens: u64,
    iterations: u64,
}

impl Tenants {
    async fn start() -> Self {
        let state = tempfile::tempdir().unwrap();
        let settings = StoreSettings {
            data_dir: state.path().to_owned(),
            database_url: None,
        };
        let store = Store::open(&settings).await.unwrap();
        let settings = ServiceSettings {
            engine: EngineConfig {
                // so that nothing is pushed out of the cache
                kv_tokens: Some(20_000),
                ..EngineConfig::default()
            },
            ..ServiceSettings::default()
        };
        let app = App::load(folder::with_policies().path(), &settings).unwrap();
        Self {
            server: Server::of(app.with_store(store.clone())),
            store,
            _state: state,
        }
    }

    async fn key(&self) -> String {
        let new = NewKey {
            scopes: vec![Scope::Generate, Scope::Metrics],
            ..NewKey::default()
        };
        let (key, _) = create_key(&self.store, new).await.unwrap();
        key.reveal().to_owned()
    }

    /// Tokens that were computed so far, and iterations.
    async fn work(&self, key: &str) -> (u64, u64) {
        let request = Request::get("/metrics").header("authorization", format!("Bearer {key}"));
        let page = self.server.ask(request.body(Body::empty()).unwrap()).await;
        let value = |name: &str| {
            let line = page.text.lines().find_map(|line| line.strip_prefix(name));
            let value: f64 = line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap();
            value as u64
        };
        (
            value("steersman_iteration_tokens_sum "),
            value("steersman_iteration_tokens_count "),
        )
    }

    /// Asks for one token.
    async fn ask(&self, key: &str, prompt: &str) -> Cost {
        let body = json!({"prompt": prompt, "max_tokens": 1, "ignore_eos": true, "seed": 1});
        let request = Request::post("/v1/generate")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {key}"))
            .body(Body::from(body.to_string()))
            .unwrap();
        let before = self.work(key).await;
        let reply = self.server.ask(request).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let after = self.work(key).await;
        let reply: Value = serde_json::from_str(&reply.text).unwrap();
        let count = |value: &Value| value.as_u64().unwrap();
        Cost {
            prompt_tokens: count(&reply["usage"]["prompt_tokens"]),
            cached_tokens: count(&reply["usage"]["prompt_tokens_details"]["cached_tokens"]),
            computed_tokens: after.0 - before.0,
            iterations: after.1 - before.1,
        }
    }

    /// What `asker` pays for prompts that `owner` asked before, and for fresh ones; all named so.
    async fn costs(&self, owner: &str, asker: &str, name: &str) -> Vec<(Cost, Cost)> {
        // what all prompts begin with: the asker has it cached from here on
        self.ask(asker, "x").await;
        let mut costs = Vec::new();
        for round in 0..ROUNDS {
            let prompt = |which: &str| {
                // the first words differ, so that no block of one is a block of another
                format!("{name} {round:02} {which} {}", "so it goes ".repeat(9))
            };
            self.ask(owner, &prompt("old")).await;
            let known = self.ask(asker, &prompt("old")).await;
            costs.push((known, self.ask(asker, &prompt("new")).await));
        }
        costs
    }
}

#[tokio::test]
async fn what_one_key_asked_costs_any_other_key_what_a_fresh_prompt_costs() {
    let tenants = Tenants::start().await;
    let (owner, stranger) = (tenants.key().await, tenants.key().await);
    for (known, fresh) in tenants.costs(&owner, &owner, "own").await {
        assert!(
            known.computed_tokens < fresh.computed_tokens,
            "within a key the cache must help: {known:?}, {fresh:?}"
        );
    }
    for (known, fresh) in tenants.costs(&owner, &stranger, "other").await {
        assert_eq!(known, fresh, "a stranger is served from the owner's cache");
        assert_eq!(
            known.computed_tokens,
            known.prompt_tokens - known.cached_tokens
        );
    }
}
