//! Promotion under load: nothing dropped, nothing mixed, every answer as if asked alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::http::StatusCode;
use futures::future::join_all;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::harness::{Place, ask, lone, promoted, question, roll_back};
use crate::http::client::{Server, post};

const STREAMS: usize = 32;

/// The chunks of a stream that ended well.
fn chunks(text: &str) -> Vec<Value> {
    let mut data: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    assert_eq!(data.pop(), Some("[DONE]"), "{text}");
    let read = |data: &str| serde_json::from_str(data).unwrap();
    data.into_iter().map(read).collect()
}

/// The one version of a stream, and its text.
fn told(text: &str) -> (String, String) {
    let (mut versions, mut whole) = (Vec::new(), String::new());
    for chunk in chunks(text) {
        if let Some(version) = chunk["steering"]["policy_version"].as_str() {
            versions.push(version.to_owned());
        }
        if let Some(text) = chunk["text"].as_str() {
            whole += text;
        }
    }
    versions.dedup();
    assert_eq!(versions.len(), 1, "{versions:?}");
    (versions.remove(0), whole)
}

/// Starts a stream and reads its first frame.
async fn begin(server: &Server, prompt: usize) -> (Body, String) {
    let mut body = question(prompt);
    body["stream"] = json!(true);
    let response = server.send(post("/v1/generate", &body.to_string())).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body();
    let frame = body.frame().await.unwrap().unwrap();
    let first = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
    (body, first)
}

async fn finish((body, first): (Body, String)) -> (String, String) {
    let rest = body.collect().await.unwrap().to_bytes();
    told(&(first + std::str::from_utf8(&rest).unwrap()))
}

/// What each version says alone: `[prompt]`.
async fn alone(server: &Server) -> Vec<(String, String)> {
    let mut answers = Vec::new();
    for prompt in 0..STREAMS {
        answers.push(ask(server, prompt).await);
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_streams_finish_on_their_version_and_new_ones_start_on_the_next() {
    let place = Place::new();
    let candidate = place.better(-40);
    let before = alone(&lone(&place, None)).await;
    let after = alone(&lone(&place, Some(&candidate))).await;
    assert!(before.iter().zip(&after).all(|(a, b)| a.0 != b.0));
    let differ = before.iter().zip(&after).filter(|(a, b)| a.1 != b.1);
    assert!(differ.count() > STREAMS / 2, "the versions answer alike");
    let server = place.serve().await;
    let running = join_all((0..STREAMS).map(|prompt| begin(&server, prompt))).await;
    let standing = promoted(&server, &candidate, 0).await;
    assert_eq!(standing["policy_version"], after[0].0.as_str());
    let new = join_all((0..STREAMS).map(|prompt| begin(&server, prompt))).await;
    let finished = join_all(running.into_iter().map(finish)).await;
    assert_eq!(finished, before);
    assert_eq!(join_all(new.into_iter().map(finish)).await, after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_dropped_or_mixed_over_many_changes() {
    let place = Place::new();
    let candidates = [place.better(-40), place.better(60)];
    let mut expected: HashMap<String, Vec<String>> = HashMap::new();
    for checkpoint in [None, Some(&candidates[0]), Some(&candidates[1])] {
        let answers = alone(&lone(&place, checkpoint.map(|path| path.as_path()))).await;
        let texts = answers.iter().map(|(_, text)| text.clone()).collect();
        expected.insert(answers[0].0.clone(), texts);
    }
    assert_eq!(expected.len(), 3);
    let (server, expected) = (Arc::new(place.serve().await), Arc::new(expected));
    let done = Arc::new(AtomicBool::new(false));
    let answered = watch::Sender::new(0);
    let mut heard = answered.subscribe();
    let callers: Vec<_> = (0..STREAMS)
        .map(|prompt| {
            let (server, expected) = (Arc::clone(&server), Arc::clone(&expected));
            let (done, answered) = (Arc::clone(&done), answered.clone());
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !done.load(Ordering::Relaxed) || seen.is_empty() {
                    let (version, text) = finish(begin(&server, prompt).await).await;
                    assert_eq!(text, expected[&version][prompt], "{version}");
                    answered.send_modify(|count| *count += 1);
                    seen.push(version);
                }
                seen
            })
        })
        .collect();
    for version in 0..9 {
        let target = *heard.borrow() + STREAMS / 2;
        heard.wait_for(|count| *count >= target).await.unwrap();
        match version % 4 {
            0 => drop(promoted(&server, &candidates[0], version).await),
            1 => drop(promoted(&server, &candidates[1], version).await),
            _ => assert_eq!(roll_back(&server, version).await.status, StatusCode::OK),
        }
    }
    done.store(true, Ordering::Relaxed);
    let mut seen = Vec::new();
    for caller in callers {
        seen.extend(caller.await.unwrap());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3, "{seen:?}");
}
