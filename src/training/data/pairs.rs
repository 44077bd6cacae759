//! Rows of the pairs schema: a prompt, the preferred answer and the other one.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{check_tools, decode, name, not_empty, read_conversation, read_prompt, read_rows};
use crate::training::TrainingError;
use crate::types::{Message, Role, json_kind};

/// Two answers to one prompt, one of which a judge preferred.
#[derive(Debug, Clone, PartialEq)]
pub struct PairRow {
    /// The row's own id, or its file and line.
    pub id: String,
    /// The conversation; its last turn is the user's.
    pub prompt: Vec<Message>,
    /// The preferred answer.
    pub chosen: String,
    /// The other one.
    pub rejected: String,
    /// By which objective it was preferred, where the row says so.
    pub objective: Option<String>,
    /// Under which objective weights it was preferred, by name, where the row says so: finite, not
    /// negative, not all 0. Never beside `objective`.
    pub weights: BTreeMap<String, f64>,
}

/// `{"prompt" or "messages", "chosen", "rejected"}`.
#[derive(Deserialize)]
struct Plain {
    id: Option<String>,
    #[serde(alias = "messages")]
    prompt: Value,
    chosen: Value,
    rejected: Value,
    objective: Option<String>,
    #[serde(default)]
    weights: BTreeMap<String, f64>,
}

/// The shape that OpenAI's API takes for the same.
#[derive(Deserialize)]
struct Nested {
    id: Option<String>,
    input: NestedInput,
    preferred_output: Value,
    non_preferred_output: Value,
    objective: Option<String>,
    #[serde(default)]
    weights: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
struct NestedInput {
    messages: Value,
}

/// An answer as text, or as one message of the assistant.
fn read_answer(field: &str, answer: &Value) -> Result<String, String> {
    match answer {
        Value::String(text) => Ok(text.clone()),
        Value::Array(_) => {
            let mut turns = read_conversation(field, answer)?;
            match (turns.pop(), turns.is_empty()) {
                (Some(turn), true) if turn.role == Role::Assistant => Ok(turn.content),
                _ => Err(format!(
                    "{field} is no text and not one message of the assistant"
                )),
            }
        }
        other => Err(format!(
            "{field}: expected an answer as text, or as a list of one message, got {}",
            json_kind(other)
        )),
    }
}

/// Rows of the pairs schema: `{"id", "prompt", "chosen", "rejected"}` with `objective` or
/// `weights`; or `{"input": {"messages"}, "preferred_output", "non_preferred_output"}`.
pub fn read_pairs(path: &Path) -> Result<Vec<PairRow>, TrainingError> {
    read_rows(path, |line, record| {
        Ok(vec![pair_row(path, line, &record)?])
    })
}

/// Reads one row; an error says what was found and what was expected.
pub(in crate::training) fn pair_row(
    path: &Path,
    line: usize,
    record: &Value,
) -> Result<PairRow, String> {
    check_tools(record)?;
    let (raw, fields) = if let Some(input) = record.get("input") {
        check_tools(input)?;
        let raw: Nested = decode(record)?;
        let plain = Plain {
            id: raw.id,
            prompt: raw.input.messages,
            chosen: raw.preferred_output,
            rejected: raw.non_preferred_output,
            objective: raw.objective,
            weights: raw.weights,
        };
        (plain, ["preferred_output", "non_preferred_output"])
    } else {
        (decode::<Plain>(record)?, ["chosen", "rejected"])
    };
    let prompt = read_prompt("prompt", &raw.prompt)?;
    let chosen = read_answer(fields[0], &raw.chosen)?;
    not_empty(fields[0], &chosen)?;
    let rejected = read_answer(fields[1], &raw.rejected)?;
    if chosen == rejected {
        let [chosen, rejected] = fields;
        return Err(format!(
            "{chosen} and {rejected} are the same text, expected two answers"
        ));
    }
    check_weights(&raw.weights, raw.objective.is_some())?;
    Ok(PairRow {
        id: name(raw.id, path, line),
        prompt,
        chosen,
        rejected,
        objective: raw.objective,
        weights: raw.weights,
    })
}

fn check_weights(weights: &BTreeMap<String, f64>, has_objective: bool) -> Result<(), String> {
    if weights.is_empty() {
        return Ok(());
    }
    if has_objective {
        return Err("both objective and weights are given, expected one of them".into());
    }
    if let Some((name, weight)) = weights.iter().find(|(_, w)| !w.is_finite() || **w < 0.0) {
        return Err(format!(
            "the weight of {name} is {weight}, expected 0 or more"
        ));
    }
    match weights.values().all(|weight| *weight == 0.0) {
        true => Err("all weights are 0, expected one above it".into()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(record: &Value) -> Result<PairRow, String> {
        pair_row(Path::new("p.jsonl"), 1, record)
    }

    fn turns(role: &str, content: &str) -> Value {
        json!([{"role": role, "content": content}])
    }

    #[test]
    fn every_shape_of_a_pair_is_the_same_row() {
        let expected = row(&json!({
            "prompt": turns("user", "Hi?"), "chosen": "a", "rejected": "b",
        }))
        .unwrap();
        assert_eq!(
            (expected.chosen.as_str(), expected.rejected.as_str()),
            ("a", "b")
        );
        for record in [
            json!({"messages": turns("user", "Hi?"), "chosen": "a", "rejected": "b"}),
            json!({
                "prompt": turns("user", "Hi?"),
                "chosen": turns("assistant", "a"),
                "rejected": turns("assistant", "b"),
            }),
            json!({
                "input": {"messages": turns("user", "Hi?"), "tools": []},
                "preferred_output": turns("assistant", "a"),
                "non_preferred_output": turns("assistant", "b"),
            }),
        ] {
            assert_eq!(row(&record).unwrap(), expected, "{record}");
        }
    }

    #[test]
    fn a_row_that_is_no_pair_is_refused_with_what_was_expected() {
        let with = |field: &str, value: Value| {
            let mut record = json!({
                "prompt": turns("user", "Hi?"), "chosen": "a", "rejected": "b", "objective": null,
            });
            record[field] = value;
            row(&record).unwrap_err()
        };
        for (told, words) in [
            (with("chosen", json!("b")), "the same text"),
            (
                with("chosen", turns("user", "a")),
                "not one message of the assistant",
            ),
            (with("chosen", json!(7)), "expected an answer as text"),
            (with("prompt", json!([])), "the prompt is empty"),
            (with("chosen", json!("")), "chosen is empty"),
            (
                with("tools", json!([{"type": "function"}])),
                "tools are not",
            ),
            (
                with("weights", json!({"brevity": -1})),
                "weight of brevity is -1",
            ),
            (with("weights", json!({"brevity": 0})), "all weights are 0"),
        ] {
            assert!(told.contains(words), "`{words}` is not in: {told}");
        }
        let both = json!({
            "prompt": turns("user", "Hi?"), "chosen": "a", "rejected": "b",
            "objective": "brevity", "weights": {"brevity": 1},
        });
        assert!(row(&both).unwrap_err().contains("one of them"));
    }
}
