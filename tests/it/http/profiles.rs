//! Profiles: made, changed, listed and removed, on both databases; and used in every way.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use steersman::store::Store;

use super::client::{Reply, Server, post};
use crate::store::backends;

/// Runs a test against a server on a fresh store of each kind.
async fn on_each(test: impl AsyncFn(&Server)) {
    for backend in backends().await {
        backend.announce();
        let store = Store::open(&backend.settings).await.unwrap();
        test(&Server::with_store(store.clone())).await;
        store.close().await;
        backend.end().await;
    }
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

async fn make(server: &Server, id: &str, weights: Value) {
    let reply = server
        .put(
            &format!("/v1/profiles/{id}"),
            &json!({"objective_weights": weights}),
        )
        .await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
}

#[tokio::test]
async fn a_profile_is_made_changed_read_and_removed() {
    on_each(async |server: &Server| {
        let path = "/v1/profiles/team.calm_1";
        check_error(&server.get(path).await, 404, "profile_not_found", "id");
        let body = json!({"objective_weights": {"harmlessness": 3, "helpfulness": 1},
            "description": "for the ☂ shop"});
        let made = server.put(path, &body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
        assert_eq!(made.header("etag"), "\"1\"");
        let seen = server.get(path).await;
        assert_eq!(seen.text, made.text);
        let seen = seen.json();
        assert_eq!(seen["id"], "team.calm_1");
        assert_eq!(
            seen["objective_weights"],
            json!({"harmlessness": 3.0, "helpfulness": 1.0})
        );
        assert_eq!(seen["description"], "for the ☂ shop");
        assert_eq!(
            (&seen["version"], &seen["comparisons"]),
            (&json!(1), &json!(0))
        );

        let changed = server
            .put(path, &json!({"objective_weights": {"helpfulness": 1}}))
            .await;
        assert_eq!(changed.status, StatusCode::OK, "{}", changed.text);
        assert_eq!(changed.header("etag"), "\"2\"");
        assert_eq!(changed.json()["description"], "");
        let gone = server.delete(path).await.json();
        assert_eq!(
            gone,
            json!({"id": "team.calm_1", "object": "profile.deleted", "deleted": true})
        );
        check_error(&server.delete(path).await, 404, "profile_not_found", "id");
    })
    .await;
}

#[tokio::test]
async fn a_change_may_insist_on_a_version() {
    on_each(async |server: &Server| {
        let path = "/v1/profiles/calm";
        let put = async |expected: Value| {
            let mut body = json!({"objective_weights": {"helpfulness": 1}});
            body["expected_version"] = expected;
            server.put(path, &body).await
        };
        check_error(
            &put(json!(3)).await,
            409,
            "generation_mismatch",
            "expected_version",
        );
        assert_eq!(put(json!(0)).await.status, StatusCode::CREATED);
        let refused = put(json!(0)).await;
        check_error(&refused, 409, "generation_mismatch", "expected_version");
        assert_eq!(refused.header("x-should-retry"), "false");
        assert_eq!(refused.json()["error"]["type"], "conflict_error");
        assert_eq!(put(json!(1)).await.status, StatusCode::OK);
        check_error(
            &put(json!(-1)).await,
            400,
            "invalid_value",
            "expected_version",
        );

        let matching = async |method: &str, tag: &str| {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("if-match", tag);
            let body = json!({"objective_weights": {"helpfulness": 1}}).to_string();
            let request = request.header("content-type", "application/json");
            server.ask(request.body(Body::from(body)).unwrap()).await
        };
        assert_eq!(matching("PUT", "\"2\"").await.status, StatusCode::OK);
        assert_eq!(matching("PUT", "*").await.status, StatusCode::OK);
        check_error(
            &matching("PUT", "\"2\"").await,
            409,
            "generation_mismatch",
            "expected_version",
        );
        check_error(
            &matching("PUT", "2").await,
            400,
            "invalid_value",
            "if-match",
        );
        assert_eq!(
            matching("DELETE", "\"1\"").await.status,
            StatusCode::CONFLICT
        );
        assert_eq!(matching("DELETE", "\"4\"").await.status, StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn profiles_are_listed_page_by_page() {
    on_each(async |server: &Server| {
        for id in ["e", "b", "d", "a", "c"] {
            make(server, id, json!({"helpfulness": 1})).await;
        }
        let mut after = String::new();
        let mut seen = Vec::new();
        loop {
            let path = format!("/v1/profiles?limit=2{after}");
            let page = server.get(&path).await.json();
            let data = page["data"].as_array().unwrap().clone();
            assert_eq!(page["first_id"], data[0]["id"]);
            seen.extend(data.iter().map(|p| p["id"].as_str().unwrap().to_owned()));
            if page["has_more"] == json!(false) {
                break;
            }
            after = format!("&after={}", page["last_id"].as_str().unwrap());
        }
        assert_eq!(seen, ["a", "b", "c", "d", "e"]);
        for query in [
            "limit=0",
            "limit=101",
            "limit=-1",
            "limit=x",
            "page=2",
            "after=%00",
        ] {
            let reply = server.get(&format!("/v1/profiles?{query}")).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{query}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_no_profile_can_be_is_refused() {
    on_each(async |server: &Server| {
        let put =
            async |id: &str, body: Value| server.put(&format!("/v1/profiles/{id}"), &body).await;
        let sound = json!({"objective_weights": {"helpfulness": 1}});
        for id in [
            "Calm",
            "%2e%2e",
            "a%2Fb",
            "a%00b",
            "a@b",
            &"x".repeat(65),
            "%ff",
        ] {
            check_error(&put(id, sound.clone()).await, 400, "invalid_value", "id");
            let seen = server.get(&format!("/v1/profiles/{id}")).await;
            assert!(seen.status.is_client_error(), "{id}: {}", seen.text);
        }
        let refused = async |body: Value, code: &str, param: &str| {
            check_error(&put("calm", body).await, 400, code, param);
        };
        refused(json!({}), "missing_field", "objective_weights").await;
        let weights = async |weights: Value, code: &str, param: &str| {
            refused(json!({"objective_weights": weights}), code, param).await;
        };
        weights(json!([1, 0]), "invalid_value", "objective_weights").await;
        weights(json!({}), "invalid_value", "objective_weights").await;
        weights(json!({"a": 0}), "invalid_value", "objective_weights").await;
        weights(json!({"a": -1}), "invalid_value", "objective_weights.a").await;
        weights(json!({"a": "1"}), "invalid_type", "objective_weights").await;
        weights(json!({"A b": 1}), "invalid_value", "objective_weights").await;
        let mut strange = sound.clone();
        strange["weigths"] = json!(1);
        refused(strange, "unknown_parameter", "weigths").await;
        let mut long = sound.clone();
        long["description"] = json!("x".repeat(1001));
        refused(long, "invalid_value", "description").await;
        assert_eq!(server.get("/v1/profiles").await.json()["data"], json!([]));
    })
    .await;
}

/// Generates and returns source and weights, or the code and param of the refusal.
async fn used(
    server: &Server,
    body: Value,
    header: Option<&str>,
) -> Result<(String, [f64; 2]), Value> {
    let mut request = json!({"prompt": "Hello there", "max_tokens": 1});
    for (key, value) in body.as_object().unwrap() {
        request[key] = value.clone();
    }
    let mut sent = post("/v1/generate", &request.to_string());
    if let Some(header) = header {
        let value = header.parse().unwrap();
        sent.headers_mut().insert("x-objective-weights", value);
    }
    let reply = server.ask(sent).await;
    let seen = reply.json();
    if reply.status != StatusCode::OK {
        return Err(json!([
            reply.status.as_u16(),
            seen["error"]["code"],
            seen["error"]["param"]
        ]));
    }
    let weight = |name: &str| seen["steering"]["weights"][name].as_f64().unwrap();
    let source = seen["steering"]["source"].as_str().unwrap().to_owned();
    let rounded = |w: f64| (w * 1e6).round() / 1e6;
    Ok((
        source,
        ["helpfulness", "harmlessness"].map(|name| rounded(weight(name))),
    ))
}

#[tokio::test]
async fn profiles_come_in_by_every_way_and_the_strongest_is_used() {
    on_each(async |server: &Server| {
        make(server, "calm", json!({"helpfulness": 1, "harmlessness": 3})).await;
        make(server, "bold", json!({"helpfulness": 4, "harmlessness": 1})).await;
        let check = async |body: Value, header: Option<&str>, source: &str, weights: [f64; 2]| {
            let found = used(server, body.clone(), header).await;
            assert_eq!(found, Ok((source.to_owned(), weights)), "{body} {header:?}");
        };
        let (calm, bold) = ([0.25, 0.75], [0.8, 0.2]);
        check(json!({"profile": "calm"}), None, "profile", calm).await;
        check(json!({"model": "kind@bold"}), None, "model", bold).await;
        check(json!({"model": "default@calm"}), None, "model", calm).await;
        check(json!({"user": "bold"}), None, "user", bold).await;
        // a user who is no profile, or whose name could be none, has no effect
        for user in ["somebody", "Some Body <x@y>", "", "a\u{0}b"] {
            check(json!({"user": user}), None, "default", [0.75, 0.25]).await;
        }
        // `user` only fills in
        check(
            json!({"user": "bold", "profile": "calm"}),
            None,
            "profile",
            calm,
        )
        .await;
        check(
            json!({"user": "bold", "objective_weights": [1, 1]}),
            None,
            "body",
            [0.5, 0.5],
        )
        .await;
        // several that agree
        let agreed = json!({"profile": "calm", "model": "kind@calm", "objective_weights": [1, 3]});
        check(agreed, Some("helpfulness=1,harmlessness=3"), "body", calm).await;
        check(
            json!({"profile": "calm"}),
            Some("helpfulness=0.25,harmlessness=0.75"),
            "header",
            calm,
        )
        .await;
    })
    .await;
}

#[tokio::test]
async fn profiles_that_disagree_are_missing_or_do_not_fit_are_refused() {
    on_each(async |server: &Server| {
        make(server, "calm", json!({"helpfulness": 1, "harmlessness": 3})).await;
        make(server, "bold", json!({"helpfulness": 4, "harmlessness": 1})).await;
        let refused = async |body: Value, header: Option<&str>, expected: Value| {
            assert_eq!(
                used(server, body.clone(), header).await,
                Err(expected),
                "{body}"
            );
        };
        let conflict = |param: &str| json!([400, "objective_conflict", param]);
        refused(
            json!({"profile": "calm", "model": "kind@bold"}),
            None,
            conflict("model"),
        )
        .await;
        refused(
            json!({"profile": "calm"}),
            Some("helpfulness=1"),
            conflict("profile"),
        )
        .await;
        let body = json!({"profile": "calm", "objective_weights": [1, 1]});
        refused(body, None, conflict("profile")).await;
        let missing = |param: &str| json!([404, "profile_not_found", param]);
        refused(json!({"profile": "nope"}), None, missing("profile")).await;
        refused(json!({"profile": "../x"}), None, missing("profile")).await;
        refused(json!({"model": "kind@nope"}), None, missing("model")).await;
        let body = json!({"profile": "calm", "model": "plain"});
        refused(body, None, json!([400, "unknown_objective", "profile"])).await;

        // what a profile holds meets the policy's objectives only now
        make(server, "odd", json!({"kindness": 1})).await;
        let unknown = |param: &str| json!([400, "unknown_objective", param]);
        refused(json!({"profile": "odd"}), None, unknown("profile")).await;
        refused(json!({"user": "odd"}), None, unknown("user")).await;
        make(server, "loud", json!({"harmlessness": 11})).await;
        let body = json!({"profile": "loud"});
        refused(
            body,
            None,
            json!([400, "objective_weight_out_of_range", "profile"]),
        )
        .await;
    })
    .await;
}

#[tokio::test]
async fn every_route_takes_profiles() {
    on_each(async |server: &Server| {
        make(server, "calm", json!({"helpfulness": 1, "harmlessness": 3})).await;
        // a model without objectives takes a `user` who happens to be a profile
        let answer = server.generate(json!({"prompt": "x", "model": "plain", "user": "calm",
            "max_tokens": 1}));
        assert!(answer.await["steering"].is_null());
        let card = server.get("/v1/models/kind@calm").await.json();
        assert_eq!(
            card["steering"]["weights"],
            json!({"helpfulness": 0.25, "harmlessness": 0.75})
        );
        let chat = json!({"messages": [{"role": "user", "content": "x"}], "max_tokens": 1,
            "profile": "calm"});
        let reply = server.post("/v1/chat/completions", &chat).await.json();
        assert_eq!(reply["steering"]["source"], "profile");
        let text = json!({"prompt": "x", "max_tokens": 1, "user": "calm"});
        let reply = server.post("/v1/completions", &text).await.json();
        assert_eq!(reply["steering"]["source"], "user");
        let text = json!({"prompt": "x", "profile": "calm"});
        let reply = server.post("/v1/tokenize", &text).await.json();
        assert_eq!(reply["steering"]["weights"], card["steering"]["weights"]);
    })
    .await;
}

#[tokio::test]
async fn a_server_without_state_has_no_profiles_and_says_so() {
    let server = Server::shared();
    assert_eq!(server.get("/v1/profiles").await.json()["data"], json!([]));
    check_error(
        &server.get("/v1/profiles/calm").await,
        404,
        "profile_not_found",
        "id",
    );
    let body = json!({"objective_weights": {"helpfulness": 1}});
    let refused = server.put("/v1/profiles/calm", &body).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.json()["error"]["code"], "store_unavailable");
    assert_ne!(refused.header("retry-after"), "");
}
