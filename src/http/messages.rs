//! The turns of a conversation on the wire.

use serde_json::Value;
use utoipa::ToSchema;

use super::error::ApiError;
use crate::types::{Message, json_kind};

/// One turn of a conversation.
#[derive(ToSchema)]
#[schema(as = Message)]
#[expect(
    dead_code,
    reason = "read by hand, so that errors name the turn; only the schema is used"
)]
pub(super) struct MessageSchema {
    /// Who speaks; `developer` counts as `system`.
    role: RoleSchema,
    /// What is said.
    content: ContentSchema,
}

/// Who speaks a turn.
#[derive(ToSchema)]
#[schema(as = Role, rename_all = "lowercase")]
#[expect(dead_code, reason = "only the schema is used")]
enum RoleSchema {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

/// What is said: text, or pieces of text that are joined.
#[derive(ToSchema)]
#[schema(as = Content)]
#[serde(untagged)]
#[expect(dead_code, reason = "only the schema is used")]
enum ContentSchema {
    Text(String),
    Parts(Vec<TextPartSchema>),
}

/// A piece of text.
#[derive(ToSchema)]
#[schema(as = TextPart)]
#[expect(dead_code, reason = "only the schema is used")]
struct TextPartSchema {
    /// Always `text`.
    #[schema(example = "text")]
    r#type: String,
    /// The text.
    text: String,
}

/// Keys of a turn that change nothing here.
const WITHOUT_EFFECT: [&str; 3] = ["name", "tool_call_id", "refusal"];

/// Reads the turns. What has no effect is added to `warnings`.
pub(super) fn read_messages(
    turns: &[Value],
    warnings: &mut Vec<String>,
) -> Result<Vec<Message>, ApiError> {
    turns
        .iter()
        .enumerate()
        .map(|(index, turn)| read_turn(index, turn, warnings))
        .collect()
}

fn read_turn(index: usize, turn: &Value, warnings: &mut Vec<String>) -> Result<Message, ApiError> {
    let at = format!("messages[{index}]");
    let Value::Object(turn) = turn else {
        let problem = format!(
            "must be an object with role and content, got {}",
            json_kind(turn)
        );
        return Err(refuse(&at, &problem));
    };
    for (key, value) in turn {
        match key.as_str() {
            "role" | "content" => {}
            _ if value.is_null() || value.as_array().is_some_and(Vec::is_empty) => {}
            known if WITHOUT_EFFECT.contains(&known) => {
                warnings.push(format!("`{at}.{key}` was accepted but has no effect"));
            }
            "tool_calls" | "function_call" | "audio" => {
                let message = format!("`{at}.{key}` is not supported by this server; leave it out");
                let error = ApiError::invalid("unsupported_parameter", message);
                return Err(error.with_param(format!("{at}.{key}")));
            }
            _ => {
                let message = format!("unknown field `{key}` in `{at}`; it takes role and content");
                let error = ApiError::invalid("unknown_parameter", message);
                return Err(error.with_param(format!("{at}.{key}")));
            }
        }
    }
    Message::read(turn).map_err(|fault| refuse(&format!("{at}.{}", fault.at), &fault.problem))
}

fn refuse(at: &str, problem: &str) -> ApiError {
    ApiError::invalid("invalid_value", format!("`{at}` {problem}")).with_param(at)
}
