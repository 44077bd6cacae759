//! How a model of the hub is named: `ORG/NAME`, perhaps `@REVISION`, perhaps `:FILE.gguf` or a
//! GGUF file's kind of quantization as in `:Q8_0`.

use std::fmt;
use std::path::Path;

use super::HubError;
use super::path::RepoPath;

/// The branch that is meant where none is named.
const BRANCH: &str = "main";
/// Longest `ORG/NAME` that the hub has.
const LONGEST: usize = 96;
/// Pages of the hub itself, which so are nobody's name; `models/x` is a folder that is missing.
const PAGES: [&str; 3] = ["models", "datasets", "spaces"];

/// What of a repository is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Its safetensors checkpoint, or its only GGUF file.
    Checkpoint,
    /// This GGUF file.
    File(RepoPath),
    /// The GGUF file whose name ends with this, in capitals: `Q4_K_M`.
    Kind(String),
}

/// A model of the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubName {
    /// `ORG/NAME`.
    pub(super) repository: String,
    /// A branch, a tag or a commit.
    pub(super) revision: String,
    pub(super) wanted: Wanted,
}

impl HubName {
    /// The hub's model that `--model` names; none where it names a place on this disk: whatever
    /// is there, and whatever does not look like `ORG/NAME`.
    ///
    /// # Errors
    /// It looks like a model of the hub, but its revision or file cannot be one.
    pub fn of(model: &Path) -> Result<Option<Self>, HubError> {
        match model.to_str() {
            Some(text) if !model.exists() => Self::parse(text),
            _ => Ok(None),
        }
    }

    fn parse(text: &str) -> Result<Option<Self>, HubError> {
        let (head, wanted) = match text.split_once(':') {
            Some((head, wanted)) => (head, Some(wanted)),
            None => (text, None),
        };
        let (repository, revision) = match head.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision)),
            None => (head, None),
        };
        if !is_repository(repository) {
            return Ok(None);
        }
        let wrong = |problem: &str| HubError::Name {
            given: text.to_owned(),
            problem: problem.to_owned(),
        };
        let revision = revision.unwrap_or(BRANCH);
        if !is_revision(revision) {
            return Err(wrong("after `@` stands no branch, tag or commit"));
        }
        let wanted = match wanted {
            None => Wanted::Checkpoint,
            Some(kind) if is_kind(kind) => Wanted::Kind(kind.to_ascii_uppercase()),
            Some(file) => match RepoPath::parse(file) {
                Some(path) if path.is_gguf() => Wanted::File(path),
                _ => {
                    return Err(wrong(
                        "after `:` stands neither FILE.gguf nor a kind as Q8_0",
                    ));
                }
            },
        };
        Ok(Some(Self {
            repository: repository.to_owned(),
            revision: revision.to_owned(),
            wanted,
        }))
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if self.revision != BRANCH {
            write!(f, "@{}", self.revision)?;
        }
        match &self.wanted {
            Wanted::Checkpoint => Ok(()),
            Wanted::File(path) => write!(f, ":{path}"),
            Wanted::Kind(kind) => write!(f, ":{kind}"),
        }
    }
}

/// `ORG/NAME` as the hub allows it. A name that ends as a model file does is taken for a path.
fn is_repository(text: &str) -> bool {
    let is_part = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && part.chars().all(plain) && !part.starts_with(['-', '.'])
    };
    let Some((org, name)) = text.split_once('/') else {
        return false;
    };
    let ends_badly = text.ends_with(['-', '.']) || text.ends_with(".git");
    let is_file = [".gguf", ".safetensors"].iter().any(|end| {
        let from = name.len().checked_sub(end.len());
        from.and_then(|from| name.get(from..))
            .is_some_and(|tail| tail.eq_ignore_ascii_case(end))
    });
    is_part(org)
        && !PAGES.contains(&org)
        && is_part(name)
        && text.len() <= LONGEST
        && !text.contains("--")
        && !text.contains("..")
        && !ends_badly
        && !is_file
}

/// A revision becomes part of an address and of a path in the cache.
fn is_revision(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+/".contains(c);
    RepoPath::parse(text).is_some() && text.len() <= 200 && text.chars().all(plain)
}

/// `Q4_K_M`, `q8_0`, `BF16`: what the end of a GGUF file's name says of its numbers.
fn is_kind(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text.is_empty() && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_an_owner_and_perhaps_a_revision_and_a_file() {
        for (given, repository, revision) in [
            (
                "Qwen/Qwen2.5-0.5B-Instruct",
                "Qwen/Qwen2.5-0.5B-Instruct",
                "main",
            ),
            ("a/b@v1.0", "a/b", "v1.0"),
            ("a/b@refs/pr/3", "a/b", "refs/pr/3"),
        ] {
            let name = HubName::parse(given).expect(given).expect(given);
            assert_eq!((&*name.repository, &*name.revision), (repository, revision));
            assert_eq!(
                (name.wanted.clone(), name.to_string()),
                (Wanted::Checkpoint, given.into())
            );
        }
        let wanted = |given| HubName::parse(given).expect(given).expect(given).wanted;
        let file = RepoPath::parse("q8/x.GGUF").expect("sound");
        assert_eq!(wanted("a/b:q8/x.GGUF"), Wanted::File(file));
        assert_eq!(wanted("a/b@dev:q4_k_m"), Wanted::Kind("Q4_K_M".into()));
    }

    #[test]
    fn what_looks_like_a_path_is_one() {
        for given in [
            "demo",
            "./a/b",
            "../a",
            "/a/b",
            "a/b/c",
            "~/a",
            "a/",
            "/a",
            "",
            "a/b c",
            "a/x.gguf",
            "a/x.Safetensors",
            "a--b/c",
            "models/demoo",
            "a/b..c",
            "a/.b",
            "a/b.git",
            "é/b",
        ] {
            assert_eq!(HubName::parse(given).expect(given), None, "{given}");
        }
    }

    #[test]
    fn a_revision_or_a_file_that_leads_elsewhere_is_refused() {
        for given in [
            "a/b@",
            "a/b@../x",
            "a/b@/x",
            "a/b@x/",
            "a/b@x y",
            "a/b:",
            "a/b:../x.gguf",
            "a/b:x.bin",
            "a/b:/x.gguf",
            "a/b@main:",
        ] {
            let error = HubName::parse(given).expect_err(given).to_string();
            assert!(error.contains(given), "{error}");
        }
    }

    #[test]
    fn whatever_is_on_this_disk_wins() {
        let here = Path::new("src/hub");
        assert!(here.exists());
        assert_eq!(HubName::of(here).expect("a path"), None);
        assert!(
            HubName::of(Path::new("src/hubb"))
                .expect("a name")
                .is_some()
        );
    }
}
