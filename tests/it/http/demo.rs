//! The demo that ships in the repository: what a newcomer sees first.

use std::path::Path;

use serde_json::json;
use steersman::service::ServiceSettings;

use super::client::Server;

#[tokio::test]
async fn the_demo_follows_its_weights() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let server = Server::over(&dir, &ServiceSettings::default());
    let objectives = server.get("/v1/objectives").await.json();
    assert_eq!(objectives["model"], "facts");
    for (question, fact) in [
        ("What is the capital of France?", "Paris"),
        ("What is the capital of Kenya?", "Nairobi"),
        ("How many people live in Egypt?", "113 million"),
    ] {
        let mut words = Vec::new();
        for (brevity, detail) in [(1.0, 0.0), (0.0, 1.0)] {
            let answer = server
                .generate(json!({
                    "prompt": question,
                    "objective_weights": {"brevity": brevity, "detail": detail},
                    "temperature": 0, "max_tokens": 96,
                }))
                .await;
            let text = answer["text"].as_str().unwrap();
            assert!(text.contains(fact), "{question}: {text}");
            words.push(text.split_whitespace().count());
            let told = &answer["steering"]["encoded"];
            assert_eq!(*told, json!({"brevity": brevity, "detail": detail}));
        }
        assert!(words[1] >= 2 * words[0], "{question}: {words:?} words");
    }
}
