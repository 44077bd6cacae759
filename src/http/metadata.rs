//! OpenAI's `metadata`: kept nowhere, but `objectives` in it are weights, for clients that can
//! send nothing but OpenAI's own fields.

use serde_json::{Map, Value};

use super::error::ApiError;
use crate::service::{RawWeights, WeightsSource};
use crate::types::json_kind;

/// The entry that holds weights, in the form of the header.
const OBJECTIVES: &str = "objectives";
/// OpenAI's bounds: entries, and characters of a key and of a value.
const MOST: (usize, usize, usize) = (16, 64, 512);

/// The weights of `metadata.objectives`; a warning where other entries have no effect.
pub(super) fn read_metadata(
    stated: Option<Map<String, Value>>,
    warnings: &mut Vec<String>,
) -> Result<Option<RawWeights>, ApiError> {
    let Some(metadata) = stated else {
        return Ok(None);
    };
    let (entries, key_chars, value_chars) = MOST;
    if metadata.len() > entries {
        let problem = format!(
            "holds {} entries, expected at most {entries}",
            metadata.len()
        );
        return Err(refuse("metadata", &problem));
    }
    for (key, value) in &metadata {
        let shown: String = key.chars().take(key_chars).collect();
        if key.chars().count() > key_chars {
            let problem = format!("has a key of more than {key_chars} characters, `{shown}…`");
            return Err(refuse("metadata", &problem));
        }
        let at = format!("metadata.{shown}");
        match value.as_str() {
            None => {
                let problem = format!("must be a string, got {}", json_kind(value));
                return Err(refuse(&at, &problem));
            }
            Some(text) if text.chars().count() > value_chars => {
                let problem = format!("must have at most {value_chars} characters");
                return Err(refuse(&at, &problem));
            }
            Some(_) => {}
        }
    }
    if metadata.is_empty() || metadata.keys().any(|key| key != OBJECTIVES) {
        warnings.push("`metadata` was accepted but has no effect on this server".to_owned());
    }
    let objectives = metadata.get(OBJECTIVES).and_then(Value::as_str);
    let weights = objectives.map(RawWeights::parse).transpose();
    weights.map_err(|problem| refuse(WeightsSource::Metadata.param(), &problem))
}

fn refuse(at: &str, problem: &str) -> ApiError {
    ApiError::invalid("invalid_value", format!("`{at}` {problem}")).with_param(at)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(metadata: Value) -> Result<(Option<RawWeights>, usize), String> {
        let mut warnings = Vec::new();
        let weights = read_metadata(metadata.as_object().cloned(), &mut warnings);
        let weights = weights.map_err(|error| error.body().error.param.unwrap_or_default())?;
        Ok((weights, warnings.len()))
    }

    #[test]
    fn objectives_are_weights_and_the_rest_is_named() {
        let weights = Some(RawWeights::Named(vec![
            ("a".into(), 0.7),
            ("b".into(), 0.3),
        ]));
        for (metadata, expected) in [
            (json!({"objectives": "a=0.7,b=0.3"}), (weights.clone(), 0)),
            (
                json!({"objectives": "a=0.7,b=0.3", "team": "x"}),
                (weights, 1),
            ),
            (json!({"team": "x"}), (None, 1)),
            (json!({}), (None, 1)),
        ] {
            assert_eq!(read(metadata.clone()), Ok(expected), "{metadata}");
        }
        assert_eq!(read(Value::Null), Ok((None, 0)));
    }

    #[test]
    fn what_openai_would_refuse_is_refused_by_name() {
        let many: Map<_, _> = (0..17).map(|i| (i.to_string(), json!("x"))).collect();
        for (metadata, param) in [
            (json!({"objectives": "0.7"}), "metadata.objectives"),
            (json!({"objectives": {"a": 1}}), "metadata.objectives"),
            (json!({"n": 1}), "metadata.n"),
            (json!({"n": "x".repeat(513)}), "metadata.n"),
            (json!({"k".repeat(65): "x"}), "metadata"),
            (Value::Object(many), "metadata"),
        ] {
            assert_eq!(read(metadata), Err(param.to_owned()));
        }
    }
}
