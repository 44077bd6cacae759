//! A service that fails gets its attempts; what it then has not answered is an error, never a 0.

use serde_json::{Value, json};
use steersman::rewards::RewardError;

use super::stand_in::{Says, StandIn, score, words};

fn config(server: &StandIn) -> Value {
    json!({
        "kind": "http", "url": server.url, "shape": "openrlhf",
        "retries": 2, "backoff_ms": 1, "timeout_seconds": 20,
    })
}

fn sound(body: &Value) -> Says {
    let count = body["query"].as_array().unwrap().len();
    Says::Json(json!({"rewards": vec![1.0; count]}))
}

/// Always the same answer: what the error says, and how often it was asked.
fn failing(answer: impl Fn() -> Says + Send + Sync + 'static) -> (String, usize) {
    let server = StandIn::start(move |_, _| answer());
    let error = score(&config(&server)).unwrap_err();
    assert!(error.is_service_failure(), "{error}");
    (words(&error), server.asked().len())
}

#[test]
fn what_may_pass_is_asked_again_and_then_counts() {
    for status in [408, 429, 500, 502, 503, 504] {
        let server = StandIn::start(move |number, body| match number {
            0 | 1 => Says::Status(status, json!({"error": "Overloaded"})),
            _ => sound(body),
        });
        assert_eq!(score(&config(&server)).unwrap(), [1.0; 5], "{status}");
        assert_eq!(server.asked().len(), 3, "{status}");
    }
}

#[test]
fn attempts_end_and_the_last_failure_is_told() {
    let (error, asked) = failing(|| Says::Status(503, json!({"error": "no model is loaded"})));
    assert_eq!(asked, 3);
    assert!(error.contains("asked 3 times"), "{error}");
    assert!(
        error.contains("503") && error.contains("no model is loaded"),
        "{error}"
    );
}

#[test]
fn what_will_not_pass_is_asked_once() {
    let bodies = json!({"detail": [{"msg": "bad", "input": "a caller's prompt"}]});
    let (error, asked) = failing(move || Says::Status(422, bodies.clone()));
    assert_eq!(asked, 1);
    assert!(
        error.contains("422") && !error.contains("prompt"),
        "{error}"
    );
    let (error, asked) = failing(|| Says::Status(404, json!({"message": "no such model"})));
    assert!(asked == 1 && error.contains("no such model"), "{error}");
}

#[test]
fn no_redirect_is_followed() {
    let elsewhere = StandIn::start(|_, body| sound(body));
    let to = elsewhere.url.clone();
    let (error, asked) = failing(move || Says::Redirect(to.clone()));
    assert!(asked == 1 && error.contains("redirect 307"), "{error}");
    assert!(elsewhere.asked().is_empty());
}

#[test]
fn a_wrong_count_is_an_error() {
    for rewards in [vec![], vec![1.0; 4], vec![1.0; 6]] {
        let (error, asked) = failing(move || Says::Json(json!({"rewards": rewards})));
        assert!(asked == 1 && error.contains("for 5 texts"), "{error}");
    }
}

#[test]
fn what_is_no_finite_number_is_an_error() {
    for text in [
        r#"{"rewards": [1, 1, NaN, 1, 1]}"#,
        r#"{"rewards": [1, 1, Infinity, 1, 1]}"#,
        r#"{"rewards": [1, 1, null, 1, 1]}"#,
        r#"{"rewards": [1, 1, 1e39, 1, 1]}"#,
        r#"{"rewards": [1, 1, 1e400, 1, 1]}"#,
        r#"{"rewards": [1, 1, "1", 1, 1]}"#,
        "<html>busy</html>",
        "",
    ] {
        let (_, asked) = failing(move || Says::Text(text));
        assert_eq!(asked, 1, "{text}");
    }
}

#[test]
fn an_answer_that_does_not_come_is_waited_for_only_so_long() {
    let server = StandIn::start(|_, _| Says::Nothing);
    let mut config = config(&server);
    config["timeout_seconds"] = json!(0.05);
    let error = score(&config).unwrap_err();
    assert!(error.is_service_failure());
    assert!(
        words(&error).contains("no answer within 0.05 s"),
        "{}",
        words(&error)
    );
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn a_server_that_is_not_there_is_an_error_after_all_attempts() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let config = json!({
        "kind": "http", "url": url, "shape": "openrlhf", "retries": 1, "backoff_ms": 1,
    });
    let error = score(&config).unwrap_err();
    assert!(
        matches!(error, RewardError::Service { attempts: 2, .. }),
        "{error}"
    );
    assert!(
        words(&error).contains("cannot be reached"),
        "{}",
        words(&error)
    );
}

#[test]
fn a_reward_can_be_asked_from_within_a_runtime() {
    let server = StandIn::start(|_, body| sound(body));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let scored = runtime.block_on(async { score(&config(&server)) });
    assert_eq!(scored.unwrap(), [1.0; 5]);
}
