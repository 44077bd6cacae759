//! Rows of the texts schema: plain text, dialogues, or a prompt with a short and a long answer.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::lines::{FirstRows, read_first_rows};
use super::turns::{Turn, check_tools, read_dialogue};
use super::{decode, not_empty, read_prompt, read_rows};
use crate::training::TrainingError;
use crate::types::{Message, Role};

/// A row for supervised training.
#[derive(Debug, Clone, PartialEq)]
pub enum TextRow {
    /// Plain text, every token trained on.
    Text(String),
    /// A dialogue, trained on the assistant's turns.
    Dialogue {
        /// The turns.
        turns: Vec<Message>,
        /// Parallel to `turns`: whether the assistant's words in it are trained on.
        trained: Vec<bool>,
        /// What its answer is worth by objective, where the row says so.
        scores: BTreeMap<String, f32>,
    },
}

#[derive(Deserialize)]
struct RawText {
    text: Option<String>,
    messages: Option<Value>,
    prompt: Option<Value>,
    concise: Option<String>,
    detailed: Option<String>,
    #[serde(default)]
    scores: BTreeMap<String, f32>,
}

/// Rows for supervised training: `{"text"}`, `{"messages", "scores"}`, or `{"prompt", "concise",
/// "detailed"}`, which gives one dialogue for each of the two answers.
pub fn read_texts(path: &Path) -> Result<Vec<TextRow>, TrainingError> {
    read_rows(path, |_, record| text_rows(&record))
}

/// The first of them, until they have so many bytes.
pub(in crate::training) fn read_first_texts(
    path: &Path,
    bytes: u64,
) -> Result<FirstRows<TextRow>, TrainingError> {
    read_first_rows(path, bytes, |_, record| text_rows(&record))
}

pub(super) fn text_rows(record: &Value) -> Result<Vec<TextRow>, String> {
    let raw: RawText = decode(record)?;
    check_tools(record)?;
    match raw {
        RawText {
            text: Some(text),
            messages: None,
            ..
        } => {
            not_empty("text", &text)?;
            Ok(vec![TextRow::Text(text)])
        }
        RawText {
            messages: Some(turns),
            text: None,
            scores,
            ..
        } => {
            let turns = read_dialogue("messages", &turns)?;
            Ok(vec![dialogue(turns, scores)])
        }
        RawText {
            prompt: Some(prompt),
            concise,
            detailed,
            ..
        } if concise.is_some() || detailed.is_some() => {
            let prompt = read_prompt("prompt", &prompt)?;
            let answers = [("concise", concise), ("detailed", detailed)];
            let given = answers
                .into_iter()
                .filter_map(|(name, answer)| Some((name, answer?)));
            given
                .map(|(name, answer)| answered(&prompt, name, answer))
                .collect()
        }
        _ => Err("expected `text`, `messages`, or `prompt` with `concise` or `detailed`".into()),
    }
}

fn dialogue(turns: Vec<Turn>, scores: BTreeMap<String, f32>) -> TextRow {
    let (turns, trained) = turns
        .into_iter()
        .map(|turn| (turn.message, turn.trained))
        .unzip();
    TextRow::Dialogue {
        turns,
        trained,
        scores,
    }
}

/// A prompt with one answer.
fn answered(prompt: &[Message], field: &str, answer: String) -> Result<TextRow, String> {
    not_empty(field, &answer)?;
    let turns: Vec<Message> = prompt
        .iter()
        .cloned()
        .chain([Message::assistant(answer)])
        .collect();
    Ok(TextRow::Dialogue {
        trained: turns
            .iter()
            .map(|turn| turn.role == Role::Assistant)
            .collect(),
        turns,
        scores: BTreeMap::new(),
    })
}
