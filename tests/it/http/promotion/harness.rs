//! A server with a registry, and checkpoints to promote.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Value, json};
use steersman::service::{App, ServiceSettings};
use steersman::store::{Store, StoreSettings};
use tempfile::TempDir;

use crate::fixtures::fixture;
use crate::http::client::{Reply, Server};
use crate::http::folder;

/// A model folder and a data folder that outlive the servers over them.
pub(super) struct Place {
    pub(super) model: TempDir,
    pub(super) data: TempDir,
    made: TempDir,
}

/// What an evaluation of the test policy's objectives says.
pub(super) fn measured(spearman: f64, score: f64) -> Value {
    json!({
        "prompts": 10, "points": 3, "mean_inner_product": score,
        "objectives": {
            "helpfulness": {"spearman": spearman}, "harmlessness": {"spearman": 1.0},
        },
    })
}

impl Place {
    pub(super) fn new() -> Self {
        let model = folder::with_policies();
        let mut manifest = folder::manifest();
        manifest["evaluation"] = measured(0.9, 0.2);
        folder::write(&model.path().join("policies/kind/steering.json"), &manifest);
        Self {
            model,
            data: tempfile::tempdir().unwrap(),
            made: tempfile::tempdir().unwrap(),
        }
    }

    /// Starts a server with what was promoted before.
    pub(super) async fn serve(&self) -> Server {
        let settings = StoreSettings {
            data_dir: self.data.path().to_owned(),
            database_url: None,
        };
        let store = Store::open(&settings).await.unwrap();
        let app = App::load(self.model.path(), &ServiceSettings::default()).unwrap();
        let app = app.with_store(store.clone());
        Server::shared_by(app.with_registry(self.data.path(), store).await.unwrap())
    }

    /// A folder with an adapter that answers otherwise for each `alpha`, and its manifest.
    pub(super) fn candidate(&self, alpha: i64, change: impl Fn(&mut Value)) -> PathBuf {
        let to = self.made.path().join(format!("candidate-{alpha}"));
        let from = fixture("llama").join("adapter");
        folder::copy_files(&from, &to, &["adapter_model.safetensors"]);
        let config = std::fs::read(from.join("adapter_config.json")).unwrap();
        let mut config: Value = serde_json::from_slice(&config).unwrap();
        config["lora_alpha"] = json!(alpha);
        folder::write(&to.join("adapter_config.json"), &config);
        let mut manifest = folder::manifest();
        manifest["evaluation"] = measured(0.9, 0.3);
        change(&mut manifest);
        folder::write(&to.join("steering.json"), &manifest);
        to
    }

    /// A checkpoint that the gate lets through.
    pub(super) fn better(&self, alpha: i64) -> PathBuf {
        self.candidate(alpha, |_| {})
    }

    /// One file of a stored checkpoint.
    pub(super) fn stored(&self, id: &str, file: &str) -> PathBuf {
        self.data.path().join("checkpoints").join(id).join(file)
    }

    /// Flips the lowest bit of the last byte of a stored file.
    pub(super) fn flip(&self, id: &str, file: &str) {
        let path = self.stored(id, file);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
}

/// Asks for a promotion of `kind` from a folder.
pub(super) async fn promote(server: &Server, folder: &Path, expected: i64, more: Value) -> Reply {
    let mut body = json!({"folder": folder, "expected_version": expected});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    server.post("/admin/v1/policies/kind/promote", &body).await
}

/// The same, which must succeed.
pub(super) async fn promoted(server: &Server, folder: &Path, expected: i64) -> Value {
    let reply = promote(server, folder, expected, json!({})).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    reply.json()
}

pub(super) async fn roll_back(server: &Server, expected: i64) -> Reply {
    let body = json!({"policy": "kind", "expected_version": expected});
    server.post("/admin/v1/policies/rollback", &body).await
}

/// How `kind` stands.
pub(super) async fn standing(server: &Server) -> Value {
    let reply = server.get("/admin/v1/policies").await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let list = reply.json();
    let policies = list["data"].as_array().unwrap();
    policies.iter().find(|p| p["id"] == "kind").unwrap().clone()
}

/// A request whose answer tells versions apart.
pub(super) fn question(prompt: usize) -> Value {
    json!({
        "prompt": format!("Say number {prompt}"),
        "objective_weights": [1.0, (prompt % 4) as f64],
        "temperature": 0, "max_tokens": 24, "ignore_eos": true,
    })
}

/// The version that answered, and its answer.
pub(super) async fn ask(server: &Server, prompt: usize) -> (String, String) {
    let reply = server.generate(question(prompt)).await;
    let version = reply["steering"]["policy_version"].as_str().unwrap();
    let text = reply["text"].as_str().unwrap();
    (version.to_owned(), text.to_owned())
}

/// A server of its own over the model with the files of a checkpoint as its policy `kind`.
pub(super) fn lone(place: &Place, checkpoint: Option<&Path>) -> Server {
    let dir = folder::with_policies();
    let files = [
        "adapter_config.json",
        "adapter_model.safetensors",
        "steering.json",
    ];
    let own = place.model.path().join("policies/kind");
    let to = dir.path().join("policies/kind");
    folder::copy_files(checkpoint.unwrap_or(&own), &to, &files);
    let app = App::load(dir.path(), &ServiceSettings::default()).unwrap();
    Server::shared_by(Arc::new(app))
}
