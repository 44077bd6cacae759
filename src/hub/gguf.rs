//! Which of a repository's GGUF files is meant: the only one, the one that is named, or the one of a
//! kind of quantization, as llama.cpp's `-hf ORG/NAME:Q8_0`.

use std::collections::BTreeSet;

use super::name::Wanted;
use super::path::RepoPath;
use super::select::NoCheckpoint;

/// The GGUF file that is wanted; none where the repository has no such files at all.
pub(super) fn chosen(
    files: &BTreeSet<RepoPath>,
    wanted: &Wanted,
) -> Result<Option<RepoPath>, NoCheckpoint> {
    let models: Vec<_> = files.iter().filter(|path| is_model(path)).collect();
    let names = |paths: &[&RepoPath]| {
        let names: Vec<_> = paths.iter().map(|path| format!("`:{path}`")).collect();
        names.join(", ")
    };
    let chosen: Vec<_> = models
        .iter()
        .copied()
        .filter(|path| match wanted {
            Wanted::Checkpoint => true,
            Wanted::File(file) => *path == file,
            Wanted::Kind(kind) => is_of_kind(path, kind),
        })
        .collect();
    let asked = match wanted {
        Wanted::Checkpoint => None,
        Wanted::File(file) => Some(file.to_string()),
        Wanted::Kind(kind) => Some(kind.clone()),
    };
    match (&*chosen, asked) {
        ([one], _) => Ok(Some((*one).clone())),
        ([], Some(asked)) if !models.is_empty() => Err(NoCheckpoint::NoSuchFile {
            asked,
            there: names(&models),
        }),
        ([], _) => Ok(None),
        (several, _) => Err(NoCheckpoint::Choice(names(several))),
    }
}

/// A GGUF file that holds a language model, not what belongs to one.
fn is_model(path: &RepoPath) -> bool {
    let name = path.file_name().to_ascii_lowercase();
    path.is_gguf() && !name.contains("mmproj") && !name.contains("imatrix")
}

/// Whether a file's name ends with a kind of quantization: `model-Q8_0.gguf`, `model.q8_0.gguf`.
fn is_of_kind(path: &RepoPath, kind: &str) -> bool {
    let name = path.file_name().to_ascii_uppercase();
    let stem = name.strip_suffix(".GGUF").unwrap_or(&name);
    let before = stem.strip_suffix(kind);
    before.is_some_and(|before| before.is_empty() || before.ends_with(['-', '.', '_']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const THERE: [&str; 7] = [
        "README.md",
        "m-Q4_K_M.gguf",
        "m-Q4_K_S.gguf",
        "m-IQ8_0.gguf",
        "m-q8_0.gguf",
        "mmproj-Q8_0.gguf",
        "bf16/m.BF16.gguf",
    ];

    fn of(names: &[&str], wanted: &Wanted) -> Result<Option<String>, String> {
        let parse = |name: &&str| RepoPath::parse(name).expect("sound");
        let files = names.iter().map(parse).collect();
        let found = chosen(&files, wanted).map_err(|problem| problem.to_string())?;
        Ok(found.map(|path| path.to_string()))
    }

    fn kind(kind: &str) -> Wanted {
        Wanted::Kind(kind.to_owned())
    }

    #[test]
    fn a_file_is_the_only_one_or_named_by_itself_or_by_its_kind() {
        let found = |wanted: &Wanted| of(&THERE, wanted).expect("one").expect("one");
        assert_eq!(found(&kind("Q8_0")), "m-q8_0.gguf");
        assert_eq!(found(&kind("BF16")), "bf16/m.BF16.gguf");
        let file = RepoPath::parse("m-Q4_K_S.gguf").expect("sound");
        assert_eq!(found(&Wanted::File(file)), "m-Q4_K_S.gguf");
        let only = of(&["a.gguf", "mmproj-a.gguf"], &Wanted::Checkpoint);
        assert_eq!(only, Ok(Some("a.gguf".to_owned())));
        assert_eq!(of(&["README.md"], &kind("Q8_0")), Ok(None));
    }

    #[test]
    fn what_is_not_one_file_is_refused_with_what_there_is() {
        let several = of(&THERE, &Wanted::Checkpoint).expect_err("several");
        assert!(
            several.contains("`:m-q8_0.gguf`") && !several.contains("mmproj"),
            "{several}"
        );
        let none = of(&THERE, &kind("Q2_K")).expect_err("none");
        assert!(
            none.contains("`Q2_K`") && none.contains("`:m-Q4_K_M.gguf`"),
            "{none}"
        );
        let twice = of(&["a-Q8_0.gguf", "b-Q8_0.gguf"], &kind("Q8_0")).expect_err("two");
        assert!(twice.contains("several"), "{twice}");
    }
}
