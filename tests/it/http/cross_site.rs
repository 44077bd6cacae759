//! Pages of other sites in a browser on the machine of a server that has no keys.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::json;
use steersman::service::{NewKey, Scope, create_key};

use super::client::{Reply, Server};
use crate::jobs::bench::Bench;

const HOST: (&str, &str) = ("host", "127.0.0.1:8080");
const ELSEWHERE: (&str, &str) = ("origin", "https://evil.example");

fn request(method: &Method, path: &str, fields: &[(&str, &str)], body: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

fn refused(reply: &Reply) {
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "{}", reply.text);
    let error = reply.json()["error"].clone();
    assert_eq!(error["code"], "cross_site_request");
    assert!(error["message"].as_str().unwrap().contains("keys create"));
}

/// What a page can send without asking first: a form with a file.
fn upload(fields: &[(&str, &str)]) -> Request<Body> {
    let form = "--x\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nfine-tune\r\n--x\r\n\
                content-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\
                {\"text\":\"The river is cold.\"}\n\r\n--x--\r\n";
    let kind = ("content-type", "multipart/form-data; boundary=x");
    let fields = [&[HOST, kind], fields].concat();
    request(&Method::POST, "/admin/v1/files", &fields, form)
}

#[tokio::test]
async fn a_page_elsewhere_uploads_nothing_and_turns_no_job() {
    let bench = Bench::start().await;
    let job = bench.mo_odpo(json!({})).await;
    let (store, server) = (bench.store.clone(), Server::of(bench.app));
    let files = async || server.get("/admin/v1/files").await.json()["data"].clone();
    let before = files().await;
    refused(&server.ask(upload(&[ELSEWHERE])).await);
    refused(
        &server
            .ask(upload(&[("sec-fetch-site", "cross-site")]))
            .await,
    );
    assert_eq!(files().await, before);
    for verb in ["pause", "cancel"] {
        let path = format!("/admin/v1/fine_tuning/jobs/{}/{verb}", job.id);
        let asked = request(&Method::POST, &path, &[HOST, ELSEWHERE], "");
        refused(&server.ask(asked).await);
    }
    let path = format!("/admin/v1/fine_tuning/jobs/{}", job.id);
    assert_eq!(server.get(&path).await.json()["status"], "queued");
    // a name of the page's own that leads here: to the browser this is the page's own server
    let rebound = [("host", "evil.example"), ("sec-fetch-site", "same-origin")];
    for (method, path) in [
        (Method::GET, path.as_str()),
        (Method::GET, "/v1/profiles"),
        (Method::DELETE, "/v1/profiles/ada"),
    ] {
        refused(&server.ask(request(&method, path, &rebound, "")).await);
    }

    // the server's own pages and programs
    for own in [
        &[
            ("origin", "http://127.0.0.1:8080"),
            ("sec-fetch-site", "same-origin"),
        ][..],
        &[],
    ] {
        let reply = server.ask(upload(own)).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    }

    // a browser adds no key by itself, so with keys nothing is left to be kept away
    let new = NewKey {
        name: "x".to_owned(),
        scopes: vec![Scope::Admin],
        ..NewKey::default()
    };
    let (secret, _) = create_key(&store, new).await.unwrap();
    let bearer = format!("Bearer {}", secret.reveal());
    let reply = server.ask(upload(&[ELSEWHERE])).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{}", reply.text);
    let reply = server
        .ask(upload(&[ELSEWHERE, ("authorization", &bearer)]))
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
}
