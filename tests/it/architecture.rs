//! Holds the sources to the layer table: imports point down, and outside crates stay where they
//! belong.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each module, lowest first, with the modules it may import. A row lists only rows above it, so
/// the table itself shows that there is no cycle.
const LAYERS: [(&str, &[&str]); 25] = [
    ("types", &[]),
    ("mapped", &[]),
    ("gguf", &["mapped"]),
    ("outbound", &[]),
    ("hub", &["outbound"]),
    ("telemetry", &["outbound"]),
    ("bench", &[]),
    ("tracking", &["outbound"]),
    ("kernel", &[]),
    ("steering", &["types"]),
    ("text", &["types", "gguf"]),
    ("storage", &["outbound"]),
    ("store", &[]),
    ("jobs", &["store"]),
    ("registry", &["storage", "store"]),
    ("model", &["types", "mapped", "gguf", "kernel"]),
    ("engine", &["types", "telemetry", "kernel", "model"]),
    (
        "rewards",
        &["types", "outbound", "steering", "text", "model"],
    ),
    (
        "eval",
        &["types", "steering", "text", "model", "engine", "rewards"],
    ),
    (
        "training",
        &[
            "types", "kernel", "steering", "text", "model", "engine", "rewards", "eval",
        ],
    ),
    (
        "service",
        &[
            "types",
            "gguf",
            "hub",
            "telemetry",
            "steering",
            "text",
            "storage",
            "store",
            "jobs",
            "registry",
            "model",
            "engine",
            "rewards",
            "eval",
            "training",
            "tracking",
        ],
    ),
    ("http", &["types", "telemetry", "steering", "service"]),
    ("config", &["types", "store", "engine", "service", "http"]),
    (
        "cli",
        &[
            "types",
            "gguf",
            "hub",
            "telemetry",
            "bench",
            "tracking",
            "steering",
            "text",
            "storage",
            "store",
            "jobs",
            "model",
            "engine",
            "rewards",
            "eval",
            "training",
            "service",
            "http",
            "config",
        ],
    ),
    ("main", &["cli"]),
];

/// Outside crates that only some modules may speak.
const KEPT_TO: [(&str, &[&str]); 19] = [
    ("sqlx", &["store"]),
    ("axum", &["http"]),
    (
        "hyper",
        &[
            "outbound",
            "hub",
            "telemetry",
            "bench",
            "tracking",
            "storage",
            "rewards",
            "http",
        ],
    ),
    ("hyper_util", &["outbound", "bench", "http"]),
    ("hyper_rustls", &["outbound"]),
    ("aws_lc_rs", &["hub"]),
    ("object_store", &["storage"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("utoipa", &["http"]),
    ("multer", &["http"]),
    (
        "candle_core",
        &["kernel", "model", "engine", "rewards", "training"],
    ),
    ("cudarc", &["kernel"]),
    ("memmap2", &["mapped", "kernel"]),
    ("tokenizers", &["text", "rewards"]),
    ("minijinja", &["text"]),
    ("llguidance", &["text"]),
    ("toktrie", &["text"]),
    ("clap", &["cli", "config", "main"]),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every source file with the module it belongs to and its text.
fn files() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    found
        .into_iter()
        .map(|path| {
            let inside = path.strip_prefix(&root).unwrap();
            let first = inside
                .components()
                .next()
                .unwrap()
                .as_os_str()
                .to_string_lossy();
            let module = first.trim_end_matches(".rs").to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            (path, module, text)
        })
        .collect()
}

/// Names that follow `prefix` in code (not in comments), as in `crate::NAME`.
fn named_after(text: &str, prefix: &str) -> BTreeSet<String> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let mut names = BTreeSet::new();
    for line in code {
        for (at, _) in line.match_indices(prefix) {
            let rest = &line[at + prefix.len()..];
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            names.insert(rest[..end].to_owned());
        }
    }
    names
}

#[test]
fn the_table_has_no_cycle() {
    for (index, (module, imports)) in LAYERS.iter().enumerate() {
        for import in *imports {
            let place = LAYERS.iter().position(|(name, _)| name == import);
            assert!(
                place.is_some_and(|place| place < index),
                "{module} lists {import}"
            );
        }
    }
}

#[test]
fn imports_point_down_only() {
    let known: BTreeSet<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    for (path, module, text) in files() {
        if module == "lib" {
            continue;
        }
        let row = LAYERS.iter().find(|(name, _)| *name == module);
        let (_, allowed) = row.unwrap_or_else(|| panic!("{} is in no layer", path.display()));
        let mut used = named_after(&text, "crate::");
        if module == "main" {
            used.extend(named_after(&text, "steersman::"));
        }
        for name in used
            .iter()
            .filter(|name| known.contains(name.as_str()) && **name != module)
        {
            assert!(
                allowed.contains(&name.as_str()),
                "{}: `{module}` may not import `{name}`",
                path.display()
            );
        }
    }
}

/// Whether code names a crate, as a whole word: in `use NAME` or in a path from its root.
fn speaks(text: &str, name: &str) -> bool {
    let used = named_after(text, "use ").contains(name);
    let goes_on = |rest: &str| rest.starts_with("::");
    let is_part = |before: &str| {
        let last = before.chars().next_back();
        last.is_some_and(|c| c.is_alphanumeric() || "_:".contains(c))
    };
    let mut code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    used || code.any(|line| {
        line.match_indices(name)
            .any(|(at, _)| goes_on(&line[at + name.len()..]) && !is_part(&line[..at]))
    })
}

#[test]
fn a_crate_is_named_by_a_whole_word() {
    for (text, named) in [
        ("use hyper::Request;", true),
        ("pub use hyper;", true),
        ("let x = (hyper::Method::GET, 1);", true),
        ("    use hyperparameters::Range;", false),
        ("use hyper_util::rt::TokioIo;", false),
        ("fn f(x: my_hyper::X) {}", false),
        ("use crate::hyper::X;", false),
        ("// use hyper::Request;", false),
    ] {
        assert_eq!(speaks(text, "hyper"), named, "{text}");
    }
}

#[test]
fn outside_crates_stay_where_they_belong() {
    for (path, module, text) in files() {
        for (name, modules) in KEPT_TO {
            let speaks = speaks(&text, name);
            assert!(
                !speaks || modules.contains(&module.as_str()),
                "{}: only {modules:?} may speak {name}",
                path.display()
            );
        }
    }
}

#[test]
fn secrets_are_compared_in_constant_time_and_in_one_place() {
    for (path, _, text) in files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let in_keys = path.ends_with("service/keys.rs");
        for line in text.lines().filter(|line| line.contains("ct_eq")) {
            assert!(in_keys, "{name}: {line}");
        }
        // lengths and prefixes are no secrets
        let compared = |line: &&str| {
            let plain = line
                .replace("secret.len()", "")
                .replace("secret.starts_with", "");
            let secret = ["secret", "digest", "api_key", "bearer"];
            (plain.contains("==") || plain.contains("!="))
                && secret.iter().any(|word| plain.contains(word))
        };
        let code = text.split("#[cfg(test)]").next().unwrap();
        let found = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        assert_eq!(found.clone().find(compared), None, "{name}");
    }
    let keys = files()
        .into_iter()
        .find(|(path, _, _)| path.ends_with("service/keys.rs"));
    assert!(keys.is_some_and(|(_, _, text)| text.contains("ct_eq(&digest)")));
}

#[test]
fn every_file_opens_with_its_subject() {
    for (path, _, text) in files() {
        assert!(
            text.starts_with("//! "),
            "{} does not open with `//!`",
            path.display()
        );
    }
}
