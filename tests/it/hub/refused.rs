//! What a refusal of the hub means, in words that say what to do.

use axum::http::Method;

use super::stand_in::{StandIn, Trick};
use super::{Asker, repository, said};

/// A refusal of a request: its method, the end of its route, and what is answered.
type Refusal = (
    Method,
    &'static str,
    u16,
    Option<&'static str>,
    &'static str,
);

/// Holds what is said of a refusal against the words that it must have.
async fn check(refusal: Refusal, token: Option<&str>, words: &[&str]) {
    let (method, end, status, code, reason) = refusal;
    let hub = StandIn::start(repository("qwen2"));
    hub.trick(method, end, Trick::Refuse(status, code, reason));
    let asker = Asker::of(&hub);
    let variables = token.map(|token| ("HF_TOKEN", token));
    let fetched = asker.fetch_with("org/tiny", variables.as_slice()).await;
    let error = said(&fetched.unwrap_err());
    for words in words {
        assert!(error.contains(words), "{status} {code:?} of {end}: {error}");
    }
    assert!(!token.is_some_and(|token| error.contains(token)), "{error}");
}

#[tokio::test]
async fn a_refusal_of_the_model_says_which_it_is_and_what_helps() {
    let (none, token) = (None, Some("hf_secret"));
    let refused = |status, code, reason| (Method::GET, "/revision/main", status, code, reason);
    let missing = Some("RepoNotFound");
    let both = "`org/tiny` is no folder here";
    check(
        refused(401, missing, ""),
        none,
        &[both, "HF_TOKEN is not set"],
    )
    .await;
    check(
        refused(404, missing, ""),
        token,
        &[both, "the token of HF_TOKEN may not"],
    )
    .await;
    check(
        refused(404, None, ""),
        none,
        &["no such model: it is misspelt, or private"],
    )
    .await;
    let no_revision = refused(404, Some("RevisionNotFound"), "");
    check(no_revision, none, &["no branch, tag or commit `main`"]).await;
    let invalid = refused(401, None, "Invalid credentials in Authorization header");
    check(invalid, token, &["does not accept the token of HF_TOKEN"]).await;
    let forbidden = refused(403, None, "no such right");
    check(
        forbidden,
        token,
        &["`org/tiny`", "answered 403 (no such right)"],
    )
    .await;
}

#[tokio::test]
async fn a_refusal_of_a_file_says_which_and_what_helps() {
    let (none, token) = (None, Some("hf_secret"));
    let refused = |status, code| (Method::HEAD, "/config.json", status, code, "");
    let gated = Some("GatedRepo");
    check(
        refused(401, gated),
        none,
        &["accept its terms at", "set HF_TOKEN"],
    )
    .await;
    check(
        refused(403, gated),
        token,
        &["check that the token of HF_TOKEN"],
    )
    .await;
    let whose = "config.json of the model `org/tiny` cannot be fetched: ";
    check(refused(404, Some("EntryNotFound")), none, &[whose]).await;
    // what the host of large files says is not said of the model
    let elsewhere = (Method::GET, "/large/model.safetensors", 404, gated, "");
    check(
        elsewhere,
        none,
        &["model.safetensors of the model", "localhost", "404"],
    )
    .await;
}

#[tokio::test]
async fn a_model_that_the_hub_does_not_have_is_named_with_both_of_its_meanings() {
    let hub = StandIn::start([]);
    let error = said(&Asker::of(&hub).fetch("org/other").await.unwrap_err());
    for words in [
        "`org/other` is no folder here",
        "shows no such model",
        &hub.url,
    ] {
        assert!(error.contains(words), "{error}");
    }
    let error = said(&Asker::of(&hub).fetch("org/tiny").await.unwrap_err());
    assert!(error.contains("holds no tensors"), "{error}");
}
