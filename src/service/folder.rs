//! What lies in a model folder: a base, perhaps an adapter, perhaps policies over the base.
//!
//! Looks only at names and small JSON files; tensors are read when the folder is loaded.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::LoadError;
use super::selector::DEFAULT_MODEL;
use super::weights::Weights;
use crate::gguf::is_gguf;
use crate::hub::name_of_snapshot;

/// The file that makes a folder a steerable policy.
pub const MANIFEST_FILE: &str = "steering.json";
pub(super) const ADAPTER_FILE: &str = "adapter_config.json";
const POLICIES_DIR: &str = "policies";
const POLICIES_FILE: &str = "policies.json";

/// One servable thing of a folder: the base itself, or a policy over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFolder {
    /// Its id in the API.
    pub id: String,
    /// Where its adapter and manifest lie.
    pub dir: PathBuf,
    /// Whether an adapter lies there.
    pub has_adapter: bool,
    /// Whether a manifest lies there.
    pub has_manifest: bool,
}

/// A model folder, listed and found complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFolder {
    /// The folder of the base model.
    pub root: PathBuf,
    /// What the base is loaded from.
    pub weights: Weights,
    /// The base first, then its policies by name.
    pub policies: Vec<PolicyFolder>,
    /// Which of them answers where no model is named.
    pub default: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PoliciesFile {
    default: String,
}

impl ModelFolder {
    /// Lists a folder, or what lies beside a GGUF file.
    ///
    /// # Errors
    /// It is neither, holds no safetensors, or its policies are misnamed.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        // canonical, so that `--model .` has a name too
        let whole = |path: &Path| {
            path.canonicalize().map_err(|source| LoadError::Io {
                path: path.to_owned(),
                source,
            })
        };
        if is_gguf(path) && path.is_file() {
            let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
            let root = whole(parent.unwrap_or(Path::new(".")))?;
            // the file may be a link to one that has a hash for its name
            let file = root.join(path.file_name().unwrap_or_default());
            let id = base_id(file.file_stem().unwrap_or_default());
            return Self::list(root, id, Weights::Gguf(file));
        }
        if !path.is_dir() {
            return Err(LoadError::NotAFolder(path.to_owned()));
        }
        check_weights(path)?;
        let root = whole(path)?;
        let own = root.file_name().unwrap_or_default();
        let id = base_id(name_of_snapshot(&root).map_or(own, OsStr::new));
        Self::list(root.clone(), id, Weights::Folder(root))
    }

    fn list(root: PathBuf, id: String, weights: Weights) -> Result<Self, LoadError> {
        let mut policies = vec![PolicyFolder::at(id, root.clone())?];
        for path in sub_folders(&root.join(POLICIES_DIR))? {
            let name = path
                .file_name()
                .map_or_else(String::new, |n| n.to_string_lossy().into());
            let policy = PolicyFolder::at(name, path)?;
            if !policy.has_adapter && !policy.has_manifest {
                let problem = format!(
                    "a policy is a folder with {ADAPTER_FILE}, adapter_model.safetensors and \
                     {MANIFEST_FILE}; none of them is here"
                );
                return Err(LoadError::Policies {
                    path: policy.dir,
                    problem,
                });
            }
            if policy.id == policies[0].id {
                let problem = format!(
                    "the policy `{}` has the name of its base's folder; rename one",
                    policy.id
                );
                return Err(LoadError::Policies {
                    path: policy.dir,
                    problem,
                });
            }
            policies.push(policy);
        }
        let default = default_of(&root, &policies)?;
        Ok(Self {
            root,
            weights,
            policies,
            default,
        })
    }
}

impl PolicyFolder {
    /// A folder that is no part of a model's, of any name.
    pub fn of_path(dir: &Path) -> Self {
        let id = base_id(dir.file_name().unwrap_or_default());
        Self {
            has_adapter: dir.join(ADAPTER_FILE).is_file(),
            has_manifest: dir.join(MANIFEST_FILE).is_file(),
            id,
            dir: dir.to_owned(),
        }
    }

    fn at(id: String, dir: PathBuf) -> Result<Self, LoadError> {
        if !is_model_id(&id) {
            return Err(LoadError::BadName {
                name: id,
                path: dir,
            });
        }
        Ok(Self {
            has_adapter: dir.join(ADAPTER_FILE).is_file(),
            has_manifest: dir.join(MANIFEST_FILE).is_file(),
            id,
            dir,
        })
    }
}

/// The base's folder or file is not ours to name: what an id cannot hold becomes a dash.
fn base_id(name: &OsStr) -> String {
    let id: String = name
        .to_string_lossy()
        .trim_start_matches(|c: char| !c.is_ascii_alphanumeric())
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        })
        .take(64)
        .collect();
    if is_model_id(&id) {
        id
    } else {
        "base".to_owned()
    }
}

pub(super) fn is_model_id(name: &str) -> bool {
    let first = name
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    first && rest && name.len() <= 64 && name != DEFAULT_MODEL
}

/// Safetensors, or the reason why there are none.
fn check_weights(dir: &Path) -> Result<(), LoadError> {
    if dir.join("model.safetensors").is_file() || dir.join("model.safetensors.index.json").is_file()
    {
        return Ok(());
    }
    let mut names = file_names(dir)?;
    names.sort();
    let pickle = |name: &&String| {
        [".bin", ".pt", ".pth", ".ckpt", ".pkl"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    if let Some(file) = names.iter().find(pickle) {
        return Err(LoadError::Pickle {
            dir: dir.to_owned(),
            file: file.clone(),
        });
    }
    let hint = if names.iter().any(|name| name.ends_with(".gguf")) {
        " (a GGUF file is there: name the file itself)"
    } else if names.iter().any(|name| name == ADAPTER_FILE) {
        " (only an adapter: put its folder under policies/ of its base model's folder and serve that)"
    } else if names.iter().any(|name| name == "config.json") {
        " (config.json is there; the download or copy of the tensors is missing)"
    } else {
        ""
    };
    Err(LoadError::NoWeights {
        dir: dir.to_owned(),
        hint,
    })
}

fn file_names(dir: &Path) -> Result<Vec<String>, LoadError> {
    let failed = |source| LoadError::Io {
        path: dir.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        names.push(
            entry
                .map_err(failed)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    Ok(names)
}

/// The folders inside `dir`, by name, hidden ones left out; none where `dir` is missing.
fn sub_folders(dir: &Path) -> Result<Vec<PathBuf>, LoadError> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = file_names(dir)?;
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    Ok(names
        .into_iter()
        .map(|name| dir.join(name))
        .filter(|path| path.is_dir())
        .collect())
}

/// What `policies.json` names; without it the only policy, or the base where there is none.
fn default_of(root: &Path, policies: &[PolicyFolder]) -> Result<usize, LoadError> {
    let path = root.join(POLICIES_FILE);
    if path.is_file() {
        let bytes = std::fs::read(&path).map_err(|source| LoadError::Io {
            path: path.clone(),
            source,
        })?;
        let stated: PoliciesFile =
            serde_json::from_slice(&bytes).map_err(|source| LoadError::Json {
                path: path.clone(),
                source,
            })?;
        return policies
            .iter()
            .position(|policy| policy.id == stated.default)
            .ok_or_else(|| {
                let ids: Vec<_> = policies.iter().map(|policy| policy.id.as_str()).collect();
                let problem = format!(
                    "the default `{}` is none of the models here ({})",
                    stated.default,
                    ids.join(", ")
                );
                LoadError::Policies { path, problem }
            });
    }
    match policies.len() {
        1 => Ok(0),
        2 => Ok(1),
        _ => {
            let problem = "is missing; with several policies it says which one answers where no \
                           model is named, as in {\"default\": \"NAME\"}";
            Err(LoadError::Policies {
                path,
                problem: problem.to_owned(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::Builder::new()
            .prefix("model")
            .tempdir()
            .expect("temp");
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("dirs");
            std::fs::write(path, "{}").expect("write");
        }
        dir
    }

    fn refused(files: &[&str]) -> String {
        let dir = folder(files);
        ModelFolder::open(dir.path())
            .expect_err("refused")
            .to_string()
    }

    #[test]
    fn a_folder_without_safetensors_is_refused_with_what_to_do() {
        for (files, words) in [
            (&["config.json"][..], "download"),
            (&["pytorch_model.bin"][..], "convert"),
            (&["config.json", "model.pt"][..], "pickle"),
            (&["tiny.gguf"][..], "name the file itself"),
            (&["adapter_config.json"][..], "policies/"),
            (&[][..], "no weights"),
        ] {
            let message = refused(files);
            assert!(message.contains(words), "{files:?}: {message}");
        }
    }

    #[test]
    fn several_policies_need_a_default() {
        let (a, b) = ("policies/a/steering.json", "policies/b/steering.json");
        assert!(refused(&["model.safetensors", a, b]).contains("policies.json"));
        let one = folder(&["model.safetensors", a]);
        assert_eq!(ModelFolder::open(one.path()).expect("sound").default, 1);
        let two = folder(&["model.safetensors", a, b]);
        std::fs::write(two.path().join("policies.json"), r#"{"default":"b"}"#).expect("write");
        assert_eq!(ModelFolder::open(two.path()).expect("sound").default, 2);
        std::fs::write(two.path().join("policies.json"), r#"{"default":"c"}"#).expect("write");
        assert!(
            ModelFolder::open(two.path())
                .expect_err("no c")
                .to_string()
                .contains("`c`")
        );
    }

    #[test]
    fn names_that_are_no_ids_are_refused() {
        assert!(refused(&["model.safetensors", "policies/a b/steering.json"]).contains("`a b`"));
        assert!(refused(&["model.safetensors", "policies/default/steering.json"]).contains("id"));
        assert!(
            refused(&["model.safetensors", "policies/empty/x"]).contains("a policy is a folder")
        );
    }
}
