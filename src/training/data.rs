//! Reads data sets: JSON lines, plain or zstd-compressed, each row checked against its schema.

mod lines;
mod pairs;
mod texts;
mod turns;

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::types::{Message, Role};

use super::TrainingError;
pub use lines::read_rows;
pub(super) use pairs::pair_row;
pub use pairs::{PairRow, read_pairs};
pub(super) use texts::read_first_texts;
use texts::text_rows;
pub use texts::{TextRow, read_texts};
use turns::{check_tools, read_conversation};

/// A prompt to answer; the row as it was read rides along for rewards that check facts.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptRow {
    /// The row's own id, or its file and line.
    pub id: String,
    /// The conversation; its last turn is the user's.
    pub prompt: Vec<Message>,
    /// The whole row.
    pub record: Value,
}

#[derive(Deserialize)]
struct RawPrompt {
    id: Option<String>,
    prompt: Value,
}

/// The schemas of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// `{"prompt": [messages]}`.
    Prompts,
    /// `{"prompt", "chosen", "rejected"}`, or OpenAI's shape of the same.
    Pairs,
    /// `{"text"}`, `{"messages"}`, or `{"prompt", "concise", "detailed"}`.
    Texts,
}

impl RowKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prompts => "prompts",
            Self::Pairs => "pairs",
            Self::Texts => "texts",
        }
    }

    /// The schema that a row's fields are of; `None` where they are of none.
    pub fn of(record: &Value) -> Option<Self> {
        let has = |name: &str| record.get(name).is_some();
        let pair = [
            "chosen",
            "rejected",
            "preferred_output",
            "non_preferred_output",
        ];
        if pair.into_iter().any(has) {
            Some(Self::Pairs)
        } else if has("text") || has("messages") || has("concise") || has("detailed") {
            Some(Self::Texts)
        } else {
            has("prompt").then_some(Self::Prompts)
        }
    }

    /// Holds a row against the schema.
    ///
    /// # Errors
    /// What was found and what was expected.
    pub fn check(self, record: Value) -> Result<(), String> {
        let (path, line) = (Path::new(""), 0);
        match self {
            Self::Prompts => prompt_row(path, line, record).map(drop),
            Self::Pairs => pair_row(path, line, &record).map(drop),
            Self::Texts => text_rows(&record).map(drop),
        }
    }
}

/// Rows of the prompts schema: `{"id", "prompt": [messages]}`; other fields stay in `record`.
pub fn read_prompts(path: &Path) -> Result<Vec<PromptRow>, TrainingError> {
    read_rows(path, |line, record| {
        Ok(vec![prompt_row(path, line, record)?])
    })
}

fn prompt_row(path: &Path, line: usize, record: Value) -> Result<PromptRow, String> {
    let raw: RawPrompt = decode(&record)?;
    check_tools(&record)?;
    let prompt = read_prompt("prompt", &raw.prompt)?;
    Ok(PromptRow {
        id: name(raw.id, path, line),
        prompt,
        record,
    })
}

fn not_empty(field: &str, text: &str) -> Result<(), String> {
    match text.trim().is_empty() {
        true => Err(format!("{field} is empty, so there is nothing to train on")),
        false => Ok(()),
    }
}

fn decode<T: DeserializeOwned>(record: &Value) -> Result<T, String> {
    T::deserialize(record).map_err(|error| error.to_string())
}

fn name(id: Option<String>, path: &Path, line: usize) -> String {
    let file = || {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    id.unwrap_or_else(|| format!("{}:{line}", file()))
}

/// A conversation that ends with the user's turn.
fn read_prompt(field: &str, turns: &Value) -> Result<Vec<Message>, String> {
    let prompt = read_conversation(field, turns)?;
    match prompt.last() {
        Some(turn) if turn.role == Role::User => Ok(prompt),
        Some(turn) => Err(format!(
            "the prompt's last turn is the {}'s, expected the user's",
            turn.role.as_str()
        )),
        None => Err("the prompt is empty, expected at least one turn of the user".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let bytes = if name.ends_with("zst") {
            zstd::encode_all(text.as_bytes(), 3).unwrap()
        } else {
            text.as_bytes().to_vec()
        };
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    const PROMPT: &str = r#""prompt":[{"role":"user","content":"Hi?"}]"#;

    #[test]
    fn plain_and_compressed_files_read_alike() {
        let text = format!("{{\"id\":\"a\",{PROMPT},\"must_contain\":\"x\"}}\n\n{{{PROMPT}}}\n");
        for name in ["p.jsonl", "p.jsonl.zst"] {
            let (_folder, path) = file(name, &text);
            let rows = read_prompts(&path).unwrap();
            assert_eq!(rows.len(), 2);
            assert_eq!(
                (rows[0].id.as_str(), &rows[0].record["must_contain"]),
                ("a", &"x".into())
            );
            assert_eq!(rows[1].id, format!("{name}:3"));
        }
    }

    #[test]
    fn a_bad_row_is_named_by_file_and_line() {
        for (bad, expected) in [
            ("{", "not JSON"),
            ("{\"id\":\"a\"}", "missing field `prompt`"),
            ("{\"prompt\":[]}", "the prompt is empty"),
            (
                "{\"prompt\":[{\"role\":\"assistant\",\"content\":\"x\"}]}",
                "expected the user's",
            ),
        ] {
            let (_folder, path) = file("p.jsonl", &format!("{{{PROMPT}}}\n{bad}\n"));
            let message = read_prompts(&path).unwrap_err().to_string();
            assert!(
                message.contains("p.jsonl, line 2") && message.contains(expected),
                "{message}"
            );
        }
    }

    #[test]
    fn texts_are_plain_dialogues_or_two_answers() {
        let rows = format!(
            "{{\"text\":\"Once.\"}}\n\
             {{\"messages\":[{{\"role\":\"user\",\"content\":\"a\"}},{{\"role\":\"assistant\",\"content\":\"b\"}}],\"scores\":{{\"brevity\":1}}}}\n\
             {{{PROMPT},\"concise\":\"Yes.\",\"detailed\":\"Yes, it is.\"}}\n"
        );
        let (_folder, path) = file("t.jsonl", &rows);
        let rows = read_texts(&path).unwrap();
        assert_eq!(rows.len(), 4);
        assert_eq!(rows[0], TextRow::Text("Once.".into()));
        let dialogue = |row: &TextRow| match row {
            TextRow::Dialogue { turns, scores, .. } => (turns[1].clone(), scores.len()),
            TextRow::Text(text) => panic!("expected a dialogue, got {text:?}"),
        };
        assert_eq!(dialogue(&rows[1]), (Message::assistant("b"), 1));
        assert_eq!(dialogue(&rows[3]), (Message::assistant("Yes, it is."), 0));
    }

    #[test]
    fn an_empty_file_is_refused() {
        let (_folder, path) = file("p.jsonl", "\n");
        assert!(
            read_prompts(&path)
                .unwrap_err()
                .to_string()
                .contains("holds no rows")
        );
    }
}
