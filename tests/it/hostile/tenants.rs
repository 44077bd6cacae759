//! Clocks held against the prefix cache: what one key's callers asked can be found in the cache by
//! that key alone, neither by the count of cached tokens nor by the time to the first token.

use std::time::Instant;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use steersman::engine::EngineConfig;
use steersman::service::{App, NewKey, Scope, ServiceSettings, create_key};
use steersman::store::{Store, StoreSettings};

use crate::http::client::Server;
use crate::http::folder;

/// Prompts of each kind, asked by turns: few tell whether the cache helps, as it halves the time;
/// with so many a guess stays within 0.05 of the half.
const FEW: usize = 60;
const MANY: usize = 700;

struct Tenants {
    server: Server,
    store: Store,
    _state: tempfile::TempDir,
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
                // so that nothing is pushed out of the cache while it is measured
                kv_tokens: Some(400_000),
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
            scopes: vec![Scope::Generate],
            ..NewKey::default()
        };
        create_key(&self.store, new)
            .await
            .unwrap()
            .0
            .reveal()
            .to_owned()
    }

    /// Asks for one token: how long the reply took, in seconds, and how many tokens it says were
    /// cached.
    async fn ask(&self, key: &str, prompt: &str) -> (f64, u64) {
        let body = json!({"prompt": prompt, "max_tokens": 1, "ignore_eos": true, "seed": 1});
        let request = Request::post("/v1/generate")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {key}"))
            .body(Body::from(body.to_string()))
            .unwrap();
        let started = Instant::now();
        let reply = self.server.send(request).await;
        assert_eq!(reply.status(), 200);
        let bytes = reply.into_body().collect().await.unwrap().to_bytes();
        let took = started.elapsed().as_secs_f64();
        let reply: Value = serde_json::from_slice(&bytes).unwrap();
        let cached = &reply["usage"]["prompt_tokens_details"]["cached_tokens"];
        (took, cached.as_u64().unwrap())
    }

    /// Times prompts that `owner` asked before against fresh ones, as `asker` sees both: the chance
    /// that a fresh one takes longer than a known one, and how many more tokens of the known ones
    /// were cached.
    async fn told_apart(&self, owner: &str, asker: &str, rounds: usize) -> (f64, u64) {
        let (mut known, mut fresh) = (Vec::new(), Vec::new());
        // what all prompts begin with: the asker has it cached from here on
        self.ask(asker, "x").await;
        let (mut of_known, mut of_fresh) = (0, 0);
        for round in 0..rounds {
            let prompt = |which: &str| {
                // the first words differ, so that no block of one is a block of another
                format!("{round} {which} of {rounds} {}", "so it goes ".repeat(9))
            };
            self.ask(owner, &prompt("old")).await;
            // by turns, so that both kinds meet the machine in the same moods
            let mut both = [("old", &mut known), ("new", &mut fresh)];
            if round % 2 == 1 {
                both.reverse();
            }
            for (which, times) in both {
                let (took, hits) = self.ask(asker, &prompt(which)).await;
                times.push(took);
                match which {
                    "old" => of_known += hits,
                    _ => of_fresh += hits,
                }
            }
        }
        (area(&known, &fresh), of_known.saturating_sub(of_fresh))
    }
}

/// The area under the curve of whoever calls the shorter times known: 0.5 is a guess, 1 certain.
fn area(known: &[f64], fresh: &[f64]) -> f64 {
    let wins = known.iter().map(|k| {
        let shorter = fresh.iter().map(|f| match k.total_cmp(f) {
            std::cmp::Ordering::Less => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Greater => 0.0,
        });
        shorter.sum::<f64>()
    });
    wins.sum::<f64>() / (known.len() * fresh.len()) as f64
}

#[tokio::test]
async fn what_one_key_asked_no_other_key_can_time() {
    let tenants = Tenants::start().await;
    let (owner, stranger) = (tenants.key().await, tenants.key().await);
    let (own, cached) = tenants.told_apart(&owner, &owner, FEW).await;
    assert!(
        own > 0.8 && cached > 0,
        "within a key the cache must help: {own}, {cached}"
    );
    let (others, cached) = tenants.told_apart(&owner, &stranger, MANY).await;
    assert_eq!(cached, 0, "a stranger is served from the owner's cache");
    assert!(others <= 0.55, "a stranger tells known prompts by {others}");
}
