//! Policies: which checkpoint of each is live, every change of that, and all checkpoints.

use sqlx::FromRow;

use super::dialect::on_pool;
use super::{Store, StoreError, Written};

/// A policy that was changed at least once.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct PolicyRow {
    /// Its id.
    pub id: String,
    /// 1 after the first change, one more with each further one.
    pub version: i64,
    /// The live checkpoint; `None` is what the model's folder holds, and nothing where it holds none
    /// of this id.
    pub live: Option<String>,
    /// A checkpoint that answers a share of the requests.
    pub canary: Option<String>,
    /// That share, 0 where there is none.
    pub canary_share: f64,
    /// Seconds since 1970.
    pub updated_at: i64,
}

/// One change of a policy.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct PolicyHistoryRow {
    /// The policy.
    pub policy: String,
    /// Its version after the change.
    pub version: i64,
    /// `promote`, `canary`, `rollback` or `remove`.
    pub action: String,
    /// The live checkpoint after the change.
    pub live: Option<String>,
    /// The live checkpoint before it.
    pub replaced: Option<String>,
    /// Seconds since 1970.
    pub at: i64,
}

/// A change that shall be made.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyChange {
    /// The policy.
    pub id: String,
    /// `promote`, `canary`, `rollback` or `remove`.
    pub action: &'static str,
    /// The live checkpoint after the change.
    pub live: Option<String>,
    /// The live checkpoint before it.
    pub replaced: Option<String>,
    /// The canary after the change, and its share.
    pub canary: Option<(String, f64)>,
    /// Seconds since 1970, now.
    pub at: i64,
}

/// A checkpoint that a policy has or could have.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct PolicyCheckpointRow {
    /// The policy.
    pub policy: String,
    /// The checkpoint's content, as a hash.
    pub id: String,
    /// `candidate`, `live` or `retired`.
    pub stage: String,
    /// Where it came from, such as a job's id.
    pub origin: String,
    /// What was measured of it, JSON.
    pub evaluation: String,
    /// Size of its files.
    pub bytes: i64,
    /// Seconds since 1970.
    pub created_at: i64,
}

const POLICIES: &str = "SELECT id, version, live, canary, canary_share, updated_at \
    FROM policies ORDER BY id";
const POLICY: &str = "SELECT id, version, live, canary, canary_share, updated_at \
    FROM policies WHERE id = $1";
const HISTORY: &str = "SELECT policy, version, action, live, replaced, at \
    FROM policy_history WHERE policy = $1 ORDER BY version DESC";
const FIRST_CHANGE: &str = "INSERT INTO policies \
    (id, version, live, canary, canary_share, updated_at) VALUES ($1, 1, $2, $3, $4, $5) \
    ON CONFLICT (id) DO NOTHING RETURNING version";
const CHANGE: &str = "UPDATE policies SET live = $2, canary = $3, canary_share = $4, \
    updated_at = $5, version = version + 1 WHERE id = $1 AND version = $6 RETURNING version";
const RECORD: &str = "INSERT INTO policy_history (policy, version, action, live, replaced, at) \
    VALUES ($1, $2, $3, $4, $5, $6)";
const RETIRE: &str = "UPDATE policy_checkpoints SET stage = 'retired' \
    WHERE policy = $1 AND stage = 'live'";
const SET_LIVE: &str = "UPDATE policy_checkpoints SET stage = 'live' WHERE policy = $1 AND id = $2";
const CHECKPOINTS: &str = "SELECT policy, id, stage, origin, evaluation, bytes, created_at \
    FROM policy_checkpoints ORDER BY policy, created_at DESC, id";
const ADD: &str = "INSERT INTO policy_checkpoints \
    (policy, id, stage, origin, evaluation, bytes, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
    ON CONFLICT (policy, id) DO NOTHING";

impl Store {
    /// Every policy that was ever changed, by id.
    ///
    /// # Errors
    /// The database fails.
    pub async fn policies(&self) -> Result<Vec<PolicyRow>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(POLICIES).fetch_all(pool).await)?)
    }

    /// The policy of an id, where it was ever changed.
    ///
    /// # Errors
    /// The database fails.
    pub async fn policy(&self, id: &str) -> Result<Option<PolicyRow>, StoreError> {
        let rows: Vec<PolicyRow> = on_pool!(self, pool => sqlx::query_as(POLICY)
            .bind(id)
            .fetch_all(pool)
            .await)?;
        Ok(rows.into_iter().next())
    }

    /// Every change of a policy, latest first.
    ///
    /// # Errors
    /// The database fails.
    pub async fn policy_history(&self, id: &str) -> Result<Vec<PolicyHistoryRow>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(HISTORY)
            .bind(id)
            .fetch_all(pool)
            .await)?)
    }

    /// Changes a policy that is of version `expected`, 0 where it never was changed; returns its
    /// new version. The stages of its checkpoints follow.
    ///
    /// # Errors
    /// The database fails.
    pub async fn change_policy(
        &self,
        change: &PolicyChange,
        expected: i64,
    ) -> Result<Written<i64>, StoreError> {
        let statement = match expected {
            0 => FIRST_CHANGE,
            _ => CHANGE,
        };
        let canary = change.canary.as_ref();
        let version = on_pool!(self, pool => {
            let mut work = pool.begin().await?;
            // the write comes first: it takes SQLite's only write lock, so nothing read is stale
            let query = sqlx::query_scalar(statement)
                .bind(&change.id)
                .bind(&change.live)
                .bind(canary.map(|(id, _)| id))
                .bind(canary.map_or(0.0, |(_, share)| *share))
                .bind(change.at);
            let query = match expected {
                0 => query,
                _ => query.bind(expected),
            };
            let versions: Vec<i64> = query.fetch_all(&mut *work).await?;
            match versions.first() {
                None => {
                    work.rollback().await?;
                    None
                }
                Some(version) => {
                    sqlx::query(RECORD)
                        .bind(&change.id)
                        .bind(version)
                        .bind(change.action)
                        .bind(&change.live)
                        .bind(&change.replaced)
                        .bind(change.at)
                        .execute(&mut *work)
                        .await?;
                    sqlx::query(RETIRE).bind(&change.id).execute(&mut *work).await?;
                    sqlx::query(SET_LIVE)
                        .bind(&change.id)
                        .bind(&change.live)
                        .execute(&mut *work)
                        .await?;
                    work.commit().await?;
                    Some(*version)
                }
            }
        });
        match version {
            Some(version) => Ok(Written::Done(version)),
            None => Ok(Written::Other(
                self.policy(&change.id).await?.map(|row| row.version),
            )),
        }
    }

    /// Every checkpoint there is, by policy, newest first.
    ///
    /// # Errors
    /// The database fails.
    pub async fn policy_checkpoints(&self) -> Result<Vec<PolicyCheckpointRow>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(CHECKPOINTS).fetch_all(pool).await)?)
    }

    /// Adds a checkpoint; one that is there already stays as it is.
    ///
    /// # Errors
    /// The database fails.
    pub async fn add_policy_checkpoint(&self, row: &PolicyCheckpointRow) -> Result<(), StoreError> {
        on_pool!(self, pool => sqlx::query(ADD)
            .bind(&row.policy)
            .bind(&row.id)
            .bind(&row.stage)
            .bind(&row.origin)
            .bind(&row.evaluation)
            .bind(row.bytes)
            .bind(row.created_at)
            .execute(pool)
            .await
            .map(drop))?;
        Ok(())
    }

    /// Writes what was measured of a checkpoint.
    ///
    /// # Errors
    /// The database fails.
    pub async fn set_evaluation(
        &self,
        policy: &str,
        id: &str,
        evaluation: &str,
    ) -> Result<(), StoreError> {
        let set = "UPDATE policy_checkpoints SET evaluation = $3 WHERE policy = $1 AND id = $2";
        on_pool!(self, pool => sqlx::query(set)
            .bind(policy)
            .bind(id)
            .bind(evaluation)
            .execute(pool)
            .await
            .map(drop))?;
        Ok(())
    }

    /// Forgets a checkpoint that is not live; false where it is or was not there.
    ///
    /// # Errors
    /// The database fails.
    pub async fn remove_policy_checkpoint(
        &self,
        policy: &str,
        id: &str,
    ) -> Result<bool, StoreError> {
        let delete = "DELETE FROM policy_checkpoints \
            WHERE policy = $1 AND id = $2 AND stage <> 'live'";
        let gone: u64 = on_pool!(self, pool => sqlx::query(delete)
            .bind(policy)
            .bind(id)
            .execute(pool)
            .await
            .map(|done| done.rows_affected()))?;
        Ok(gone > 0)
    }
}
