//! Reads a JSON body so that every refusal has the promised shape and names the field at fault.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::ApiError;
use super::strict_json::StrictValue;

/// Largest body taken, in bytes.
pub(super) const BODY_LIMIT: usize = 2 << 20;

/// A JSON object of the body, read as `T`. All fields of `T` must be optional; what is required
/// is checked by the handler, which can say so better.
pub(super) struct JsonBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        check_content_type(request.headers())?;
        let bytes =
            Bytes::from_request(request, state)
                .await
                .map_err(|rejection| match rejection.into_response().status() {
                    StatusCode::PAYLOAD_TOO_LARGE => ApiError::body_too_large(BODY_LIMIT),
                    _ => ApiError::invalid("invalid_body", "the body could not be read to its end"),
                })?;
        decode(&bytes).map(Self)
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let found = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = found.map(|value| value.split(';').next().unwrap_or("").trim());
    match essence {
        Some(kind) if kind.eq_ignore_ascii_case("application/json") => Ok(()),
        _ => Err(ApiError::wrong_content_type(found)),
    }
}

/// Parses and reads a body.
fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let StrictValue(value) = serde_json::from_slice(bytes).map_err(|error| {
        ApiError::invalid(
            "invalid_json",
            format!("the body is not valid JSON: {error}"),
        )
    })?;
    let Value::Object(object) = value else {
        let message = format!("the body must be a JSON object, got {}", kind_of(&value));
        return Err(ApiError::invalid("invalid_json", message));
    };
    let object = Value::Object(object);
    T::deserialize(&object).map_err(|error| culprit::<T>(&object, &error))
}

/// Finds the field that `T` refuses: as every field is optional, each can be read alone.
fn culprit<T: DeserializeOwned>(object: &Value, error: &serde_json::Error) -> ApiError {
    for (name, value) in object.as_object().into_iter().flatten() {
        let alone = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
        if let Err(error) = T::deserialize(&alone) {
            let message = format!(
                "`{name}` cannot be used: {}",
                plain_words(&error.to_string())
            );
            return ApiError::invalid("invalid_type", message).with_param(name.clone());
        }
    }
    ApiError::invalid("invalid_json", plain_words(&error.to_string()))
}

/// What a JSON value is, in words.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Rust's type names mean nothing to a caller.
fn plain_words(message: &str) -> String {
    let mut words = message.to_owned();
    for (rust, plain) in [
        ("expected f64", "expected a number"),
        ("expected u64", "expected a whole number, 0 or more"),
        ("expected usize", "expected a whole number, 0 or more"),
        ("expected u32", "expected a whole number, 0 or more"),
        ("expected i64", "expected a whole number"),
        ("expected a boolean", "expected true or false"),
        ("expected a sequence", "expected an array"),
    ] {
        words = words.replace(rust, plain);
    }
    words
}
