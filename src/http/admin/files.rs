//! `POST`, `GET /admin/v1/files`, `GET`, `DELETE /admin/v1/files/{id}` and its content.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::response::Response;

use super::content;
use super::file_shapes::{FileBody, FileDeleted, FilesQuery, UploadForm};
use super::page::{IdPath, Page, cursor, read};
use super::upload::Upload;
use crate::http::error::{ApiError, ErrorBody};
use crate::service::{App, FileContent};

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
    let after = cursor(query.after.as_deref(), "file-")?;
    let (limit, order) = (query.limit()?, query.order()?);
    let purpose = query.purpose();
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
        (status = 200, description = "Its bytes, as they were sent; of a job's result file a row \
         for each step.", content(
            (String = "application/jsonl"),
            (String = "text/csv"),
         )),
        (status = 404, description = "No such file.", body = ErrorBody),
    )
)]
pub(super) async fn get_file_content(
    State(app): State<Arc<App>>,
    IdPath(id): IdPath,
) -> Result<Response, ApiError> {
    match app.file_content(&id).await? {
        (info, FileContent::Kept(path)) => content::reply(&info.id, &path),
        (_, FileContent::Written(text)) => Ok(content::csv(text)),
    }
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
        (status = 409, description = "A job that is not over needs it, or it tells of a job.",
         body = ErrorBody),
    )
)]
pub(super) async fn delete_file(
    State(app): State<Arc<App>>,
    IdPath(id): IdPath,
) -> Result<Json<FileDeleted>, ApiError> {
    app.delete_file(&id).await?;
    Ok(Json(FileDeleted::of(id)))
}
