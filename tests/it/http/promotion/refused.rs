//! What is not promoted, why, and that what was live still is.

use axum::http::StatusCode;
use futures::future::join_all;
use serde_json::{Value, json};

use super::harness::{Place, ask, measured, promote, promoted, roll_back, standing};
use crate::http::client::{Reply, Server};

fn refused(reply: &Reply, status: StatusCode, code: &str) {
    assert_eq!(reply.status, status, "{}", reply.text);
    assert_eq!(reply.json()["error"]["code"], code, "{}", reply.text);
    if status == StatusCode::CONFLICT {
        assert_eq!(reply.header("x-should-retry"), "false");
    }
}

/// Promotes a checkpoint that was changed, which the gate must refuse.
async fn gate_refuses(server: &Server, place: &Place, change: impl Fn(&mut Value), says: &str) {
    let before = ask(server, 0).await;
    let reply = promote(server, &place.candidate(-40, change), 0, json!({})).await;
    refused(&reply, StatusCode::CONFLICT, "gate_refused");
    assert!(reply.text.contains(says), "{}", reply.text);
    assert_eq!(ask(server, 0).await, before);
}

#[tokio::test]
async fn the_gate_refuses_what_was_not_measured_good_enough() {
    let place = Place::new();
    let server = place.serve().await;
    let set =
        |evaluation: Value| move |manifest: &mut Value| manifest["evaluation"] = evaluation.clone();
    gate_refuses(
        &server,
        &place,
        set(measured(0.79, 0.3)),
        "spearman of `helpfulness` is 0.790",
    )
    .await;
    gate_refuses(&server, &place, set(Value::Null), "was not measured").await;
    gate_refuses(
        &server,
        &place,
        set(measured(0.9, 0.19)),
        "mean inner product is 0.19",
    )
    .await;
    let other_scale = |manifest: &mut Value| {
        manifest["evaluation"] = measured(0.9, 0.9);
        manifest["normalizers"][0]["mean"] = json!(1.0);
    };
    gate_refuses(&server, &place, other_scale, "normalised differently").await;
    let other_names = |manifest: &mut Value| {
        manifest["evaluation"] = measured(0.9, 0.9);
        manifest["objectives"][1]["name"] = json!("wit");
        manifest["conditioning"]["template"] = json!("help {helpfulness} wit {wit}");
    };
    gate_refuses(
        &server,
        &place,
        other_names,
        "another set is another policy",
    )
    .await;
    let candidate = place.better(-40);
    let capped = json!({"gate": {"max_kl": 5.0}});
    let reply = promote(&server, &candidate, 0, capped.clone()).await;
    refused(&reply, StatusCode::CONFLICT, "gate_refused");
    let near = place.candidate(-40, |manifest| manifest["training"] = json!({"kl": 4.5}));
    let reply = promote(&server, &near, 0, capped).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    // every candidate that was refused is still there to be looked at
    assert!(
        standing(&server).await["checkpoints"]
            .as_array()
            .unwrap()
            .len()
            > 2
    );
}

#[tokio::test]
async fn an_operator_can_set_the_gates_bounds() {
    let place = Place::new();
    let server = place.serve().await;
    let worse = place.candidate(-40, |m| m["evaluation"] = measured(0.5, 0.1));
    let gate = json!({"gate": {"min_spearman": 0.5, "baseline": "nothing"}});
    let reply = promote(&server, &worse, 0, gate).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
}

#[tokio::test]
async fn a_name_that_no_policy_can_have_is_refused_for_what_it_is() {
    let place = Place::new();
    let server = place.serve().await;
    let models = server.get("/v1/models").await.json();
    let base = models["data"][0]["root"].as_str().unwrap();
    let body = json!({"folder": place.better(-40), "expected_version": 0});
    for (name, says) in [("a@b", "letters, digits"), (base, "is the base model")] {
        let path = format!("/admin/v1/policies/{name}/promote");
        let reply = server.post(&path, &body).await;
        refused(&reply, StatusCode::BAD_REQUEST, "invalid_value");
        let error = reply.json()["error"].clone();
        assert_eq!(error["param"], "id");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains(says) && message.contains(name),
            "{message}"
        );
    }
}

#[tokio::test]
async fn another_version_than_expected_is_a_conflict() {
    let place = Place::new();
    let server = place.serve().await;
    let candidate = place.better(-40);
    let reply = promote(&server, &candidate, 3, json!({})).await;
    refused(&reply, StatusCode::CONFLICT, "generation_mismatch");
    refused(
        &roll_back(&server, 1).await,
        StatusCode::CONFLICT,
        "generation_mismatch",
    );
    promoted(&server, &candidate, 0).await;
    let reply = promote(&server, &place.better(60), 0, json!({})).await;
    refused(&reply, StatusCode::CONFLICT, "generation_mismatch");
    let reply = promote(&server, &candidate, 1, json!({})).await;
    refused(&reply, StatusCode::CONFLICT, "live_already");
}

#[tokio::test]
async fn of_two_servers_that_change_the_same_version_one_wins() {
    let place = Place::new();
    let servers = [place.serve().await, place.serve().await];
    let candidates = [place.better(-40), place.better(60)];
    let asked = servers.iter().zip(&candidates);
    let replies = join_all(asked.map(|(server, folder)| promote(server, folder, 0, json!({}))));
    let replies = replies.await;
    let (won, lost): (Vec<_>, Vec<_>) = replies.iter().partition(|r| r.status == StatusCode::OK);
    assert_eq!((won.len(), lost.len()), (1, 1));
    refused(lost[0], StatusCode::CONFLICT, "generation_mismatch");
    let restarted = place.serve().await;
    assert_eq!(
        standing(&restarted).await["policy_version"],
        won[0].json()["policy_version"]
    );
}

#[tokio::test]
async fn a_damaged_checkpoint_is_refused_and_the_live_one_stays() {
    let place = Place::new();
    let server = place.serve().await;
    // refused by the gate first, so that it lies in the registry
    let candidate = place.candidate(-40, |m| m["evaluation"] = Value::Null);
    promote(&server, &candidate, 0, json!({})).await;
    let id = standing(&server).await["checkpoints"][0]["id"].clone();
    let id = id.as_str().unwrap();
    let before = ask(&server, 0).await;
    place.flip(id, "adapter_model.safetensors");
    let body = json!({"checkpoint": id, "expected_version": 0});
    let reply = server.post("/admin/v1/policies/kind/promote", &body).await;
    refused(&reply, StatusCode::CONFLICT, "checkpoint_damaged");
    assert!(
        reply.text.contains("adapter_model.safetensors"),
        "{}",
        reply.text
    );
    assert_eq!(ask(&server, 0).await, before);
    assert_eq!(standing(&server).await["version"], 0);
}

#[tokio::test]
async fn what_is_no_checkpoint_for_this_model_is_refused() {
    let place = Place::new();
    let server = place.serve().await;
    let path = "/admin/v1/policies/kind/promote";
    let check = async |body: Value, status: StatusCode, code: &str| {
        refused(&server.post(path, &body).await, status, code);
    };
    let bad = StatusCode::BAD_REQUEST;
    let (folder, version) = (place.better(-40), 0);
    check(json!({"folder": folder}), bad, "missing_required_parameter").await;
    check(json!({"expected_version": 0}), bad, "invalid_value").await;
    let both = json!({"folder": folder, "checkpoint": "a", "expected_version": version});
    check(both, bad, "invalid_value").await;
    let unknown = json!({"folder": folder, "expected_version": 0, "force": true});
    check(unknown, bad, "unknown_parameter").await;
    let empty = tempfile::tempdir().unwrap();
    let nothing = json!({"folder": empty.path(), "expected_version": 0});
    check(nothing, bad, "checkpoint_unusable").await;
    let id = json!({"checkpoint": "../../etc", "expected_version": 0});
    check(id, bad, "invalid_value").await;
    let id = json!({"checkpoint": "ab".repeat(32), "expected_version": 0});
    check(id, StatusCode::NOT_FOUND, "checkpoint_not_found").await;
    let share = json!({"folder": folder, "expected_version": 0, "canary": 1.0});
    check(share, bad, "invalid_value").await;
    let other_base = place.candidate(-40, |m| m["base"] = json!({"name": "x", "hash": "00"}));
    let misfit = json!({"folder": other_base, "expected_version": 0});
    check(misfit, bad, "checkpoint_unusable").await;
    let base = server.app.policies()[0].id.clone();
    let body = json!({"folder": folder, "expected_version": 0});
    let reply = server
        .post(&format!("/admin/v1/policies/{base}/promote"), &body)
        .await;
    refused(&reply, bad, "invalid_value");
}
