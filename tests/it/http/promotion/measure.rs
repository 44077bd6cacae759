//! A fresh evaluation through the running engine, and who may do all this.

use axum::http::StatusCode;
use serde_json::{Value, json};
use steersman::service::Scope;

use super::harness::{Place, promote, promoted, roll_back, standing};
use crate::http::client::{Server, post};
use crate::http::keys;

/// Length rewards, which need no other model.
fn with_rewards(manifest: &mut Value) {
    manifest["evaluation"] = Value::Null;
    let length = |goal: &str| {
        let rule = json!({"name": "length", "unit": "characters", "goal": goal, "scale": 8.0});
        json!({"kind": "rule", "rule": rule})
    };
    manifest["training"] = json!({
        "rewards": {"helpfulness": length("longer"), "harmlessness": length("shorter")},
    });
}

#[tokio::test]
async fn a_fresh_evaluation_measures_both_on_the_same_prompts() {
    let place = Place::new();
    let server = place.serve().await;
    let candidate = place.candidate(-40, with_rewards);
    let evaluation = json!({"prompts": ["One?", "Two?", "Three?"], "grid": 3, "max_tokens": 8});
    let gate = json!({"min_spearman": -1.0, "max_score_loss": 100.0});
    let more = json!({"evaluation": evaluation, "gate": gate});
    let reply = promote(&server, &candidate, 0, more).await;
    let told = standing(&server).await["checkpoints"][0].clone();
    let found = &told["evaluation"];
    assert_eq!(
        (&found["prompts"], &found["points"]),
        (&json!(3), &json!(3))
    );
    for score in ["mean_inner_product", "live_mean_inner_product"] {
        assert!(found[score].as_f64().unwrap().is_finite(), "{found}");
    }
    // a model of random tensors may answer so that a correlation is not defined
    let steered = found["objectives"].as_object().unwrap();
    let defined = steered.values().all(|o| o["spearman"].is_f64());
    let expected = match defined {
        true => StatusCode::OK,
        false => StatusCode::CONFLICT,
    };
    assert_eq!(reply.status, expected, "{}", reply.text);
    let strict = json!({"evaluation": evaluation, "gate": {"min_spearman": 1.01}});
    let version = standing(&server).await["version"].as_i64().unwrap();
    let other = place.candidate(60, with_rewards);
    let reply = promote(&server, &other, version, strict).await;
    assert_eq!(reply.status, StatusCode::CONFLICT, "{}", reply.text);
}

#[tokio::test]
async fn a_policy_whose_rewards_are_unknown_cannot_be_measured() {
    let place = Place::new();
    let server = place.serve().await;
    let more = json!({"evaluation": {"prompts": ["One?"]}});
    let reply = promote(&server, &place.better(-40), 0, more).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text);
    assert_eq!(reply.json()["error"]["code"], "evaluation_failed");
}

#[tokio::test]
async fn only_admins_see_or_change_policies() {
    keys::on_each(async |guarded| {
        let user = guarded.with(&[Scope::Generate, Scope::Profiles]).await;
        for (method, path) in [
            ("GET", "/admin/v1/policies"),
            ("POST", "/admin/v1/policies/kind/promote"),
            ("POST", "/admin/v1/policies/rollback"),
        ] {
            let body = json!({"expected_version": 0});
            let reply = guarded.ask(method, path, None, &body).await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
            let reply = guarded.ask(method, path, Some(&user), &body).await;
            assert_eq!(reply.status, StatusCode::FORBIDDEN);
            assert_eq!(reply.json()["error"]["code"], "scope_required");
        }
        let admin = guarded.with(&[Scope::Admin]).await;
        let path = "/admin/v1/policies";
        let reply = guarded.ask("GET", path, Some(&admin), &json!({})).await;
        // this server has no data folder
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    })
    .await;
}

/// One number of `/metrics`.
async fn number(server: &Server, name: &str) -> f64 {
    let page = server.get("/metrics").await.text;
    let line = page.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

async fn inside(server: &Server) -> f64 {
    let running = number(server, "steersman_requests_running ").await;
    running + number(server, "steersman_requests_waiting ").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_holds_up_no_other_change_and_ends_with_its_client() {
    let place = Place::new();
    let server = std::sync::Arc::new(place.serve().await);
    promoted(&server, &place.better(-40), 0).await;
    // hours, on any machine
    let prompts: Vec<String> = (0..512).map(|i| format!("Number {i}?")).collect();
    let body = json!({
        "folder": place.candidate(60, with_rewards), "expected_version": 0,
        "evaluation": {"prompts": prompts, "grid": 21, "max_tokens": 64},
    });
    let client = std::sync::Arc::clone(&server);
    let asking = tokio::spawn(async move {
        let path = "/admin/v1/policies/newborn/promote";
        client.ask(post(path, &body.to_string())).await.status
    });
    while inside(&server).await < 20.0 {
        assert!(!asking.is_finished(), "{:?}", asking.await);
        tokio::task::yield_now().await;
    }
    let reply = roll_back(&server, 1).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert!(!asking.is_finished() && inside(&server).await > 0.0);
    // the client goes away
    asking.abort();
    while inside(&server).await > 0.0 {
        tokio::task::yield_now().await;
    }
    // the next evaluation finds the way free
    let more = json!({"evaluation": {"prompts": ["One?"], "grid": 2, "max_tokens": 2}});
    let reply = promote(&server, &place.candidate(70, with_rewards), 2, more).await;
    assert!(
        reply.status != StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn a_token_that_nobodys_answer_holds_proves_readiness_too() {
    let place = Place::new();
    let server = place.serve().await;
    // tries the checkpoint with one token, as an evaluation would with many
    promoted(&server, &place.better(-40), 0).await;
    let before = number(&server, "steersman_engine_iterations_total ").await;
    assert_eq!(server.get("/readyz").await.status, StatusCode::OK);
    let after = number(&server, "steersman_engine_iterations_total ").await;
    assert!(before > 0.0 && after == before, "{before} {after}");
}
