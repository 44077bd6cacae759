//! Models of a hub by name, from a stand-in for huggingface.co.

mod cached;
mod command;
mod fetched;
mod hostile;
mod refused;
mod stand_in;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use steersman::hub::{FetchWatcher, Hub, HubError, HubName, HubSettings, Patience};
use tempfile::TempDir;

use crate::fixtures::fixture;
use stand_in::StandIn;

/// What a watcher heard.
#[derive(Default)]
struct Heard {
    lines: Mutex<Vec<String>>,
    /// Bytes planned, and here.
    bytes: Mutex<(u64, u64)>,
}

impl FetchWatcher for Heard {
    fn planned(&self, bytes: u64) {
        self.bytes.lock().unwrap().0 += bytes;
    }

    fn reached(&self, bytes: u64) {
        self.bytes.lock().unwrap().1 = bytes;
    }

    fn note(&self, line: &str) {
        self.lines.lock().unwrap().push(line.to_owned());
    }
}

/// Someone with a cache of their own and a token, who asks a hub.
struct Asker {
    home: TempDir,
    endpoint: String,
    heard: Heard,
}

impl Asker {
    fn of(hub: &StandIn) -> Self {
        Self::at(&hub.url)
    }

    fn at(endpoint: &str) -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            endpoint: endpoint.to_owned(),
            heard: Heard::default(),
        }
    }

    /// The repository's part of the cache.
    fn cache(&self) -> PathBuf {
        self.home.path().join("hub/models--org--tiny")
    }

    async fn fetch(&self, name: &str) -> Result<PathBuf, HubError> {
        self.fetch_with(name, &[("HF_TOKEN", "hf_secret")]).await
    }

    async fn fetch_with(
        &self,
        name: &str,
        variables: &[(&str, &str)],
    ) -> Result<PathBuf, HubError> {
        let home = self.home.path().to_str().unwrap();
        let own = [("HF_HOME", home), ("HF_ENDPOINT", &self.endpoint)];
        let settings = HubSettings::from_variables(|asked| {
            let mut all = own.iter().chain(variables);
            let found = all.find(|(name, _)| *name == asked);
            found.map(|(_, value)| value.into())
        });
        let patience = Patience {
            first_pause: Duration::from_millis(1),
            tries: 3,
        };
        let hub = Hub::new(settings?.with_patience(patience));
        let name = HubName::of(Path::new(name))?.expect("a name");
        hub.fetch(&name, &self.heard).await
    }

    fn heard(&self) -> String {
        self.heard.lines.lock().unwrap().join("\n")
    }
}

/// An error as the command line shows it.
fn said(error: &HubError) -> String {
    steersman::service::chain(error)
}

/// A fixture's files, and some that no checkpoint needs.
fn repository(name: &str) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            files.push((name, std::fs::read(path).unwrap()));
        }
    }
    for name in ["README.md", "pytorch_model.bin", "onnx/model.onnx"] {
        files.push((name.to_owned(), b"of no use here".to_vec()));
    }
    files
}

/// Names of all files of a snapshot, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
