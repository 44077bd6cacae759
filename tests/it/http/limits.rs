//! How much a key may use, and that its bounds and limits hold wherever answers are made.

use axum::http::StatusCode;
use serde_json::{Value, json};
use steersman::service::{NewKey, Scope, WeightRange};

use super::keys::{Guarded, check_error, on_each};

#[tokio::test]
async fn limits_are_told_and_refuse_with_when_to_come_again() {
    on_each(async |guarded: &Guarded| {
        let limited = NewKey {
            scopes: vec![Scope::Generate],
            requests_per_minute: Some(3),
            tokens_per_minute: Some(100_000),
            ..NewKey::default()
        };
        let (secret, _) = guarded.key(limited).await;
        let ask = async || {
            guarded
                .ask("GET", "/v1/models", Some(&secret), &json!({}))
                .await
        };
        for left in ["2", "1", "0"] {
            let reply = ask().await;
            assert_eq!(reply.status, StatusCode::OK);
            assert_eq!(reply.header("x-ratelimit-limit-requests"), "3");
            assert_eq!(reply.header("x-ratelimit-remaining-requests"), left);
            assert_eq!(reply.header("x-ratelimit-remaining-tokens"), "100000");
            assert_ne!(reply.header("x-ratelimit-reset-requests"), "");
        }
        let refused = ask().await;
        check_error(&refused, 429, "rate_limit_error", "rate_limit_exceeded");
        let wait: u64 = refused.header("retry-after").parse().unwrap();
        let wait_ms: u64 = refused.header("retry-after-ms").parse().unwrap();
        assert!(
            (1..=20).contains(&wait) && wait_ms <= 20_000,
            "{wait} {wait_ms}"
        );
        assert_eq!(refused.header("x-ratelimit-remaining-requests"), "0");
        // another key's limits are its own, and a key without any is told none
        let other = guarded.with(&[Scope::Generate]).await;
        let reply = guarded
            .ask("GET", "/v1/models", Some(&other), &json!({}))
            .await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.header("x-ratelimit-limit-requests"), "");
    })
    .await;
}

#[tokio::test]
async fn tokens_of_prompts_and_answers_count() {
    on_each(async |guarded: &Guarded| {
        let limited = NewKey {
            scopes: vec![Scope::Generate],
            tokens_per_minute: Some(40),
            ..NewKey::default()
        };
        let (secret, _) = guarded.key(limited).await;
        let body = json!({"max_tokens": 60, "ignore_eos": true});
        let reply = guarded.generate(&secret, body.clone()).await;
        // what runs is not cut, though it goes beyond the limit
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        let spent = reply.json()["usage"]["total_tokens"].as_u64().unwrap();
        assert!(spent > 60);
        assert_eq!(reply.header("x-ratelimit-remaining-tokens"), "0");
        let refused = guarded.generate(&secret, body).await;
        check_error(&refused, 429, "rate_limit_error", "rate_limit_exceeded");
        assert!(
            refused.text.contains("40 tokens a minute"),
            "{}",
            refused.text
        );
        // owed: what was spent beyond 40, and one to begin with, at 40 a minute
        let wait = refused.header("retry-after-ms").parse::<f64>().unwrap() / 1e3;
        let owed = (spent as f64 - 40.0 + 1.0) / 40.0 * 60.0;
        assert!(wait <= owed && wait > owed - 5.0, "{wait} of {owed}");
    })
    .await;
}

#[tokio::test]
async fn bounds_and_limits_hold_on_every_generating_route() {
    on_each(async |guarded: &Guarded| {
        let bounded = NewKey {
            scopes: vec![Scope::Generate],
            // a sweep has its own weights: this one is not asked for there
            default_profile: Some("lost".to_owned()),
            weight_ranges: vec![WeightRange {
                objective: "harmlessness".to_owned(),
                least: 0.3,
                most: 1.0,
            }],
            tokens_per_minute: Some(10),
            ..NewKey::default()
        };
        let chat = json!([{"role": "user", "content": "Hello"}]);
        let short = json!({"max_tokens": 8, "ignore_eos": true});
        for (path, body, field, within, beyond) in [
            (
                "/v1/completions",
                json!({"prompt": ["Hello", "there"], "n": 2}),
                "objective_weights",
                json!([1, 1]),
                json!([1, 0]),
            ),
            (
                "/v1/chat/completions",
                json!({"messages": chat}),
                "objective_weights",
                json!([1, 1]),
                json!([1, 0]),
            ),
            (
                "/v1/sweep",
                json!({"prompt": "Hello"}),
                "points",
                json!([[1, 1], [0, 1]]),
                json!([[1, 1], [1, 0]]),
            ),
        ] {
            let (secret, _) = guarded.key(bounded.clone()).await;
            let ask = async |weights: &Value| {
                let mut request = body.clone();
                for (key, value) in short.as_object().unwrap() {
                    request[key] = value.clone();
                }
                request[field] = weights.clone();
                guarded.ask("POST", path, Some(&secret), &request).await
            };
            let refused = ask(&beyond).await;
            check_error(
                &refused,
                403,
                "permission_error",
                "objective_weight_forbidden",
            );
            assert_eq!(refused.header("x-ratelimit-remaining-tokens"), "10");
            let reply = ask(&within).await;
            assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text);
            let spent = reply.json()["usage"]["total_tokens"].as_u64().unwrap();
            assert!(spent > 16, "{path}: {spent}");
            let refused = ask(&within).await;
            check_error(&refused, 429, "rate_limit_error", "rate_limit_exceeded");
            // owed: what was spent beyond 10, and one to begin with, at 10 a minute
            let wait = refused.header("retry-after-ms").parse::<f64>().unwrap() / 1e3;
            let owed = (spent as f64 - 10.0 + 1.0) / 10.0 * 60.0;
            assert!(
                wait <= owed && wait > owed - 5.0,
                "{path}: {wait} of {owed}"
            );
        }
    })
    .await;
}
