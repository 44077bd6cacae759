//! `kill -9` at any moment loses nothing that was acknowledged.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use steersman::service::{NewKey, Scope, create_key, list_keys};
use steersman::store::{Expected, ProfileDraft, Store, StoreSettings};

use super::backends;

const DATA_DIR: &str = "STEERSMAN_CRASH_DATA_DIR";
const DATABASE_URL: &str = "STEERSMAN_CRASH_DATABASE_URL";

/// The child of the test below: writes and tells each write when it is acknowledged, for ever.
/// Run by itself it does nothing.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "the test below reads it")]
async fn a_writer_that_tells_what_was_acknowledged() {
    let Ok(data_dir) = std::env::var(DATA_DIR) else {
        return;
    };
    let settings = StoreSettings {
        data_dir: PathBuf::from(data_dir),
        database_url: std::env::var(DATABASE_URL).ok(),
    };
    let store = Store::open(&settings).await.unwrap();
    for index in 0.. {
        let draft = ProfileDraft {
            id: format!("p{index}-{}", std::process::id()),
            weights: r#"{"a":1.0}"#.to_owned(),
            description: "x".repeat(index % 500),
            at: 1,
        };
        store.put_profile(&draft, Expected::Absent).await.unwrap();
        println!("profile {}", draft.id);
        let new = NewKey {
            name: draft.id,
            scopes: vec![Scope::Generate],
            ..NewKey::default()
        };
        let (_, key) = create_key(&store, new).await.unwrap();
        println!("key {}", key.id);
    }
}

fn writer(settings: &StoreSettings) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let test = "store::crash::a_writer_that_tells_what_was_acknowledged";
    command
        .args([test, "--exact", "--nocapture"])
        .env(DATA_DIR, &settings.data_dir);
    if let Some(url) = &settings.database_url {
        command.env(DATABASE_URL, url);
    }
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    for backend in backends().await {
        let mut acknowledged = Vec::new();
        // each round opens what the one before it left behind
        for round in 0..6_u64 {
            let mut child = writer(&backend.settings);
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut seen = 0;
            for line in lines {
                let line = line.unwrap();
                // the harness talks too
                if line.starts_with("profile ") || line.starts_with("key ") {
                    acknowledged.push(line);
                    seen += 1;
                }
                if seen == 1 + 3 * round {
                    // not always behind a write that was told
                    std::thread::sleep(Duration::from_micros(700 * round));
                    child.kill().unwrap();
                }
            }
            // what was told before the kill is in the pipe to its end
            assert!(seen > 0, "{}: the child wrote nothing", backend.name);
            child.wait().unwrap();
        }
        let store = Store::open(&backend.settings).await.unwrap();
        let keys = list_keys(&store).await.unwrap();
        for line in &acknowledged {
            let found = match line.split_once(' ').unwrap() {
                ("profile", id) => store.profile(id).await.unwrap().is_some(),
                (_, id) => keys.iter().any(|key| key.id == id),
            };
            assert!(found, "{}: {line} is lost", backend.name);
        }
        store.close().await;
        backend.end().await;
    }
}
