//! Reads a turn of a conversation from JSON, as chat clients and training files write it.

use serde_json::{Map, Value};

use super::{Message, Role};

/// What is wrong with a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnFault {
    /// Where in the turn: `role`, `content[1]`.
    pub at: String,
    /// What was expected and what was found, after the place's name.
    pub problem: String,
}

impl Message {
    /// Reads role and content; `developer` counts as `system`, and pieces of text are joined. What
    /// else the turn has is the caller's to judge.
    ///
    /// # Errors
    /// One of the two is none that can be read.
    pub fn read(turn: &Map<String, Value>) -> Result<Self, TurnFault> {
        Ok(Self {
            role: read_role(turn.get("role"))?,
            content: read_content(turn.get("content"))?,
        })
    }
}

fn read_role(role: Option<&Value>) -> Result<Role, TurnFault> {
    match role.and_then(Value::as_str) {
        Some("system" | "developer") => Ok(Role::System),
        Some("user") => Ok(Role::User),
        Some("assistant") => Ok(Role::Assistant),
        Some("tool") => Ok(Role::Tool),
        _ => {
            let got = role.map_or("none".to_owned(), Value::to_string);
            let problem =
                format!("must be one of system, developer, user, assistant and tool, got {got}");
            Err(fault("role", problem))
        }
    }
}

fn read_content(content: Option<&Value>) -> Result<String, TurnFault> {
    match content {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().enumerate().map(|(i, part)| read_part(i, part));
            texts
                .collect::<Result<Vec<_>, _>>()
                .map(|texts| texts.concat())
        }
        other => {
            let got = other.map_or("none", json_kind);
            let problem = format!("must be a string or a list of text parts, got {got}");
            Err(fault("content", problem))
        }
    }
}

fn read_part(index: usize, part: &Value) -> Result<&str, TurnFault> {
    let at = format!("content[{index}]");
    match (part.get("type").and_then(Value::as_str), part.get("text")) {
        (Some("text"), Some(Value::String(text))) => Ok(text),
        (Some(kind), _) if kind != "text" => {
            let problem = format!("must be of type text, the only kind here, got `{kind}`");
            Err(fault(at, problem))
        }
        _ => Err(fault(
            at,
            "must be an object with type `text` and a string `text`",
        )),
    }
}

fn fault(at: impl Into<String>, problem: impl Into<String>) -> TurnFault {
    TurnFault {
        at: at.into(),
        problem: problem.into(),
    }
}

/// What a JSON value is, with its article.
pub fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
