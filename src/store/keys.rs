//! API keys: a digest of each secret, never the secret.

use sqlx::FromRow;

use super::dialect::on_pool;
use super::{Store, StoreError};

/// A key as it is stored. Rows are never removed: a server that once had keys stays closed.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct KeyRow {
    /// Names the key without telling its secret.
    pub id: String,
    /// blake3 of the secret.
    pub digest: Vec<u8>,
    /// Who has it.
    pub name: String,
    /// Scope names, joined by spaces.
    pub scopes: String,
    /// The profile of requests that name no weights.
    pub default_profile: Option<String>,
    /// `[[objective, least, most], ...]`, JSON.
    pub weight_ranges: String,
    /// `None` is unlimited.
    pub requests_per_minute: Option<i64>,
    /// `None` is unlimited.
    pub tokens_per_minute: Option<i64>,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Seconds since 1970, first second in which it is not valid; `None` is never.
    pub expires_at: Option<i64>,
    /// Seconds since 1970; `None` is not revoked.
    pub revoked_at: Option<i64>,
}

const BY_DIGEST: &str = "SELECT id, digest, name, scopes, default_profile, weight_ranges, \
    requests_per_minute, tokens_per_minute, created_at, expires_at, revoked_at \
    FROM api_keys WHERE digest = $1";
const LIST: &str = "SELECT id, digest, name, scopes, default_profile, weight_ranges, \
    requests_per_minute, tokens_per_minute, created_at, expires_at, revoked_at \
    FROM api_keys ORDER BY created_at, id";
const INSERT: &str = "INSERT INTO api_keys (id, digest, name, scopes, default_profile, \
    weight_ranges, requests_per_minute, tokens_per_minute, created_at, expires_at, revoked_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

impl Store {
    /// The key of a digest, revoked and expired ones too.
    ///
    /// # Errors
    /// The database fails.
    pub async fn key_of(&self, digest: &[u8; 32]) -> Result<Option<KeyRow>, StoreError> {
        let rows: Vec<KeyRow> = on_pool!(self, pool => sqlx::query_as(BY_DIGEST)
            .bind(digest.as_slice())
            .fetch_all(pool)
            .await)?;
        Ok(rows.into_iter().next())
    }

    /// Every key there ever was, oldest first.
    ///
    /// # Errors
    /// The database fails.
    pub async fn keys(&self) -> Result<Vec<KeyRow>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(LIST).fetch_all(pool).await)?)
    }

    /// Whether a key was ever made.
    ///
    /// # Errors
    /// The database fails.
    pub async fn has_keys(&self) -> Result<bool, StoreError> {
        let one: Vec<String> = on_pool!(self, pool => {
            sqlx::query_scalar("SELECT id FROM api_keys LIMIT 1").fetch_all(pool).await
        })?;
        Ok(!one.is_empty())
    }

    /// Adds a key.
    ///
    /// # Errors
    /// The database fails.
    pub async fn add_key(&self, key: &KeyRow) -> Result<(), StoreError> {
        on_pool!(self, pool => sqlx::query(INSERT)
            .bind(&key.id)
            .bind(&key.digest)
            .bind(&key.name)
            .bind(&key.scopes)
            .bind(&key.default_profile)
            .bind(&key.weight_ranges)
            .bind(key.requests_per_minute)
            .bind(key.tokens_per_minute)
            .bind(key.created_at)
            .bind(key.expires_at)
            .bind(key.revoked_at)
            .execute(pool)
            .await
            .map(drop))?;
        Ok(())
    }

    /// Revokes a key for good; false where no key has this id. A second time changes nothing.
    ///
    /// # Errors
    /// The database fails.
    pub async fn revoke_key(&self, id: &str, at: i64) -> Result<bool, StoreError> {
        let revoke = "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $2) WHERE id = $1";
        let found: u64 = on_pool!(self, pool => sqlx::query(revoke)
            .bind(id)
            .bind(at)
            .execute(pool)
            .await
            .map(|done| done.rows_affected()))?;
        Ok(found > 0)
    }
}
