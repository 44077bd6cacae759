//! A fresh evaluation through the running engine, and who may do all this.

use axum::http::StatusCode;
use serde_json::{Value, json};
use steersman::service::Scope;

use super::harness::{Place, promote, standing};
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
