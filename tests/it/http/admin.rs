//! Files and training jobs over the real router, in OpenAI's shapes.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use steersman::http::{HttpSettings, admin_router, router};
use steersman::service::{App, FineTuning, NewKey, Scope, ServiceSettings, create_key};
use steersman::store::{Store, StoreSettings};
use tempfile::TempDir;
use tower::ServiceExt;

use super::client::{Reply, Server, post};
use super::folder;
use crate::jobs::bench::{mo_odpo, prompts};

const FILES: &str = "/admin/v1/files";
const JOBS: &str = "/admin/v1/fine_tuning/jobs";

struct Admin {
    server: Server,
    store: Store,
    /// Where jobs look for their base and their files.
    _folders: [TempDir; 2],
}

async fn admin() -> Admin {
    let (data, model) = (tempfile::tempdir().unwrap(), folder::with_policies());
    let store = open(data.path()).await;
    let app = App::load(model.path(), &ServiceSettings::default()).unwrap();
    let app = app
        .with_store(store.clone())
        .with_fine_tuning(FineTuning::at(data.path()));
    Admin {
        server: Server::of(app),
        store,
        _folders: [data, model],
    }
}

async fn open(dir: &Path) -> Store {
    let settings = StoreSettings {
        data_dir: dir.to_owned(),
        database_url: None,
    };
    Store::open(&settings).await.unwrap()
}

/// An upload as clients send it.
fn upload(content: &str, purpose: &str) -> Request<Body> {
    let body = format!(
        "--x\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\n{purpose}\r\n--x\r\n\
         content-disposition: form-data; name=\"file\"; filename=\"rows.jsonl\"\r\n\
         content-type: application/octet-stream\r\n\r\n{content}\r\n--x--\r\n"
    );
    Request::post(FILES)
        .header("content-type", "multipart/form-data; boundary=x")
        .body(Body::from(body))
        .unwrap()
}

impl Admin {
    async fn file(&self, content: &str) -> Value {
        let reply = self.server.ask(upload(content, "fine-tune")).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        reply.json()
    }

    async fn job(&self) -> Value {
        let file = self.file(&prompts()).await;
        let wanted = mo_odpo(json!({}));
        let body = json!({
            "model": wanted.model,
            "training_file": file["id"],
            "method": wanted.method,
            "suffix": wanted.suffix,
            "seed": 11,
            "metadata": {"team": "a"},
        });
        let reply = self.server.post(JOBS, &body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        reply.json()
    }

    async fn turn(&self, job: &Value, verb: &str) -> Reply {
        let path = format!("{JOBS}/{}/{verb}", job["id"].as_str().unwrap());
        self.server.post(&path, &json!({})).await
    }
}

fn check_error(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    assert_eq!(reply.json()["error"]["code"], code, "{}", reply.text);
}

#[tokio::test]
async fn files_are_kept_listed_read_and_removed() {
    let admin = admin().await;
    let text = prompts();
    let (one, two) = (admin.file(&text).await, admin.file(&text).await);
    assert_eq!(one["object"], "file");
    assert_eq!((&one["kind"], &one["rows"]), (&json!("prompts"), &json!(4)));
    assert_eq!(
        (&one["filename"], &one["status"]),
        (&json!("rows.jsonl"), &json!("processed"))
    );
    assert_eq!(one["bytes"], text.len());
    let page = admin.server.get(&format!("{FILES}?limit=1")).await.json();
    assert_eq!(
        (&page["data"][0]["id"], &page["has_more"]),
        (&two["id"], &json!(true))
    );
    let after = two["id"].as_str().unwrap();
    let page = admin
        .server
        .get(&format!("{FILES}?limit=1&after={after}"))
        .await
        .json();
    assert_eq!(
        (&page["data"][0]["id"], &page["has_more"]),
        (&one["id"], &json!(false))
    );
    let page = admin
        .server
        .get(&format!("{FILES}?order=asc&purpose=fine-tune"))
        .await
        .json();
    assert_eq!(page["data"][0]["id"], one["id"]);
    let path = format!("{FILES}/{}", one["id"].as_str().unwrap());
    assert_eq!(admin.server.get(&path).await.json(), one);
    assert_eq!(
        admin.server.get(&format!("{path}/content")).await.text,
        text
    );
    let gone = admin.server.delete(&path).await.json();
    assert_eq!(
        (&gone["deleted"], &gone["object"]),
        (&json!(true), &json!("file"))
    );
    check_error(&admin.server.get(&path).await, 404, "file_not_found");
    check_error(&admin.server.delete(&path).await, 404, "file_not_found");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_refused_by_line() {
    let admin = admin().await;
    let bad = format!("{}{{\n{{\"prompt\":[]}}\n", prompts());
    let refused = admin.server.ask(upload(&bad, "fine-tune")).await;
    check_error(&refused, 400, "invalid_file");
    for words in ["line 5: not JSON", "line 6: the prompt is empty"] {
        assert!(refused.text.contains(words), "{}", refused.text);
    }
    let refused = admin.server.ask(upload(&prompts(), "batch")).await;
    check_error(&refused, 400, "invalid_value");
    let refused = admin.server.post(FILES, &json!({})).await;
    check_error(&refused, 400, "invalid_body");
    let empty = Request::post(FILES)
        .header("content-type", "multipart/form-data; boundary=x")
        .body(Body::from("--x--\r\n"));
    let refused = admin.server.ask(empty.unwrap()).await;
    check_error(&refused, 400, "missing_field");
    let page = admin.server.get(FILES).await.json();
    assert_eq!(page["data"], json!([]), "nothing of them is kept");
}

#[tokio::test]
async fn a_job_is_made_shown_whole_and_turned() {
    let admin = admin().await;
    let job = admin.job().await;
    assert_eq!(job["object"], "fine_tuning.job");
    assert_eq!(job["status"], "queued");
    assert_eq!(job["method"]["type"], "mo_odpo");
    assert_eq!(
        job["method"]["mo_odpo"]["hyperparameters"],
        job["hyperparameters"]
    );
    assert_eq!(job["hyperparameters"]["temperature"], 1.0);
    assert_eq!(job["hyperparameters"]["condition_dropout"], 0.1);
    assert_eq!(job["method"]["mo_odpo"]["objectives"][1]["name"], "detail");
    assert_eq!(job["metadata"], json!({"team": "a"}));
    assert!(job["fine_tuned_model"].is_null() && job["error"].is_null());
    let path = format!("{JOBS}/{}", job["id"].as_str().unwrap());
    assert_eq!(admin.server.get(&path).await.json(), job);
    assert_eq!(admin.server.get(JOBS).await.json()["data"], json!([job]));

    let file = format!("{FILES}/{}", job["training_file"].as_str().unwrap());
    check_error(&admin.server.delete(&file).await, 409, "file_in_use");
    assert_eq!(admin.turn(&job, "pause").await.json()["status"], "paused");
    assert_eq!(admin.turn(&job, "pause").await.json()["status"], "paused");
    assert_eq!(admin.turn(&job, "resume").await.json()["status"], "queued");
    assert_eq!(
        admin.turn(&job, "cancel").await.json()["status"],
        "cancelled"
    );
    let refused = admin.turn(&job, "resume").await;
    check_error(&refused, 409, "job_not_resumable");
    let refused = admin.turn(&job, "pause").await;
    check_error(&refused, 409, "job_not_pausable");
    assert_eq!(refused.header("x-should-retry"), "false");
    assert_eq!(admin.server.delete(&file).await.status, StatusCode::OK);

    let events = admin
        .server
        .get(&format!("{path}/events?limit=2"))
        .await
        .json();
    assert_eq!(events["has_more"], true);
    assert_eq!(events["data"][0]["object"], "fine_tuning.job.event");
    assert!(
        events["data"][0]["message"]
            .as_str()
            .unwrap()
            .contains("end for good")
    );
    let after = events["last_id"].as_str().unwrap();
    let rest = admin
        .server
        .get(&format!("{path}/events?after={after}"))
        .await
        .json();
    assert_eq!(rest["data"].as_array().unwrap().len(), 2);
    let checkpoints = admin
        .server
        .get(&format!("{path}/checkpoints"))
        .await
        .json();
    assert_eq!(checkpoints["data"], json!([]));
}

#[tokio::test]
async fn jobs_are_found_by_their_metadata() {
    let admin = admin().await;
    let jobs = [admin.job().await, admin.job().await, admin.job().await];
    let ids = async |query: &str| {
        let page = admin.server.get(&format!("{JOBS}?{query}")).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        let page = page.json();
        let ids = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["id"].clone());
        (ids.collect::<Vec<_>>(), page["has_more"] == true)
    };
    let [one, two, three] = jobs.map(|job| job["id"].clone());
    let all = vec![three.clone(), two.clone(), one.clone()];
    assert_eq!(ids("metadata[team]=a").await, (all, false));
    assert_eq!(ids("metadata%5Bteam%5D=b").await, (Vec::new(), false));
    assert_eq!(
        ids("metadata[team]=a&metadata[x]=").await,
        (Vec::new(), false)
    );
    assert_eq!(
        ids("limit=2&metadata[team]=a").await,
        (vec![three, two.clone()], true)
    );
    let after = format!("after={}&metadata[team]=a", two.as_str().unwrap());
    assert_eq!(ids(&after).await, (vec![one], false));
}

#[tokio::test]
async fn a_stream_of_events_tells_all_and_ends_with_the_job() {
    let admin = admin().await;
    let job = admin.job().await;
    let path = format!("{JOBS}/{}", job["id"].as_str().unwrap());
    let stream = format!("{path}/events?stream=true");
    let tail = admin.server.get(&stream);
    let turns = async {
        admin.turn(&job, "pause").await;
        admin.turn(&job, "cancel").await;
    };
    let (tail, ()) = tokio::join!(tail, turns);
    assert!(tail.header("content-type").starts_with("text/event-stream"));
    let chunks = tail.chunks();
    let messages: Vec<&str> = chunks
        .iter()
        .map(|c| c["message"].as_str().unwrap())
        .collect();
    assert_eq!(messages.len(), 3, "{messages:?}");
    assert!(messages[0].contains("waits") && messages[2].contains("end for good"));
    let first = chunks[0]["id"].as_str().unwrap();
    let rest = admin
        .server
        .get(&format!("{path}/events?stream=true&after={first}"))
        .await;
    assert_eq!(rest.chunks().len(), 2);
}

#[tokio::test]
async fn requests_that_cannot_be_answered_say_why() {
    let admin = admin().await;
    for path in ["ftjob-0", "x", "ftjob-%00"] {
        for more in ["", "/events", "/events?stream=true", "/checkpoints"] {
            let reply = admin.server.get(&format!("{JOBS}/{path}{more}")).await;
            check_error(&reply, 404, "job_not_found");
        }
        let reply = admin
            .server
            .post(&format!("{JOBS}/{path}/cancel"), &json!({}))
            .await;
        check_error(&reply, 404, "job_not_found");
    }
    for query in [
        "limit=0",
        "limit=x",
        "after=nobody",
        "after=ftjob-%00",
        "mood=1",
        "limit=1&limit=1",
        "metadata=a",
        "metadata[team=a",
    ] {
        let reply = admin.server.get(&format!("{JOBS}?{query}")).await;
        check_error(&reply, 400, "invalid_value");
    }
    let refused = admin
        .server
        .post(JOBS, &json!({"model": "plain", "mood": 1}))
        .await;
    check_error(&refused, 400, "unknown_parameter");
    let wandb = json!({"model": "plain", "integrations": [{"type": "wandb"}]});
    check_error(
        &admin.server.post(JOBS, &wandb).await,
        400,
        "unsupported_parameter",
    );
    let missing = admin.server.post(JOBS, &json!({"model": "plain"})).await;
    assert_eq!(missing.json()["error"]["param"], "training_file");
}

#[tokio::test]
async fn without_the_scope_admin_no_route_of_it_answers() {
    let admin = admin().await;
    let document = admin.server.get("/admin/v1/openapi.json").await.json();
    let mut secrets = Vec::new();
    for scopes in [
        vec![Scope::Generate, Scope::Profiles, Scope::Metrics],
        vec![Scope::Admin],
    ] {
        let new = NewKey {
            name: "x".to_owned(),
            scopes,
            ..NewKey::default()
        };
        let (secret, _) = create_key(&admin.store, new).await.unwrap();
        secrets.push(secret.reveal().to_owned());
    }
    let mut checked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let ask = async |secret: Option<&str>| {
                let request = Request::builder()
                    .method(method.to_uppercase().as_str())
                    .uri(path.replace("{id}", "x"));
                let request = match secret {
                    Some(secret) => request.header("authorization", format!("Bearer {secret}")),
                    None => request,
                };
                admin
                    .server
                    .ask(request.body(Body::empty()).unwrap())
                    .await
                    .status
            };
            assert_eq!(ask(None).await, StatusCode::UNAUTHORIZED, "{method} {path}");
            assert_eq!(
                ask(Some(&secrets[0])).await,
                StatusCode::FORBIDDEN,
                "{method} {path}"
            );
            let status = ask(Some(&secrets[1])).await;
            assert!(
                status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN,
                "{method} {path}: {status}"
            );
            checked += 1;
        }
    }
    assert!(checked >= 12, "{checked}");
}

#[tokio::test]
async fn with_a_listener_of_their_own_the_public_one_does_not_have_them() {
    let (data, model) = (tempfile::tempdir().unwrap(), folder::with_policies());
    let store = open(data.path()).await;
    let app = App::load(model.path(), &ServiceSettings::default()).unwrap();
    let tuning = FineTuning::at(data.path());
    let app = app.with_store(store).with_fine_tuning(tuning);
    let app = Arc::new(app.with_admin_apart());
    let get = async |router: Router, path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        router.oneshot(request).await.unwrap().status()
    };
    let settings = HttpSettings::default();
    assert_eq!(
        get(router(Arc::clone(&app), &settings), JOBS).await,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        get(admin_router(Arc::clone(&app), &settings), JOBS).await,
        StatusCode::OK
    );
    for path in [
        "/healthz",
        "/health",
        "/ping",
        "/healthz/",
        "/admin/v1//files/",
    ] {
        let found = get(admin_router(Arc::clone(&app), &settings), path).await;
        assert_eq!(found, StatusCode::OK, "{path}");
    }
    assert_eq!(
        get(admin_router(app, &settings), "/v1/models").await,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn objectives_that_the_policys_own_conditioning_cannot_tell_are_at_fault_themselves() {
    let admin = admin().await;
    let file = admin.file(&prompts()).await;
    let mut method = mo_odpo(json!({})).method.unwrap();
    let part = method["mo_odpo"].as_object_mut().unwrap();
    part.remove("conditioning");
    part["objectives"][0]["name"] = json!("mood");
    let ask = async |method: &Value| {
        let body = json!({"model": "kind", "training_file": file["id"], "method": method});
        admin.server.post(JOBS, &body).await
    };
    let reply = ask(&method).await;
    check_error(&reply, 400, "invalid_value");
    let error = reply.json()["error"].clone();
    assert_eq!(error["param"], "method.mo_odpo.objectives", "{error}");
    assert!(
        error["message"].as_str().unwrap().contains("{mood}"),
        "{error}"
    );
    // what cannot be read at all is the method's, not that of a field called `the job`
    method["mo_odpo"]["objectives"][1]["description"] = json!(5);
    let error = ask(&method).await.json()["error"].clone();
    assert_eq!(error["param"], "method.mo_odpo", "{error}");
}

#[tokio::test]
async fn a_server_without_jobs_has_none_of_it() {
    let reply = Server::shared().get(JOBS).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    let reply = Server::shared().send(post(JOBS, "{}")).await;
    assert_eq!(reply.status(), StatusCode::NOT_FOUND);
    drop(reply.into_body().collect().await.unwrap());
}

#[tokio::test]
async fn the_admin_document_is_the_committed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/admin.json");
    let committed = std::fs::read_to_string(path).unwrap();
    let served = admin().await.server.get("/admin/v1/openapi.json").await;
    assert!(
        served.text == committed,
        "openapi/admin.json is not what the handlers say; run `cargo run -- openapi --write`"
    );
    let document = served.json();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            assert!(operation["operationId"].is_string(), "{path}");
            assert!(operation["summary"].is_string(), "{path}");
        }
    }
    let beta = "/components/schemas/FineTuningMethod/properties/mo_odpo/properties/\
                hyperparameters/properties/beta/oneOf/0/exclusiveMinimum";
    assert!(
        document.pointer(beta).is_some(),
        "ranges stand in the document"
    );
}
