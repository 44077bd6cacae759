//! `POST`, `GET /admin/v1/files`, `GET`, `DELETE /admin/v1/files/{id}` and its content.

use std::io::Read;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::page::{IdPath, Page, checked_limit, cursor, read};
use super::upload::Upload;
use crate::http::error::{ApiError, ErrorBody};
use crate::service::{App, FileInfo, FileOrder};

/// Bytes of a content that are read at once.
const PIECE: usize = 256 << 10;

/// An uploaded file.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = File)]
pub(super) struct FileBody {
    /// What jobs name it by.
    #[schema(example = "file-0193")]
    id: String,
    /// Always `file`.
    #[schema(example = "file")]
    object: &'static str,
    /// Its size.
    bytes: i64,
    /// Seconds since 1970.
    created_at: i64,
    /// Its name.
    filename: String,
    /// Always `fine-tune`.
    purpose: String,
    /// Always `processed`: what is kept was checked.
    #[schema(example = "processed")]
    status: &'static str,
    /// Which rows it holds: `prompts`, `pairs` or `texts`.
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
    after: Option<String>,
    /// How many, 1 to 1000; 20 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Only files of this purpose.
    purpose: Option<String>,
    /// `desc` (newest first, the default) or `asc`.
    order: Option<String>,
}

/// Upload a file.
#[utoipa::path(
    post,
    path = "/admin/v1/files",
    operation_id = "create_file",
    tag = "files",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "It is kept.", body = FileBody),
        (status = 400, description = "A row or the form cannot be used; rows are told by line.",
         body = ErrorBody),
        (status = 413, description = "It is too large.", body = ErrorBody),
    )
)]
pub(super) async fn create_file(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Json<FileBody>, ApiError> {
    let upload = Upload::read(&app, request).await?;
    let file = app
        .keep_file(upload.intake, &upload.name, &upload.purpose)
        .await?;
    Ok(Json(file.into()))
}

/// List the files.
#[utoipa::path(
    get,
    path = "/admin/v1/files",
    operation_id = "list_files",
    tag = "files",
    params(FilesQuery),
    responses(
        (status = 200, description = "A page of files.", body = Page<FileBody>),
        (status = 400, description = "A query that cannot be used.", body = ErrorBody),
    )
)]
pub(super) async fn list_files(
    State(app): State<Arc<App>>,
    query: Result<Query<FilesQuery>, QueryRejection>,
) -> Result<Json<Page<FileBody>>, ApiError> {
    let query = read(query, "`after`, `limit`, `purpose` and `order`")?;
    let order = match query.order.as_deref() {
        None | Some("desc") => FileOrder::Descending,
        Some("asc") => FileOrder::Ascending,
        Some(_) => {
            let message = "`order` must be `asc` or `desc`";
            return Err(ApiError::invalid("invalid_value", message).with_param("order"));
        }
    };
    let after = cursor(query.after.as_deref(), "file-")?;
    // a purpose that no file has finds none; PostgreSQL takes no NUL
    let purpose = query.purpose.map(|purpose| purpose.replace('\0', ""));
    let limit = checked_limit(query.limit)?;
    let (files, more) = app.files(after, limit, purpose.as_deref(), order).await?;
    let files = files.into_iter().map(FileBody::from).collect();
    Ok(Json(Page::new(files, more, |file| &file.id)))
}

/// Read what is known of a file.
#[utoipa::path(
    get,
    path = "/admin/v1/files/{id}",
    operation_id = "get_file",
    tag = "files",
    params(("id" = String, Path, description = "The file's id.")),
    responses(
        (status = 200, description = "The file.", body = FileBody),
        (status = 404, description = "No such file.", body = ErrorBody),
    )
)]
pub(super) async fn get_file(
    State(app): State<Arc<App>>,
    IdPath(id): IdPath,
) -> Result<Json<FileBody>, ApiError> {
    Ok(Json(app.file(&id).await?.into()))
}

/// Read a file's content.
#[utoipa::path(
    get,
    path = "/admin/v1/files/{id}/content",
    operation_id = "get_file_content",
    tag = "files",
    params(("id" = String, Path, description = "The file's id.")),
    responses(
        (status = 200, description = "Its bytes, as they were sent.",
         content_type = "application/jsonl", body = String),
        (status = 404, description = "No such file.", body = ErrorBody),
    )
)]
pub(super) async fn get_file_content(
    State(app): State<Arc<App>>,
    IdPath(id): IdPath,
) -> Result<Response, ApiError> {
    let (info, path) = app.file_content(&id).await?;
    let file = std::fs::File::open(&path).map_err(|error| {
        tracing::error!("the content of {} cannot be read: {error}", info.id);
        ApiError::internal()
    })?;
    let pieces = stream::try_unfold(file, |mut file| async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE];
            file.read(&mut piece).map(|count| {
                piece.truncate(count);
                (Bytes::from(piece), file)
            })
        });
        let (piece, file) = read.await.map_err(std::io::Error::other)??;
        Ok::<_, std::io::Error>((!piece.is_empty()).then_some((piece, file)))
    });
    let kind = [(header::CONTENT_TYPE, "application/jsonl")];
    Ok((kind, Body::from_stream(pieces)).into_response())
}

/// Remove a file that no job needs any more.
#[utoipa::path(
    delete,
    path = "/admin/v1/files/{id}",
    operation_id = "delete_file",
    tag = "files",
    params(("id" = String, Path, description = "The file's id.")),
    responses(
        (status = 200, description = "It is gone.", body = FileDeleted),
        (status = 404, description = "No such file.", body = ErrorBody),
        (status = 409, description = "A job that is not over needs it.", body = ErrorBody),
    )
)]
pub(super) async fn delete_file(
    State(app): State<Arc<App>>,
    IdPath(id): IdPath,
) -> Result<Json<FileDeleted>, ApiError> {
    app.delete_file(&id).await?;
    Ok(Json(FileDeleted {
        id,
        object: "file",
        deleted: true,
    }))
}
