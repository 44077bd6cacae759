//! Profiles: named weights, each change a new version.

use sqlx::FromRow;

use super::dialect::on_pool;
use super::{Store, StoreError};

/// A profile as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ProfileRow {
    /// Its id.
    pub id: String,
    /// Raw weights by objective, a JSON object in the order they were written.
    pub weights: String,
    /// What it is for.
    pub description: String,
    /// 1 when it is new, one more with each change.
    pub version: i64,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Seconds since 1970.
    pub updated_at: i64,
    /// How many comparisons it has learned from since its weights were last set by hand.
    pub comparisons: i64,
    /// The weights that were last set by hand, if that is known.
    pub stated_weights: Option<String>,
}

/// What a profile shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileDraft {
    /// Its id.
    pub id: String,
    /// Raw weights by objective, a JSON object.
    pub weights: String,
    /// What it is for.
    pub description: String,
    /// Seconds since 1970, now.
    pub at: i64,
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Anything or nothing.
    Any,
    /// Nothing.
    Absent,
    /// This version.
    Version(i64),
}

/// How a write went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written<T> {
    /// It is on disk.
    Done(T),
    /// Another version is there, or nothing (`None`).
    Other(Option<i64>),
}

const FIND: &str = "SELECT id, weights, description, version, created_at, updated_at, \
    stated_weights, (SELECT COUNT(*) FROM comparisons WHERE profile = profiles.id \
    AND profile_version >= profiles.stated_version) AS comparisons \
    FROM profiles WHERE id = $1";
const LIST: &str = "SELECT id, weights, description, version, created_at, updated_at, \
    stated_weights, (SELECT COUNT(*) FROM comparisons WHERE profile = profiles.id \
    AND profile_version >= profiles.stated_version) AS comparisons \
    FROM profiles WHERE id > $1 ORDER BY id LIMIT $2";
// Weights that are written as they were are not set anew: what was learned goes on to count.
const UPSERT: &str = "INSERT INTO profiles \
    (id, weights, description, version, created_at, updated_at, stated_weights, stated_version) \
    VALUES ($1, $2, $3, 1, $4, $4, $2, 1) \
    ON CONFLICT (id) DO UPDATE SET \
    stated_version = CASE profiles.weights WHEN excluded.weights THEN profiles.stated_version \
    ELSE profiles.version + 1 END, \
    stated_weights = CASE profiles.weights WHEN excluded.weights THEN profiles.stated_weights \
    ELSE excluded.weights END, weights = excluded.weights, \
    description = excluded.description, version = profiles.version + 1, \
    updated_at = excluded.updated_at RETURNING version";
const INSERT: &str = "INSERT INTO profiles \
    (id, weights, description, version, created_at, updated_at, stated_weights, stated_version) \
    VALUES ($1, $2, $3, 1, $4, $4, $2, 1) \
    ON CONFLICT (id) DO NOTHING RETURNING version";
const UPDATE: &str = "UPDATE profiles SET \
    stated_version = CASE weights WHEN $2 THEN stated_version ELSE version + 1 END, \
    stated_weights = CASE weights WHEN $2 THEN stated_weights ELSE $2 END, \
    weights = $2, description = $3, updated_at = $4, \
    version = version + 1 WHERE id = $1 AND version = $5 RETURNING version";

impl Store {
    /// The profile of an id.
    ///
    /// # Errors
    /// The database fails.
    pub async fn profile(&self, id: &str) -> Result<Option<ProfileRow>, StoreError> {
        let rows: Vec<ProfileRow> = on_pool!(self, pool => sqlx::query_as(FIND)
            .bind(id)
            .fetch_all(pool)
            .await)?;
        Ok(rows.into_iter().next())
    }

    /// Up to `limit` profiles in the order of their ids, those after `after`.
    ///
    /// # Errors
    /// The database fails.
    pub async fn profiles(&self, after: &str, limit: u32) -> Result<Vec<ProfileRow>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(LIST)
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await)?)
    }

    /// Makes or changes a profile; returns its new version, 1 where it is new.
    ///
    /// # Errors
    /// The database fails.
    pub async fn put_profile(
        &self,
        draft: &ProfileDraft,
        expected: Expected,
    ) -> Result<Written<i64>, StoreError> {
        let versions: Vec<i64> = match expected {
            Expected::Any => self.write_profile(UPSERT, draft).await?,
            Expected::Absent => self.write_profile(INSERT, draft).await?,
            Expected::Version(version) => on_pool!(self, pool => sqlx::query_scalar(UPDATE)
                .bind(&draft.id)
                .bind(&draft.weights)
                .bind(&draft.description)
                .bind(draft.at)
                .bind(version)
                .fetch_all(pool)
                .await)?,
        };
        match versions.first() {
            Some(version) => Ok(Written::Done(*version)),
            None => Ok(Written::Other(self.version_of(&draft.id).await?)),
        }
    }

    async fn write_profile(
        &self,
        statement: &'static str,
        draft: &ProfileDraft,
    ) -> Result<Vec<i64>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_scalar(statement)
            .bind(&draft.id)
            .bind(&draft.weights)
            .bind(&draft.description)
            .bind(draft.at)
            .fetch_all(pool)
            .await)?)
    }

    /// Removes a profile and the comparisons it learned from.
    ///
    /// # Errors
    /// The database fails.
    pub async fn delete_profile(
        &self,
        id: &str,
        expected: Option<i64>,
    ) -> Result<Written<()>, StoreError> {
        let delete = "DELETE FROM profiles WHERE id = $1 AND ($2 IS NULL OR version = $2)";
        let gone: u64 = on_pool!(self, pool => sqlx::query(delete)
            .bind(id)
            .bind(expected)
            .execute(pool)
            .await
            .map(|done| done.rows_affected()))?;
        match gone {
            0 => Ok(Written::Other(self.version_of(id).await?)),
            _ => Ok(Written::Done(())),
        }
    }

    async fn version_of(&self, id: &str) -> Result<Option<i64>, StoreError> {
        Ok(self.profile(id).await?.map(|profile| profile.version))
    }
}
