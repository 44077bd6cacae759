//! The turns of a conversation in a row. What of them cannot be heeded is refused by name, for a
//! file that was made for another trainer would otherwise lose its meaning without a word.

use serde_json::Value;

use crate::types::{Message, Role, json_kind};

/// A turn of a dialogue, and whether the assistant's words in it are trained on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turn {
    pub(super) message: Message,
    pub(super) trained: bool,
}

/// Keys that a turn may have for its content, beside `role`: what they would mean is nothing that
/// a policy here is trained on.
const WITHOUT_MEANING: [&str; 6] = [
    "tool_calls",
    "function_call",
    "audio",
    "tool_call_id",
    "refusal",
    "name",
];

/// What a row may say of tools.
const TOOLS: [&str; 2] = ["tools", "functions"];

/// Refuses what a row says of tools.
pub(super) fn check_tools(record: &Value) -> Result<(), String> {
    match TOOLS.into_iter().find(|name| says_something(&record[name])) {
        Some(name) => Err(format!(
            "{name}: tools are not trained on here; leave it out"
        )),
        None => Ok(()),
    }
}

/// The turns of a dialogue in the field `name`; an assistant's turn of weight 0 is only read.
/// At least one is trained on, and none of these is empty.
pub(super) fn read_dialogue(name: &str, turns: &Value) -> Result<Vec<Turn>, String> {
    let turns = read_turns(name, turns)?;
    let empty = |turn: &Turn| turn.trained && turn.message.content.trim().is_empty();
    if let Some(index) = turns.iter().position(empty) {
        return Err(format!(
            "{name}[{index}].content is empty, so there is nothing to train on"
        ));
    }
    match turns.iter().any(|turn| turn.trained) {
        true => Ok(turns),
        false => {
            Err("no turn of the assistant that is trained on, so there is nothing to learn".into())
        }
    }
}

fn read_turns(name: &str, turns: &Value) -> Result<Vec<Turn>, String> {
    let Value::Array(turns) = turns else {
        let got = json_kind(turns);
        return Err(format!("{name} must be a list of turns, got {got}"));
    };
    let turns = turns.iter().enumerate();
    turns
        .map(|(index, turn)| read_turn(&format!("{name}[{index}]"), turn))
        .collect()
}

/// The turns of a conversation in the field `name`, none of which is trained on.
pub(super) fn read_conversation(name: &str, turns: &Value) -> Result<Vec<Message>, String> {
    let weighed = turns.as_array().and_then(|turns| {
        turns
            .iter()
            .position(|turn| says_something(&turn["weight"]))
    });
    if let Some(index) = weighed {
        return Err(format!(
            "{name}[{index}].weight means nothing here, where no turn of it is trained on; leave \
             it out"
        ));
    }
    let turns = read_turns(name, turns)?;
    Ok(turns.into_iter().map(|turn| turn.message).collect())
}

fn read_turn(at: &str, turn: &Value) -> Result<Turn, String> {
    let Value::Object(fields) = turn else {
        let got = json_kind(turn);
        return Err(format!(
            "{at} must be an object with role and content, got {got}"
        ));
    };
    for (key, _) in fields.iter().filter(|(_, value)| says_something(value)) {
        match key.as_str() {
            "role" | "content" | "weight" => {}
            known if WITHOUT_MEANING.contains(&known) => {
                return Err(format!("{at}.{key} is not trained on here; leave it out"));
            }
            _ => {
                return Err(format!(
                    "unknown field {at}.{key}; a turn has role, content and weight"
                ));
            }
        }
    }
    let message =
        Message::read(fields).map_err(|fault| format!("{at}.{} {}", fault.at, fault.problem))?;
    let weight = &turn["weight"];
    let by_assistant = message.role == Role::Assistant;
    let trained = match weight.as_f64() {
        None if weight.is_null() => by_assistant,
        _ if !by_assistant => {
            return Err(format!(
                "{at}.weight belongs to the assistant's turns; leave it out"
            ));
        }
        Some(1.0) => true,
        Some(0.0) => false,
        _ => return Err(format!("{at}.weight must be 0 or 1, got {weight}")),
    };
    Ok(Turn { message, trained })
}

/// Whether a field is there for a reason: clients also write those that are empty.
fn says_something(value: &Value) -> bool {
    !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(answer: Value) -> Value {
        json!([{"role": "user", "content": "Hi?"}, answer])
    }

    #[test]
    fn turns_are_read_as_chat_clients_write_them() {
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let turns = json!([{"role": "developer", "content": "Be brief."},
            {"role": "user", "content": parts, "name": null, "tool_calls": []}]);
        let read = read_conversation("prompt", &turns).unwrap();
        assert_eq!(
            (read[0].role, read[1].content.as_str()),
            (Role::System, "ab")
        );
    }

    #[test]
    fn an_answer_of_weight_0_is_read_and_not_trained_on() {
        let turns = json!([{"role": "user", "content": "Hi?"},
            {"role": "assistant", "content": "", "weight": 0},
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": "b", "weight": 1}]);
        let read = read_dialogue("messages", &turns).unwrap();
        let trained: Vec<bool> = read.iter().map(|turn| turn.trained).collect();
        assert_eq!(trained, [false, false, false, true]);
    }

    #[test]
    fn what_cannot_be_heeded_is_refused_by_name() {
        let check = |turns: Value, words: &str| {
            let told = read_dialogue("messages", &turns).unwrap_err();
            assert!(told.contains(words), "`{words}` is not in: {told}");
        };
        let answer = |field: &str, value: Value| {
            let mut answer = json!({"role": "assistant", "content": "a"});
            answer[field] = value;
            asked(answer)
        };
        check(answer("tool_calls", json!([{}])), "messages[1].tool_calls");
        check(
            answer("wieght", json!(0)),
            "unknown field messages[1].wieght",
        );
        check(
            answer("weight", json!(0.5)),
            "messages[1].weight must be 0 or 1",
        );
        check(answer("weight", json!(0)), "no turn of the assistant");
        check(
            answer("content", json!(" ")),
            "messages[1].content is empty",
        );
        check(answer("content", Value::Null), "text parts, got null");
        check(
            answer("role", json!("bot")),
            "messages[1].role must be one of",
        );
        check(
            json!("Hi?"),
            "messages must be a list of turns, got a string",
        );
        let weighed = read_conversation("prompt", &answer("weight", json!(0))).unwrap_err();
        assert!(
            weighed.contains("prompt[1].weight means nothing here"),
            "{weighed}"
        );
        let tools = check_tools(&json!({"tools": [{}], "text": "a"})).unwrap_err();
        assert!(tools.contains("tools are not trained on"), "{tools}");
        assert!(check_tools(&json!({"tools": [], "text": "a"})).is_ok());
    }
}
