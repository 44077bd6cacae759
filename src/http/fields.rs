//! Fields that other servers know and this one does not act on: accepted and named in `warnings`
//! where they change nothing, refused where the caller would get something else than asked.

use serde_json::{Map, Value};

use super::error::ApiError;

/// Change nothing about the answer of any server of this kind.
const WITHOUT_EFFECT: [&str; 9] = [
    "metadata",
    "service_tier",
    "store",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "parallel_tool_calls",
    "reasoning_effort",
    "verbosity",
];

/// Would change the answer; each with what leaves it as it is.
const UNSUPPORTED: [(&str, Neutral); 23] = [
    ("tools", Neutral::Empty),
    ("tool_choice", Neutral::Words(&["none", "auto"])),
    ("functions", Neutral::Empty),
    ("function_call", Neutral::Words(&["none", "auto"])),
    ("best_of", Neutral::Number(1.0)),
    ("echo", Neutral::False),
    ("suffix", Neutral::Words(&[""])),
    ("modalities", Neutral::Never),
    ("audio", Neutral::Never),
    ("prediction", Neutral::Never),
    ("web_search_options", Neutral::Never),
    ("chat_template", Neutral::Never),
    ("chat_template_kwargs", Neutral::Empty),
    ("prompt_logprobs", Neutral::Never),
    ("use_beam_search", Neutral::False),
    ("guided_json", Neutral::Never),
    ("guided_regex", Neutral::Never),
    ("guided_choice", Neutral::Never),
    ("guided_grammar", Neutral::Never),
    ("structured_outputs", Neutral::Never),
    ("logprobs", Neutral::False),
    ("top_logprobs", Neutral::Number(0.0)),
    ("include_stop_str_in_output", Neutral::False),
];

/// Which value of an unsupported field asks for nothing. `null` always does.
enum Neutral {
    Never,
    False,
    Empty,
    Number(f64),
    Words(&'static [&'static str]),
}

impl Neutral {
    fn allows(&self, value: &Value) -> bool {
        match self {
            Self::Never => false,
            Self::False => value == &Value::Bool(false),
            Self::Empty => {
                value.as_array().is_some_and(Vec::is_empty)
                    || value.as_object().is_some_and(Map::is_empty)
            }
            Self::Number(neutral) => value.as_f64() == Some(*neutral),
            Self::Words(words) => value.as_str().is_some_and(|word| words.contains(&word)),
        }
    }
}

/// Sorts the fields of a body that its shape does not know.
///
/// Returns the warnings for those that have no effect.
///
/// # Errors
/// A field that cannot be honoured, or that nobody knows.
pub(super) fn sort_rest(rest: &Map<String, Value>) -> Result<Vec<String>, ApiError> {
    let mut warnings = Vec::new();
    for (name, value) in rest {
        if value.is_null() && is_known(name) {
            continue;
        }
        if WITHOUT_EFFECT.contains(&name.as_str()) {
            warnings.push(format!(
                "`{name}` was accepted but has no effect on this server"
            ));
            continue;
        }
        match UNSUPPORTED.iter().find(|(known, _)| known == name) {
            Some((_, neutral)) if neutral.allows(value) => {}
            Some(_) => {
                let message = format!("`{name}` is not supported by this server; leave it out");
                return Err(ApiError::invalid("unsupported_parameter", message).with_param(name));
            }
            None => return Err(unknown(name)),
        }
    }
    Ok(warnings)
}

/// Refuses every field that a shape does not know, for routes that are this server's own.
///
/// # Errors
/// The first such field.
pub(super) fn refuse_rest(rest: &Map<String, Value>) -> Result<(), ApiError> {
    match rest.keys().next() {
        Some(name) => Err(unknown(name)),
        None => Ok(()),
    }
}

fn unknown(name: &str) -> ApiError {
    let message = format!(
        "unknown field `{}`; GET /openapi.json describes the fields of this route",
        name.chars().take(80).collect::<String>()
    );
    ApiError::invalid("unknown_parameter", message).with_param(name)
}

fn is_known(name: &str) -> bool {
    WITHOUT_EFFECT.contains(&name) || UNSUPPORTED.iter().any(|(known, _)| *known == name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(body: Value, expected: Result<usize, &str>) {
        let Value::Object(rest) = body else {
            panic!("an object")
        };
        match (sort_rest(&rest), expected) {
            (Ok(warnings), Ok(count)) => assert_eq!(warnings.len(), count, "{rest:?}"),
            (Err(error), Err(code)) => assert_eq!(error.body().error.code, code, "{rest:?}"),
            (found, _) => panic!("{rest:?}: {found:?}"),
        }
    }

    #[test]
    fn fields_are_warned_of_refused_or_unknown() {
        check(json!({}), Ok(0));
        check(
            json!({"verbosity": "low", "store": false, "metadata": null}),
            Ok(2),
        );
        check(
            json!({"tools": [], "tool_choice": "none", "best_of": 1}),
            Ok(0),
        );
        check(json!({"suffix": "", "echo": false}), Ok(0));
        check(json!({"tools": [{}]}), Err("unsupported_parameter"));
        check(json!({"best_of": 2}), Err("unsupported_parameter"));
        check(json!({"suffix": "x"}), Err("unsupported_parameter"));
        check(json!({"temprature": 1}), Err("unknown_parameter"));
        check(json!({"temprature": null}), Err("unknown_parameter"));
    }
}
