//! What a refusal of the hub means, in words that say what to do.

use axum::http::Method;

use super::stand_in::{StandIn, Trick};
use super::{Asker, repository, said};

/// What is said where the hub refuses; `end` is of the route that it refuses.
async fn error_of(end: &'static str, refusal: Trick, variables: &[(&str, &str)]) -> String {
    let hub = StandIn::start(repository("qwen2"));
    let method = match end {
        "main" => Method::GET,
        _ => Method::HEAD,
    };
    hub.trick(method, end, refusal);
    let asker = Asker::of(&hub);
    let fetched = asker.fetch_with("org/tiny", variables).await;
    let error = said(&fetched.unwrap_err());
    assert!(!error.contains("hf_secret"), "{error}");
    error
}

#[tokio::test]
async fn a_refusal_says_which_it_is_and_what_helps() {
    let (none, token) = (&[][..], &[("HF_TOKEN", "hf_secret")][..]);
    let (missing, gated) = (Some("RepoNotFound"), Some("GatedRepo"));
    for (end, status, code, reason, variables, words) in [
        ("main", 401, missing, "", none, "HF_TOKEN is not set"),
        (
            "main",
            404,
            missing,
            "",
            token,
            "the token of HF_TOKEN may not read it",
        ),
        (
            "main",
            404,
            None,
            "",
            none,
            "shows no such model: it is misspelt, or private",
        ),
        (
            "main",
            404,
            Some("RevisionNotFound"),
            "",
            none,
            "no branch, tag or commit `main`",
        ),
        (
            "main",
            401,
            None,
            "Invalid credentials in it",
            token,
            "does not accept the token of HF_TOKEN",
        ),
        ("config.json", 401, gated, "", none, "accept its terms at"),
        (
            "config.json",
            403,
            gated,
            "",
            token,
            "check that the token of HF_TOKEN",
        ),
        (
            "main",
            403,
            None,
            "no such right",
            token,
            "answered 403 (no such right)",
        ),
    ] {
        let error = error_of(end, Trick::Refuse(status, code, reason), variables).await;
        assert!(error.contains(words), "{status} {code:?}: {error}");
        assert!(
            error.contains("org/tiny") || error.contains("token"),
            "{error}"
        );
    }
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
