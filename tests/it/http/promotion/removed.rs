//! Policies that are removed: from lists, from other servers, for good, and not from under
//! whoever is being answered.

use axum::http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::harness::{Place, question};
use crate::http::client::{Reply, Server, post};

/// Promotes a policy that the model's folder does not have.
async fn mistake(server: &Server, place: &Place, expected: i64) -> Value {
    let body = json!({"folder": place.better(-40), "expected_version": expected,
        "gate": {"baseline": "nothing"}});
    let reply = server
        .post("/admin/v1/policies/mistake/promote", &body)
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    reply.json()
}

async fn remove(server: &Server, policy: &str, expected: i64) -> Reply {
    let path = format!("/admin/v1/policies/{policy}?expected_version={expected}");
    server.delete(&path).await
}

fn refused(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    assert_eq!(reply.json()["error"]["code"], code, "{}", reply.text);
}

/// The ids of a server's models, and those of its policies.
async fn ids(server: &Server) -> [Vec<String>; 2] {
    let of = async |path: &str| {
        let list = server.get(path).await.json();
        let data = list["data"].as_array().unwrap().iter();
        data.map(|item| item["id"].as_str().unwrap().to_owned())
            .collect()
    };
    [of("/v1/models").await, of("/admin/v1/policies").await]
}

async fn has_none(server: &Server) {
    let told = ids(server).await;
    assert!(told.iter().flatten().all(|id| id != "mistake"), "{told:?}");
    let mut body = question(0);
    body["model"] = json!("mistake");
    refused(
        &server.post("/v1/generate", &body).await,
        404,
        "model_not_found",
    );
}

#[tokio::test]
async fn a_removed_policy_is_gone_everywhere_and_may_come_again() {
    let place = Place::new();
    let (server, other) = (place.serve().await, place.serve().await);
    let before = ids(&server).await;
    mistake(&server, &place, 0).await;
    other.app.follow().await.unwrap();
    assert!(ids(&other).await[0].contains(&"mistake".to_owned()));

    let gone = remove(&server, "mistake", 1).await.json();
    let expected = json!({"id": "mistake", "object": "policy.deleted", "deleted": true,
        "version": 2});
    assert_eq!(gone, expected);
    assert_eq!(ids(&server).await, before);
    has_none(&server).await;
    other.app.follow().await.unwrap();
    has_none(&other).await;
    has_none(&place.serve().await).await;
    refused(&remove(&other, "mistake", 2).await, 404, "policy_not_found");

    let again = mistake(&other, &place, 2).await;
    assert_eq!(
        (&again["version"], &again["can_roll_back"]),
        (&json!(3), &json!(false))
    );
    assert_eq!(again["history"][1]["action"], "remove");
    server.app.follow().await.unwrap();
    assert_eq!(ids(&server).await, ids(&place.serve().await).await);
    assert!(ids(&server).await[0].contains(&"mistake".to_owned()));
}

#[tokio::test]
async fn whoever_is_being_answered_is_answered_to_the_end() {
    let place = Place::new();
    let server = place.serve().await;
    let version = mistake(&server, &place, 0).await["policy_version"].clone();
    let mut body = question(1);
    body["model"] = json!("mistake");
    let whole = server.generate(body.clone()).await;
    body["stream"] = json!(true);
    let running = server.send(post("/v1/generate", &body.to_string())).await;
    let gone = remove(&server, "mistake", 1).await;
    assert_eq!(gone.status, StatusCode::OK, "{}", gone.text);
    let bytes = running.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let chunks: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
        .collect();
    let said: String = chunks.iter().filter_map(|c| c["text"].as_str()).collect();
    assert_eq!(whole["text"], said);
    let last = chunks.last().unwrap();
    assert_eq!(last["steering"]["policy_version"], version);
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
}

#[tokio::test]
async fn what_has_to_stay_stays() {
    let place = Place::new();
    let server = place.serve().await;
    mistake(&server, &place, 0).await;
    let before = ids(&server).await;
    let base = server.get("/v1/models").await.json()["data"][0]["root"].clone();
    refused(
        &remove(&server, "kind", 0).await,
        409,
        "policy_not_removable",
    );
    refused(
        &remove(&server, "plain", 0).await,
        409,
        "policy_not_removable",
    );
    refused(
        &remove(&server, base.as_str().unwrap(), 0).await,
        409,
        "policy_not_removable",
    );
    refused(&remove(&server, "nobody", 0).await, 404, "policy_not_found");
    refused(
        &remove(&server, "mistake", 0).await,
        409,
        "generation_mismatch",
    );
    let blind = server.delete("/admin/v1/policies/mistake").await;
    refused(&blind, 400, "missing_required_parameter");
    let odd = server.delete("/admin/v1/policies/mistake?version=1").await;
    refused(&odd, 400, "invalid_value");
    assert_eq!(ids(&server).await, before);

    let bare = Place::new();
    std::fs::remove_dir_all(bare.model.path().join("policies")).unwrap();
    std::fs::remove_file(bare.model.path().join("policies.json")).unwrap();
    let server = bare.serve().await;
    mistake(&server, &bare, 0).await;
    let reply = remove(&server, "mistake", 1).await;
    refused(&reply, 409, "policy_not_removable");
    assert!(reply.text.contains("the only one"), "{}", reply.text);
}
