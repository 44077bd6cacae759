//! Reads the form of an upload: one `file` and its `purpose`, the file's bytes passed on as they
//! come.

use axum::extract::Request;
use axum::http::header;
use multer::{Field, Multipart};

use crate::http::error::ApiError;
use crate::service::{App, FileIntake};

/// Longest of the form's other fields, in bytes.
const MAX_FIELD: usize = 1024;

/// A form that was read to its end.
pub(super) struct Upload {
    pub(super) intake: FileIntake,
    pub(super) name: String,
    pub(super) purpose: String,
}

impl Upload {
    /// Reads a request.
    pub(super) async fn read(app: &App, request: Request) -> Result<Self, ApiError> {
        let found = request.headers().get(header::CONTENT_TYPE);
        let found = found.and_then(|value| value.to_str().ok()).unwrap_or("");
        let boundary = multer::parse_boundary(found).map_err(|_| {
            let message = "the header `content-type` must be `multipart/form-data` with a \
                           boundary; clients set it where a file is sent";
            ApiError::invalid("invalid_body", message).with_param("content-type")
        })?;
        let mut form = Multipart::new(request.into_body().into_data_stream(), boundary);
        let (mut file, mut purpose) = (None, None);
        while let Some(field) = form.next_field().await.map_err(|e| broken(&e))? {
            match field.name().unwrap_or_default() {
                "file" if file.is_none() => file = Some(take_in(app, field).await?),
                "purpose" if purpose.is_none() => purpose = Some(short(field).await?),
                other => {
                    let other: String = other.chars().take(80).collect();
                    let message = format!(
                        "the form takes one `file` and one `purpose`, got `{other}` beside or \
                         again"
                    );
                    return Err(ApiError::invalid("unknown_parameter", message).with_param(other));
                }
            }
        }
        let missing = |name: &str| {
            let message = format!("the form has no field `{name}`");
            ApiError::invalid("missing_field", message).with_param(name)
        };
        let (intake, name) = file.ok_or_else(|| missing("file"))?;
        Ok(Self {
            intake,
            name,
            purpose: purpose.ok_or_else(|| missing("purpose"))?,
        })
    }
}

async fn take_in(app: &App, mut field: Field<'_>) -> Result<(FileIntake, String), ApiError> {
    let name = field.file_name().unwrap_or("file.jsonl").to_owned();
    let mut intake = app.begin_file()?;
    while let Some(bytes) = field.chunk().await.map_err(|e| broken(&e))? {
        intake.push(&bytes)?;
    }
    Ok((intake, name))
}

async fn short(mut field: Field<'_>) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|e| broken(&e))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_FIELD {
            return Err(ApiError::body_too_large(MAX_FIELD));
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn broken(error: &multer::Error) -> ApiError {
    ApiError::invalid("invalid_body", format!("the form cannot be read: {error}"))
}
