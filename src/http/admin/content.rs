//! A file's content as the body of a reply, read as the client takes it.

use std::io::Read;
use std::path::Path;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;

use crate::http::error::ApiError;

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// What a job tells.
pub(super) fn csv(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response()
}

/// The bytes at `path`, which are those of the file `id`.
pub(super) fn reply(id: &str, path: &Path) -> Result<Response, ApiError> {
    let file = std::fs::File::open(path).map_err(|error| {
        tracing::error!("the content of {id} cannot be read: {error}");
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
