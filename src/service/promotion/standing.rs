//! How a policy stands: what is live, what could be, and what was.

use serde_json::Value;

use super::error::PromotionError;
use crate::registry::live_before;
use crate::service::app::App;
use crate::store::{PolicyCheckpointRow, PolicyHistoryRow, PolicyRow};

/// Changes that are told.
const TOLD: usize = 20;

/// One policy as an operator sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyStanding {
    /// Its id.
    pub id: String,
    /// How often it was changed; what a further change must expect.
    pub version: i64,
    /// The version that answers, as replies carry it.
    pub policy_version: String,
    /// The checkpoint that answers; `None` is what the model's folder holds.
    pub checkpoint: Option<String>,
    /// What a rollback would make live; `None` inside is the model's folder.
    pub before: Option<Option<String>>,
    /// A checkpoint that answers a share of the requests.
    pub canary: Option<CanaryStanding>,
    /// Why something else answers than was promoted.
    pub problem: Option<String>,
    /// When it was changed last, in seconds since 1970.
    pub updated_at: Option<i64>,
    /// Its checkpoints, newest first.
    pub checkpoints: Vec<CheckpointStanding>,
    /// Its latest changes, latest first.
    pub history: Vec<PolicyHistoryRow>,
}

/// A checkpoint that answers a share of the requests.
#[derive(Debug, Clone, PartialEq)]
pub struct CanaryStanding {
    /// Its id.
    pub checkpoint: String,
    /// Its version, as replies carry it.
    pub policy_version: String,
    /// Which share.
    pub share: f64,
}

/// A checkpoint of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointStanding {
    /// Its id.
    pub id: String,
    /// `candidate`, `live` or `retired`.
    pub stage: String,
    /// Where it came from.
    pub origin: String,
    /// What was measured of it.
    pub evaluation: Value,
    /// Size of its files.
    pub bytes: i64,
    /// Seconds since 1970.
    pub created_at: i64,
}

impl App {
    /// Every policy that can be changed: all models but the base.
    ///
    /// # Errors
    /// The server has no registry, or it cannot be read.
    pub async fn policy_standings(&self) -> Result<Vec<PolicyStanding>, PromotionError> {
        let slots = self.live.now();
        let mut standings = Vec::new();
        for slot in slots.iter().skip(1) {
            standings.push(self.policy_standing(&slot.id).await?);
        }
        Ok(standings)
    }

    /// How one policy stands.
    ///
    /// # Errors
    /// There is none, or the registry cannot be read.
    pub async fn policy_standing(&self, id: &str) -> Result<PolicyStanding, PromotionError> {
        let registry = self.registry()?;
        let slots = self.live.now();
        let slot = slots.iter().skip(1).find(|slot| slot.id == id);
        let slot = slot.ok_or_else(|| PromotionError::UnknownPolicy(id.to_owned()))?;
        let row: Option<PolicyRow> = registry.policy(id).await?;
        let mut history = registry.history(id).await?;
        let all = registry.checkpoints().await?.into_iter();
        let live = row.as_ref().and_then(|row| row.live.as_deref());
        let before = live_before(&history, live);
        history.truncate(TOLD);
        Ok(PolicyStanding {
            id: id.to_owned(),
            version: row.as_ref().map_or(0, |row| row.version),
            policy_version: slot.live.policy.version.clone(),
            checkpoint: slot.live.checkpoint.as_ref().map(ToString::to_string),
            before: before.filter(|before| before.is_some() || slot.own.is_some()),
            canary: slot.canary.as_ref().and_then(|(served, share)| {
                Some(CanaryStanding {
                    checkpoint: served.checkpoint.as_ref()?.to_string(),
                    policy_version: served.policy.version.clone(),
                    share: *share,
                })
            }),
            problem: slot.problem.clone(),
            updated_at: row.as_ref().map(|row| row.updated_at),
            checkpoints: all
                .filter(|row| row.policy == id)
                .map(CheckpointStanding::from)
                .collect(),
            history,
        })
    }
}

impl From<PolicyCheckpointRow> for CheckpointStanding {
    fn from(row: PolicyCheckpointRow) -> Self {
        Self {
            id: row.id,
            stage: row.stage,
            origin: row.origin,
            evaluation: serde_json::from_str(&row.evaluation).unwrap_or_default(),
            bytes: row.bytes,
            created_at: row.created_at,
        }
    }
}
