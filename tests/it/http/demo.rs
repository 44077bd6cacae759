//! The demo that ships in the repository: what a newcomer sees first.

use std::path::Path;

use serde_json::{Value, json};
use steersman::service::ServiceSettings;

use super::client::Server;

#[tokio::test]
async fn the_demo_answers_two_settings_of_the_weights_differently() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    if !dir.join("model.safetensors").is_file() {
        // a checkout that is about to train it
        return;
    }
    let server = Server::over(&dir, &ServiceSettings::default());
    let objectives = server.get("/v1/objectives").await.json();
    assert_eq!(objectives["model"], "assistant");
    for (model, prompt, one, other) in [
        ("facts", "Where is Chad?", "brevity", "detail"),
        (
            "assistant",
            "How do I stay safe on a hike?",
            "helpfulness",
            "harmlessness",
        ),
    ] {
        let ask = |objective: &str| {
            json!({
                "model": model, "prompt": prompt, "objective_weights": {objective: 1},
                "temperature": 0, "max_tokens": 60,
            })
        };
        let texts: [Value; 2] = [
            server.generate(ask(one)).await["text"].clone(),
            server.generate(ask(other)).await["text"].clone(),
        ];
        assert_ne!(texts[0], texts[1], "{model}");
    }
}
