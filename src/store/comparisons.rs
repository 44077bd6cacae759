//! Comparisons: which of two answers a profile's user preferred, as the rewards of both.

use sqlx::FromRow;

use super::dialect::on_pool;
use super::{ProfileDraft, Store, StoreError};

/// A comparison as it is stored. Texts are not kept: the rewards are all that weights are
/// learned from.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ComparisonRow {
    /// Its id; later ones sort behind earlier ones.
    pub id: String,
    /// Whose choice it was.
    pub profile: String,
    /// The model whose objectives and reward models scored it.
    pub model: String,
    /// That model's version then.
    pub policy_version: String,
    /// Rewards of the preferred answer by objective, a JSON object.
    pub rewards_chosen: String,
    /// Rewards of the other answer.
    pub rewards_rejected: String,
    /// Seconds since 1970.
    pub created_at: i64,
}

const LATEST: &str = "SELECT id, profile, model, policy_version, rewards_chosen, \
    rewards_rejected, created_at FROM comparisons WHERE profile = $1 AND model = $2 \
    AND profile_version >= (SELECT stated_version FROM profiles WHERE id = $1) \
    ORDER BY id DESC LIMIT $3";
const LEARN: &str = "UPDATE profiles SET weights = $2, updated_at = $3, version = version + 1 \
    WHERE id = $1 AND version = $4";
const INSERT: &str = "INSERT INTO comparisons (id, profile, model, policy_version, \
    rewards_chosen, rewards_rejected, created_at, profile_version) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

impl Store {
    /// The latest `limit` comparisons of a profile under one model since its weights were last set by
    /// hand, latest first.
    ///
    /// # Errors
    /// The database fails.
    pub async fn comparisons(
        &self,
        profile: &str,
        model: &str,
        limit: u32,
    ) -> Result<Vec<ComparisonRow>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(LATEST)
            .bind(profile)
            .bind(model)
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await)?)
    }

    /// Adds a comparison and the weights learned from it, both or neither; false where the
    /// profile is no longer of version `version`.
    ///
    /// # Errors
    /// The database fails.
    pub async fn learn(
        &self,
        comparison: &ComparisonRow,
        learned: &ProfileDraft,
        version: i64,
    ) -> Result<bool, StoreError> {
        on_pool!(self, pool => {
            let mut work = pool.begin().await?;
            // the write comes first: it takes SQLite's only write lock, so nothing read is stale
            let changed = sqlx::query(LEARN)
                .bind(&learned.id)
                .bind(&learned.weights)
                .bind(learned.at)
                .bind(version)
                .execute(&mut *work)
                .await?
                .rows_affected();
            if changed == 0 {
                work.rollback().await?;
                return Ok(false);
            }
            sqlx::query(INSERT)
                .bind(&comparison.id)
                .bind(&comparison.profile)
                .bind(&comparison.model)
                .bind(&comparison.policy_version)
                .bind(&comparison.rewards_chosen)
                .bind(&comparison.rewards_rejected)
                .bind(comparison.created_at)
                .bind(version + 1)
                .execute(&mut *work)
                .await?;
            work.commit().await?;
        });
        Ok(true)
    }
}
