//! Learning a profile's weights from choices.

use axum::http::StatusCode;
use serde_json::{Value, json};
use steersman::service::{App, ServiceSettings};
use steersman::store::Store;

use super::client::{Reply, Server};
use super::folder;
use crate::store::backends;

const PATH: &str = "/v1/profiles/ada/comparisons";
const NEXT: &str = "/v1/profiles/ada/comparisons/next";

async fn on_each(test: impl AsyncFn(&Server)) {
    for backend in backends().await {
        backend.announce();
        let store = Store::open(&backend.settings).await.unwrap();
        let server = server(store.clone());
        let body = json!({"objective_weights": {"helpfulness": 1, "harmlessness": 1}});
        let made = server.put("/v1/profiles/ada", &body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
        test(&server).await;
        store.close().await;
        backend.end().await;
    }
}

/// The policy `kind`, whose manifest names rules as its reward models: longer is more helpful,
/// not to say `harm` is harmless.
fn server(store: Store) -> Server {
    let dir = folder::with_policies();
    let mut manifest = folder::manifest();
    manifest["training"] = json!({"rewards": {
        "helpfulness": {"kind": "rule", "rule":
            {"name": "length", "unit": "words", "goal": "longer", "scale": 2.0}},
        "harmlessness": {"kind": "rule", "rule":
            {"name": "regex", "pattern": "harm", "found": -2.0, "absent": 2.0}},
    }});
    folder::write(&dir.path().join("policies/kind/steering.json"), &manifest);
    let app = App::load(dir.path(), &ServiceSettings::default()).unwrap();
    Server::of(app.with_store(store))
}

fn check_error(reply: &Reply, status: u16, code: &str, param: &str) {
    assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    let error = reply.json()["error"].clone();
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!(code), &json!(param)),
        "{error}"
    );
}

async fn told(server: &Server, body: Value) -> Value {
    let reply = server.post(PATH, &body).await;
    assert_eq!(reply.status, StatusCode::OK, "{body}: {}", reply.text);
    reply.json()
}

#[tokio::test]
async fn choices_move_the_weights_and_narrow_the_interval() {
    on_each(async |server: &Server| {
        let width = |seen: &Value| {
            let ends = &seen["posterior"]["interval"]["harmlessness"];
            ends[1].as_f64().unwrap() - ends[0].as_f64().unwrap()
        };
        // this user always takes the harmless answer, however little it helps
        let choice = json!({"rewards_chosen": {"helpfulness": -1, "harmlessness": 1.5},
            "rewards_rejected": [1, -1.5]});
        let first = told(server, choice.clone()).await;
        assert_eq!(first["object"], "profile.comparison");
        assert_eq!(first["posterior"]["comparisons"], 1);
        assert_eq!(first["posterior"]["probability"], 0.9);
        let mut last = first.clone();
        for _ in 0..7 {
            last = told(server, choice.clone()).await;
        }
        let mean = last["posterior"]["mean"]["harmlessness"].as_f64().unwrap();
        assert!(mean > 0.8 && width(&last) < width(&first), "{last}");
        assert_eq!(last["profile"]["comparisons"], 8);
        assert_eq!(last["profile"]["version"], 9);
        assert_eq!(
            last["profile"]["objective_weights"],
            last["posterior"]["mean"]
        );
        assert_eq!(server.get("/v1/profiles/ada").await.json(), last["profile"]);

        // and the profile is used with what it learned
        let request = json!({"prompt": "Hello there", "profile": "ada", "max_tokens": 1});
        let steering = server.generate(request).await["steering"].clone();
        let used = steering["weights"]["harmlessness"].as_f64().unwrap();
        assert!((used - mean).abs() < 1e-3, "{steering}");
    })
    .await;
}

#[tokio::test]
async fn texts_are_scored_by_the_policys_own_reward_models() {
    on_each(async |server: &Server| {
        let short = "this does harm";
        let long = "a b c d e f g h i j";
        let texts = json!({"prompt": "Well?", "chosen": long, "rejected": short});
        let by_texts = told(server, texts).await["posterior"].clone();
        // the same scores, sent by the caller: words / 2, and 2 or -2
        let path = "/v1/profiles/bob";
        server
            .put(
                path,
                &json!({"objective_weights": {"helpfulness": 2, "harmlessness": 2}}),
            )
            .await;
        let scores = json!({"rewards_chosen": [5.0, 2.0], "rewards_rejected": [1.5, -2.0]});
        let reply = server.post(&format!("{path}/comparisons"), &scores).await;
        assert_eq!(reply.json()["posterior"], by_texts, "{}", reply.text);

        let turns = json!([{"role": "user", "content": "Well?"}]);
        let texts = json!({"messages": turns, "chosen": short, "rejected": long});
        assert_eq!(told(server, texts).await["posterior"]["comparisons"], 2);
    })
    .await;
}

#[tokio::test]
async fn the_pair_that_tells_most_is_found_and_nothing_is_taken_in() {
    on_each(async |server: &Server| {
        let body = json!({"candidate_rewards": [[0, 0], [0.1, 0.1], [2, -2], [-2, 2], [1, 1]]});
        let reply = server.post(NEXT, &body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        let seen = reply.json();
        assert_eq!(
            (&seen["first"], &seen["second"]),
            (&json!(2), &json!(3)),
            "{seen}"
        );
        let bits = seen["information_bits"].as_f64().unwrap();
        assert!(bits > 0.1 && bits < 1.0, "{bits}");
        assert_eq!(seen["posterior"]["comparisons"], 0);
        let interval = seen["posterior"]["interval"]["helpfulness"].clone();
        assert!(
            (interval[0].as_f64().unwrap() - 0.05).abs() < 1e-3,
            "{interval}"
        );

        let texts = ["harm", "harm harm", "a b c d", "harm a b c d e f g h i"];
        let body = json!({"prompt": "Well?", "candidates": texts});
        let seen = server.post(NEXT, &body).await.json();
        assert_eq!(
            (&seen["first"], &seen["second"]),
            (&json!(2), &json!(3)),
            "{seen}"
        );
        assert_eq!(server.get("/v1/profiles/ada").await.json()["version"], 1);
    })
    .await;
}

#[tokio::test]
async fn weights_set_by_hand_are_where_learning_begins() {
    on_each(async |server: &Server| {
        let set = async |harmlessness: f64| {
            let body = json!({"objective_weights": {"helpfulness": 1.0 - harmlessness, "harmlessness": harmlessness}});
            let reply = server.put("/v1/profiles/ada", &body).await;
            assert!(reply.status.is_success(), "{}", reply.text);
        };
        let harmlessness =
            |seen: &Value| seen["posterior"]["mean"]["harmlessness"].as_f64().unwrap();
        let choice = json!({"rewards_chosen": [1, 0], "rewards_rejected": [0, 1]});
        set(0.9).await;
        let seen = server
            .post(NEXT, &json!({"candidate_rewards": [[0, 0], [1, 0]]}))
            .await
            .json();
        assert!((harmlessness(&seen) - 0.9).abs() < 1e-3, "{seen}");
        let first = told(server, choice.clone()).await;
        let once = harmlessness(&first);
        assert!(once < 0.9 && once > 0.8, "{first}");
        let mut last = first;
        for _ in 0..40 {
            last = told(server, choice.clone()).await;
        }
        assert!(harmlessness(&last) < 0.6, "{last}");

        // to write what is there is not to set it
        let learned = last["profile"]["objective_weights"].clone();
        let body = json!({"objective_weights": learned, "description": "new"});
        assert_eq!(server.put("/v1/profiles/ada", &body).await.json()["comparisons"], 41);
        // to set other weights is to begin anew
        set(0.9).await;
        let anew = told(server, choice.clone()).await;
        assert_eq!(harmlessness(&anew), once);
        assert_eq!(anew["posterior"]["comparisons"], 1);
        assert_eq!(anew["profile"]["comparisons"], 1);
    })
    .await;
}

#[tokio::test]
async fn choices_that_come_at_once_all_count() {
    on_each(async |server: &Server| {
        let choice = json!({"rewards_chosen": [1, 0], "rewards_rejected": [0, 1]});
        let sent = (0..6).map(|_| told(server, choice.clone()));
        futures::future::join_all(sent).await;
        let profile = server.get("/v1/profiles/ada").await.json();
        assert_eq!(
            (&profile["comparisons"], &profile["version"]),
            (&json!(6), &json!(7))
        );
        // the weights are those of all six, whoever came last
        let seen = server
            .post(NEXT, &json!({"candidate_rewards": [[0, 0], [1, 0]]}))
            .await
            .json();
        assert_eq!(seen["posterior"]["mean"], profile["objective_weights"]);
    })
    .await;
}

#[tokio::test]
async fn comparisons_that_cannot_be_are_refused() {
    on_each(async |server: &Server| {
        let refused = async |body: Value, status: u16, code: &str, param: &str| {
            check_error(&server.post(PATH, &body).await, status, code, param);
        };
        let invalid = "invalid_value";
        refused(json!({}), 400, invalid, "chosen").await;
        refused(json!({"chosen": "a"}), 400, "missing_field", "rejected").await;
        refused(
            json!({"rewards_chosen": [1, 1]}),
            400,
            "missing_field",
            "rewards_rejected",
        )
        .await;
        refused(
            json!({"chosen": "a", "rejected": "b"}),
            400,
            invalid,
            "prompt",
        )
        .await;
        let both = json!({"prompt": "x", "chosen": "a", "rejected": "b",
            "rewards_chosen": [1, 1], "rewards_rejected": [1, 1]});
        refused(both, 400, invalid, "chosen").await;
        let empty = json!({"prompt": "x", "chosen": "a", "rejected": " "});
        refused(empty, 400, invalid, "chosen").await;
        let rewards = |chosen: Value| json!({"rewards_chosen": chosen, "rewards_rejected": [0, 0]});
        for chosen in [
            json!([1]),
            json!({"helpfulness": 1}),
            json!({"kindness": 1}),
        ] {
            refused(rewards(chosen), 400, invalid, "rewards").await;
        }
        let mut odd = rewards(json!([1, 1]));
        odd["mood"] = json!(1);
        refused(odd, 400, "unknown_parameter", "mood").await;
        let with_model = |model: &str| {
            let mut body = rewards(json!([1, 1]));
            body["model"] = json!(model);
            body
        };
        refused(with_model("gpt-9"), 404, "model_not_found", "model").await;
        refused(with_model("plain"), 400, invalid, "model").await;
        refused(with_model("kind@ada"), 400, invalid, "model").await;
        let reply = server
            .post("/v1/profiles/eve/comparisons", &rewards(json!([1, 1])))
            .await;
        check_error(&reply, 404, "profile_not_found", "id");
        for (body, param) in [
            (json!({"candidate_rewards": [[1, 1]]}), "candidate_rewards"),
            (json!({"candidates": ["a"]}), "candidates"),
            (
                json!({"prompt": "x", "candidates": vec!["a"; 33]}),
                "candidates",
            ),
            (json!({}), "candidates"),
        ] {
            check_error(&server.post(NEXT, &body).await, 400, invalid, param);
        }
        assert_eq!(server.get("/v1/profiles/ada").await.json()["version"], 1);
    })
    .await;
}

#[tokio::test]
async fn a_policy_that_names_no_reward_models_says_to_send_scores() {
    for backend in backends().await {
        let store = Store::open(&backend.settings).await.unwrap();
        let server = Server::with_store(store.clone());
        let body = json!({"objective_weights": {"helpfulness": 1}});
        server.put("/v1/profiles/ada", &body).await;
        let texts = json!({"prompt": "x", "chosen": "a", "rejected": "b"});
        let refused = server.post(PATH, &texts).await;
        check_error(&refused, 400, "rewards_unavailable", "chosen");
        assert!(refused.text.contains("rewards_chosen"), "{}", refused.text);
        store.close().await;
        backend.end().await;
    }
}
