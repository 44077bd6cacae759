//! A GGUF file behind the server: answers, policies beside it, and what `inspect` says.

use serde_json::json;
use steersman::service::{App, Inspection, ServiceSettings};

use super::writer::converted;
use crate::fixtures::fixture;
use crate::http::client::Server;
use crate::http::folder;

#[tokio::test]
async fn a_file_answers_as_its_folder_does() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny llama.F32.gguf");
    std::fs::write(&path, converted("llama").finish()).unwrap();
    let plain = folder::base();
    let settings = ServiceSettings::default();
    let (file, folder) = (
        Server::over(&path, &settings),
        Server::over(plain.path(), &settings),
    );
    assert_eq!(file.app.default_policy().id, "tiny-llama.F32");
    for body in [
        json!({"prompt": "Hello there", "max_tokens": 12, "temperature": 0}),
        json!({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12, "seed": 3,
               "temperature": 1, "top_p": 0.9}),
    ] {
        let (ours, theirs) = (
            file.generate(body.clone()).await,
            folder.generate(body).await,
        );
        assert_eq!(ours["text"], theirs["text"]);
        assert_eq!(
            ours["usage"]["prompt_tokens"],
            theirs["usage"]["prompt_tokens"]
        );
        assert!(ours["text"].as_str().is_some_and(|text| !text.is_empty()));
    }
}

#[tokio::test]
async fn policies_beside_a_file_steer_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("base.gguf");
    std::fs::write(&path, converted("llama").finish()).unwrap();
    let policy = dir.path().join("policies/kind");
    let adapter = ["adapter_config.json", "adapter_model.safetensors"];
    folder::copy_files(&fixture("llama").join("adapter"), &policy, &adapter);
    folder::write(&policy.join("steering.json"), &folder::manifest());
    let app = App::load(&path, &ServiceSettings::default()).unwrap();
    let server = Server::of(app);
    let body = json!({"prompt": "Hello", "max_tokens": 4, "objective_weights": [0.5, 0.5]});
    let reply = server.generate(body).await;
    assert_eq!(reply["model"], "kind");
    let seen = Inspection::of(&path).to_string();
    for words in [
        "GGUF file: ",
        "F32 ",
        "Llama",
        "model `kind`",
        "can be served",
    ] {
        assert!(seen.contains(words), "{words}: {seen}");
    }
    std::fs::write(&path, b"GGUF").unwrap();
    let seen = Inspection::of(&path).to_string();
    assert!(
        seen.contains("cannot be served") && seen.contains("base.gguf"),
        "{seen}"
    );
    let missing = Inspection::of(&dir.path().join("none.gguf")).to_string();
    assert!(missing.contains("no GGUF file"), "{missing}");
}
