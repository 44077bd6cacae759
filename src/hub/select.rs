//! Which files of a repository a checkpoint needs. Whatever else is there stays where it is:
//! pickles, tensors for other frameworks, pictures.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::gguf::chosen;
use super::name::Wanted;
use super::path::RepoPath;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Without these no folder can be served.
const NEEDED: [&str; 2] = ["config.json", "tokenizer.json"];
/// Beside them, where they are there.
const USEFUL: [&str; 7] = [
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "reward.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
];
/// What makes a policy, at the root or in `policies/NAME/`.
const POLICY: [&str; 3] = [
    "adapter_config.json",
    "adapter_model.safetensors",
    "steering.json",
];
/// What policies share: which one answers, and the facts that a rule checks.
const SHARED: [&str; 3] = ["facts.json", "facts.json.zst", "policies.json"];
/// A reward model in `rewards/NAME/`.
const REWARD: [&str; 5] = [
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
];
/// Endings of pickles, for messages.
const PICKLES: [&str; 4] = [".bin", ".pt", ".pth", ".ckpt"];

/// Where a checkpoint's tensors are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tensors {
    /// In one file.
    Single(RepoPath),
    /// In the files that an index names.
    Shards(RepoPath),
    /// With all the rest in one file.
    Gguf(RepoPath),
}

/// A checkpoint among the files of a repository.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selection {
    /// What stands beside the tensors, an index of theirs included.
    pub(super) beside: Vec<RepoPath>,
    pub(super) tensors: Tensors,
}

/// Why there is no checkpoint; a predicate of the repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCheckpoint {
    /// A file is missing.
    #[error("has no {0}, without which it cannot be served")]
    Lacks(String),
    /// Only pickles.
    #[error(
        "holds its tensors only as a pickle ({0}); loading one can run any code hidden in it, so it \
         is not fetched: look for a conversion to safetensors or GGUF"
    )]
    Pickle(String),
    /// An adapter without its base.
    #[error(
        "holds only an adapter: put it under policies/ of its base model's folder and serve that"
    )]
    Adapter,
    /// No tensors in a form that is read.
    #[error("holds no tensors: no model.safetensors, no index of such, no GGUF file")]
    Nothing,
    /// Several GGUF files, and nothing says which.
    #[error("has several GGUF files; name one behind a colon, as {0}")]
    Choice(String),
    /// No GGUF file of that name or kind.
    #[error("has no GGUF file `{asked}`; it has {there}")]
    NoSuchFile {
        /// What was asked for.
        asked: String,
        /// What there is instead.
        there: String,
    },
    /// The index of shards cannot be used.
    #[error("has an index of its tensors that cannot be used: {0}")]
    Index(String),
}

/// Finds the checkpoint that is wanted.
pub(super) fn select(
    files: &BTreeSet<RepoPath>,
    wanted: &Wanted,
) -> Result<Selection, NoCheckpoint> {
    let find = |name: &str| files.iter().find(|path| path.as_str() == name).cloned();
    let plain = match wanted {
        Wanted::Checkpoint => {
            let single = find(SINGLE).map(Tensors::Single);
            single.or_else(|| find(INDEX).map(Tensors::Shards))
        }
        Wanted::File(_) | Wanted::Kind(_) => None,
    };
    let tensors = match plain {
        Some(tensors) => tensors,
        None => Tensors::Gguf(chosen(files, wanted)?.ok_or_else(|| nothing(files))?),
    };
    let folder = match &tensors {
        Tensors::Gguf(path) => path.folder(),
        Tensors::Single(_) | Tensors::Shards(_) => "",
    };
    if !matches!(tensors, Tensors::Gguf(_)) {
        let lacks = NEEDED.iter().find(|name| find(name).is_none());
        if let Some(name) = lacks {
            return Err(NoCheckpoint::Lacks((*name).to_owned()));
        }
    }
    let mut beside: Vec<_> = files
        .iter()
        .filter(|path| {
            let inside = path.as_str().strip_prefix(folder);
            inside.is_some_and(|inside| belongs(inside, &tensors))
        })
        .cloned()
        .collect();
    if let Tensors::Shards(index) = &tensors {
        beside.push(index.clone());
    }
    Ok(Selection { beside, tensors })
}

/// Whether a file, told from the folder of the checkpoint on, belongs to it.
fn belongs(path: &str, tensors: &Tensors) -> bool {
    let parts: Vec<_> = path.split('/').collect();
    match *parts {
        [name] if POLICY.contains(&name) || SHARED.contains(&name) => true,
        // a GGUF file holds the rest itself
        [name] if !matches!(tensors, Tensors::Gguf(_)) => {
            NEEDED.contains(&name) || USEFUL.contains(&name)
        }
        ["policies", _, name] => POLICY.contains(&name),
        ["rewards", _, name] => REWARD.contains(&name),
        _ => false,
    }
}

/// What a repository has instead of tensors that are read.
fn nothing(files: &BTreeSet<RepoPath>) -> NoCheckpoint {
    let mut names = files.iter().map(RepoPath::as_str);
    let is_pickle = |name: &&str| PICKLES.iter().any(|end| name.ends_with(end));
    if files.iter().any(|path| path.as_str() == POLICY[0]) {
        return NoCheckpoint::Adapter;
    }
    match names.find(is_pickle) {
        Some(name) => NoCheckpoint::Pickle(name.to_owned()),
        None => NoCheckpoint::Nothing,
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files that an index names, each of which must be in the repository.
pub(super) fn shards(
    index: &[u8],
    files: &BTreeSet<RepoPath>,
) -> Result<BTreeSet<RepoPath>, NoCheckpoint> {
    let index: Index = serde_json::from_slice(index)
        .map_err(|error| NoCheckpoint::Index(format!("it is not what it should be: {error}")))?;
    let find = |name: &String| {
        let is_plain = name.ends_with(".safetensors") && !name.contains('/');
        let found = RepoPath::parse(name).filter(|path| is_plain && files.contains(path));
        found.ok_or_else(|| NoCheckpoint::Index(format!("`{name}` is no tensor file beside it")))
    };
    index.weight_map.values().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> BTreeSet<RepoPath> {
        let parse = |name: &&str| RepoPath::parse(name).expect("sound");
        names.iter().map(parse).collect()
    }

    fn check(names: &[&str], wanted: &Wanted, expected: &[&str]) {
        let found = select(&files(names), wanted).expect("a checkpoint");
        let tensors = match &found.tensors {
            Tensors::Single(path) | Tensors::Gguf(path) => Some(path),
            Tensors::Shards(_) => None,
        };
        let all: BTreeSet<_> = found.beside.iter().chain(tensors).cloned().collect();
        assert_eq!(all, files(expected));
    }

    fn refused(names: &[&str], wanted: &Wanted) -> String {
        select(&files(names), wanted).expect_err("none").to_string()
    }

    fn kind(kind: &str) -> Wanted {
        Wanted::Kind(kind.to_owned())
    }

    #[test]
    fn a_checkpoint_is_what_serving_reads_and_no_more() {
        let own = [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "steering.json",
            "policies.json",
            "policies/kind/steering.json",
            "policies/kind/adapter_config.json",
            "policies/kind/adapter_model.safetensors",
            "rewards/helpful/model.safetensors",
        ];
        let others = [
            "README.md",
            ".gitattributes",
            "pytorch_model.bin",
            "tf_model.h5",
            "model.onnx",
            "model.safetensors.index.json",
            "consolidated.safetensors",
            "original/config.json",
            "policies/kind/optimizer.pt",
            "policies/kind/deep/steering.json",
            "policies/x.json",
        ];
        check(&[&own[..], &others[..]].concat(), &Wanted::Checkpoint, &own);
    }

    #[test]
    fn a_sharded_checkpoint_is_what_its_index_names() {
        let index = "model.safetensors.index.json";
        let there = [
            "config.json",
            "tokenizer.json",
            index,
            "model-1.safetensors",
            "b.safetensors",
        ];
        check(
            &there,
            &Wanted::Checkpoint,
            &["config.json", "tokenizer.json", index],
        );
        let of = |text: &str| shards(text.as_bytes(), &files(&there));
        let named = of(r#"{"metadata": {}, "weight_map": {"a": "model-1.safetensors"}}"#);
        assert_eq!(named, Ok(files(&["model-1.safetensors"])));
        for wrong in [
            "",
            "{}",
            r#"{"weight_map": {"a": "../x.safetensors"}}"#,
            r#"{"weight_map": {"a": "c.safetensors"}}"#,
            r#"{"weight_map": {"a": "config.json"}}"#,
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn beside_a_gguf_file_only_policies_are_of_use() {
        let there = [
            "config.json",
            "q8/m.gguf",
            "q8/tokenizer.json",
            "q8/policies/x/steering.json",
            "steering.json",
        ];
        check(
            &there,
            &kind("M"),
            &["q8/m.gguf", "q8/policies/x/steering.json"],
        );
    }

    #[test]
    fn what_is_no_checkpoint_is_refused_before_anything_is_fetched() {
        for (names, words) in [
            (&["config.json", "pytorch_model.bin"][..], "pickle"),
            (
                &["adapter_config.json", "adapter_model.safetensors"],
                "adapter",
            ),
            (&["README.md"], "no tensors"),
            (&[], "no tensors"),
            (&["config.json", "model.safetensors"], "no tokenizer.json"),
            (
                &["tokenizer.json", "model.safetensors.index.json"],
                "no config.json",
            ),
        ] {
            let error = refused(names, &Wanted::Checkpoint);
            assert!(error.contains(words), "{names:?}: {error}");
        }
        let no_gguf = refused(&["config.json", "model.safetensors"], &kind("Q8_0"));
        assert!(no_gguf.contains("no GGUF file"), "{no_gguf}");
    }
}
