//! What an answer must be, on the wire.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::error::ApiError;
use crate::service::GrammarSource;

/// What the answer must be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum ResponseFormat {
    /// Any text.
    Text {},
    /// A JSON object.
    JsonObject {},
    /// JSON that a schema allows.
    JsonSchema {
        /// The schema and its name.
        json_schema: SchemaField,
    },
}

/// A schema as OpenAI's clients send it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SchemaField {
    /// The caller's name for it.
    #[serde(rename = "name")]
    _name: Option<String>,
    /// What it is for.
    #[serde(rename = "description")]
    _description: Option<String>,
    /// The JSON schema, up to 64 KiB. A keyword that cannot be enforced is refused.
    #[schema(value_type = Object)]
    schema: Option<Value>,
    /// Every schema is enforced, whatever stands here.
    #[serde(rename = "strict")]
    _strict: Option<bool>,
}

/// The grammar that the two fields ask for, and which of them does.
pub(super) fn grammar(
    format: Option<ResponseFormat>,
    regex: Option<String>,
) -> Result<Option<(&'static str, GrammarSource)>, ApiError> {
    let source = match format {
        None | Some(ResponseFormat::Text {}) => {
            return Ok(regex.map(|pattern| ("regex", GrammarSource::Regex(pattern))));
        }
        Some(ResponseFormat::JsonObject {}) => GrammarSource::JsonObject,
        Some(ResponseFormat::JsonSchema { json_schema }) => {
            let schema = json_schema.schema.ok_or_else(|| {
                let message = "`response_format.json_schema.schema` is missing; it holds the \
                               JSON schema";
                ApiError::invalid("missing_field", message).with_param("response_format")
            })?;
            GrammarSource::JsonSchema(schema)
        }
    };
    if regex.is_some() {
        let message = "`regex` and `response_format` cannot be combined: an answer follows one \
                       grammar; send one of them";
        return Err(ApiError::invalid("invalid_value", message).with_param("regex"));
    }
    Ok(Some(("response_format", source)))
}
