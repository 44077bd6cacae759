//! Uploaded files: what is known of each; their contents lie in the data folder.

use sqlx::FromRow;

use super::dialect::on_pool;
use super::{Store, StoreError};

/// A file as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct FileRow {
    /// Its id; later ones sort behind earlier ones.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// What it was uploaded for.
    pub purpose: String,
    /// Which rows it holds: `prompts`, `pairs` or `texts`.
    pub kind: String,
    /// Its size.
    pub bytes: i64,
    /// Its rows.
    pub line_count: i64,
    /// The blake3 of its bytes, in hexadecimal; `None` where an earlier version took it in.
    pub blake3: Option<String>,
    /// Seconds since 1970.
    pub created_at: i64,
}

const INSERT: &str = "INSERT INTO files (id, name, purpose, kind, bytes, line_count, blake3, \
    created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const FIND: &str = "SELECT id, name, purpose, kind, bytes, line_count, blake3, created_at \
    FROM files WHERE id = $1";
const EARLIER: &str = "SELECT id, name, purpose, kind, bytes, line_count, blake3, created_at \
    FROM files WHERE id < $1 AND ($2 = '' OR purpose = $2) ORDER BY id DESC LIMIT $3";
const LATER: &str = "SELECT id, name, purpose, kind, bytes, line_count, blake3, created_at \
    FROM files WHERE id > $1 AND ($2 = '' OR purpose = $2) ORDER BY id LIMIT $3";
const USER: &str = "SELECT id FROM jobs WHERE state IN ('queued', 'running', 'paused') \
    AND (training_file = $1 OR validation_file = $1) ORDER BY id LIMIT 1";
/// Behind every id.
const LAST: &str = "~";

impl Store {
    /// Adds a file whose content is on disk.
    ///
    /// # Errors
    /// The database fails.
    pub async fn add_file(&self, file: &FileRow) -> Result<(), StoreError> {
        on_pool!(self, pool => sqlx::query(INSERT)
            .bind(&file.id)
            .bind(&file.name)
            .bind(&file.purpose)
            .bind(&file.kind)
            .bind(file.bytes)
            .bind(file.line_count)
            .bind(&file.blake3)
            .bind(file.created_at)
            .execute(pool)
            .await
            .map(drop))?;
        Ok(())
    }

    /// The file of an id.
    ///
    /// # Errors
    /// The database fails.
    pub async fn file(&self, id: &str) -> Result<Option<FileRow>, StoreError> {
        let rows: Vec<FileRow> = on_pool!(self, pool => sqlx::query_as(FIND)
            .bind(id)
            .fetch_all(pool)
            .await)?;
        Ok(rows.into_iter().next())
    }

    /// Up to `limit` files of a purpose (empty is any), newest first, those older than `before`.
    ///
    /// # Errors
    /// The database fails.
    pub async fn files_before(
        &self,
        before: Option<&str>,
        purpose: &str,
        limit: u32,
    ) -> Result<Vec<FileRow>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(EARLIER)
            .bind(before.unwrap_or(LAST))
            .bind(purpose)
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await)?)
    }

    /// The same, oldest first, those newer than `after`.
    ///
    /// # Errors
    /// The database fails.
    pub async fn files_after(
        &self,
        after: Option<&str>,
        purpose: &str,
        limit: u32,
    ) -> Result<Vec<FileRow>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(LATER)
            .bind(after.unwrap_or(""))
            .bind(purpose)
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await)?)
    }

    /// A job that is not over and needs this file.
    ///
    /// # Errors
    /// The database fails.
    pub async fn user_of_file(&self, id: &str) -> Result<Option<String>, StoreError> {
        let jobs: Vec<String> = on_pool!(self, pool => sqlx::query_scalar(USER)
            .bind(id)
            .fetch_all(pool)
            .await)?;
        Ok(jobs.into_iter().next())
    }

    /// Removes a file's row; false where there is none.
    ///
    /// # Errors
    /// The database fails.
    pub async fn delete_file(&self, id: &str) -> Result<bool, StoreError> {
        let gone: u64 = on_pool!(self, pool => sqlx::query("DELETE FROM files WHERE id = $1")
            .bind(id)
            .execute(pool)
            .await
            .map(|done| done.rows_affected()))?;
        Ok(gone > 0)
    }
}
