//! Reads a JSON body so that every refusal has the promised shape and names the field at fault.

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::ApiError;
use super::settings::{BodyLimits, HttpSettings};
use super::strict_json::StrictValue;
use crate::types::json_kind;

/// A JSON object of the body, read as `T`. All fields of `T` must be optional; what is required
/// is checked by the handler, which can say so better.
pub(super) struct JsonBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        check_content_type(request.headers())?;
        let limits = request.extensions().get::<BodyLimits>().copied();
        let limits = limits.unwrap_or_else(|| BodyLimits::from(&HttpSettings::default()));
        let reading = read_whole(request.into_body(), limits.bytes);
        let bytes = tokio::time::timeout(limits.timeout, reading)
            .await
            .map_err(|_| ApiError::body_too_slow(limits.timeout))??;
        decode(&bytes).map(Self)
    }
}

/// Reads a body into one piece: a body of a million chunks must not cost a million allocations.
async fn read_whole(body: Body, most: usize) -> Result<Vec<u8>, ApiError> {
    // who announces too much is not read at all
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > most {
        return Err(ApiError::body_too_large(most));
    }
    let mut bytes = Vec::with_capacity(announced);
    let mut frames = body.into_data_stream();
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(|_| {
            ApiError::invalid("invalid_body", "the body could not be read to its end")
        })?;
        if frame.len() > most - bytes.len() {
            return Err(ApiError::body_too_large(most));
        }
        bytes.extend_from_slice(&frame);
    }
    Ok(bytes)
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
        let message = format!("the body must be a JSON object, got {}", json_kind(&value));
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
