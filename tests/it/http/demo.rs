//! The demo that ships in the repository: what a newcomer sees first.

use std::path::Path;

use serde_json::json;
use steersman::service::ServiceSettings;

use super::client::Server;

#[tokio::test]
async fn the_demo_answers_and_says_what_it_was_told() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let server = Server::over(&dir, &ServiceSettings::default());
    let objectives = server.get("/v1/objectives").await.json();
    assert_eq!(objectives["model"], "facts");
    for (brevity, detail) in [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)] {
        let answer = server
            .generate(json!({
                "prompt": "Where is Chad?",
                "objective_weights": {"brevity": brevity, "detail": detail},
                "temperature": 0, "max_tokens": 60,
            }))
            .await;
        let text = answer["text"].as_str().unwrap();
        assert!(text.contains("Africa"), "{text}");
        let told = &answer["steering"]["encoded"];
        assert_eq!(*told, json!({"brevity": brevity, "detail": detail}));
    }
}
