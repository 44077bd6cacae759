//! Files as JSON: what is told of one, and what a request may say.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::page::checked_limit;
use crate::http::error::ApiError;
use crate::service::{FileInfo, FileOrder};

/// A file: one that was uploaded, or a job's result file, which only its job names.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = File)]
pub(super) struct FileBody {
    /// What jobs name it by.
    #[schema(example = "file-0193")]
    pub(super) id: String,
    /// Always `file`.
    #[schema(example = "file")]
    object: &'static str,
    /// Its size.
    bytes: i64,
    /// Seconds since 1970.
    created_at: i64,
    /// Its name.
    filename: String,
    /// `fine-tune`, or `fine-tune-results`.
    purpose: String,
    /// Always `processed`: what is kept was checked.
    #[schema(example = "processed")]
    status: &'static str,
    /// Which rows it holds: `prompts`, `pairs`, `texts` or `metrics`.
    kind: String,
    /// How many.
    rows: i64,
}

impl From<FileInfo> for FileBody {
    fn from(file: FileInfo) -> Self {
        Self {
            id: file.id,
            object: "file",
            bytes: file.bytes,
            created_at: file.created_at,
            filename: file.name,
            purpose: file.purpose,
            status: "processed",
            kind: file.kind,
            rows: file.rows,
        }
    }
}

/// A file that was removed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FileDeleted {
    /// Its id.
    id: String,
    /// Always `file`.
    #[schema(example = "file")]
    object: &'static str,
    /// Always true.
    deleted: bool,
}

impl FileDeleted {
    pub(super) fn of(id: String) -> Self {
        Self {
            id,
            object: "file",
            deleted: true,
        }
    }
}

/// The form of an upload.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "only its schema is used; the form is read as it comes"
)]
pub(super) struct UploadForm {
    /// JSONL, UTF-8, at most 512 MiB, lines of at most 1 MiB, all rows of one kind: prompts
    /// `{"prompt": [messages]}`; pairs `{"prompt", "chosen", "rejected", "objective"}`; texts
    /// `{"text"}`, `{"messages"}` or `{"prompt", "concise", "detailed"}`.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    file: String,
    /// `fine-tune`.
    #[schema(example = "fine-tune")]
    purpose: String,
}

/// Which files.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct FilesQuery {
    /// Files behind the one of this id.
    pub(super) after: Option<String>,
    /// How many, 1 to 1000; 20 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Only files of this purpose.
    purpose: Option<String>,
    /// `desc` (newest first, the default) or `asc`.
    order: Option<String>,
}

impl FilesQuery {
    pub(super) fn limit(&self) -> Result<u32, ApiError> {
        checked_limit(self.limit)
    }

    pub(super) fn order(&self) -> Result<FileOrder, ApiError> {
        match self.order.as_deref() {
            None | Some("desc") => Ok(FileOrder::Descending),
            Some("asc") => Ok(FileOrder::Ascending),
            Some(_) => {
                let message = "`order` must be `asc` or `desc`";
                Err(ApiError::invalid("invalid_value", message).with_param("order"))
            }
        }
    }

    /// A purpose that no file has finds none; PostgreSQL takes no NUL.
    pub(super) fn purpose(&self) -> Option<String> {
        let purpose = self.purpose.as_ref();
        purpose.map(|purpose| purpose.replace('\0', ""))
    }
}
