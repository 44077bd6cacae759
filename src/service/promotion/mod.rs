//! Changes which version of a policy answers: gate, load beside, swap, roll back, remove.
//!
//! The store decides first, by compare-and-swap, and memory follows; a process that dies between
//! the two starts with what the store says. Running requests keep the version they began with.

mod candidate;
mod error;
mod evaluation;
mod gate;
mod removal;
mod restore;
mod standing;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::app::App;
use super::error::chain;
use super::folder::is_model_id;
use super::live::{Served, Slot};
use crate::registry::{JobContent, Registry, live_before};
use crate::store::{PolicyChange, Written};

pub use error::PromotionError;
pub use evaluation::FreshEvaluation;
pub use gate::{GateBaseline, GateFinding, GateSettings};
pub use standing::{CanaryStanding, CheckpointStanding, PolicyStanding};

/// Most prompts of a fresh evaluation.
const MAX_PROMPTS: usize = 512;
/// Most points per edge of its weight grid.
const MAX_GRID: usize = 21;

/// A checkpoint that shall answer.
#[derive(Debug, Clone)]
pub struct Promotion {
    /// The policy whose next version it is; an id that is not there yet makes a new policy.
    pub policy: String,
    /// The request's field that names it.
    pub named_in: &'static str,
    /// Which one.
    pub checkpoint: CheckpointSource,
    /// The version that the policy has, 0 where it was never changed.
    pub expected_version: i64,
    /// Let it answer this share of the requests instead of all.
    pub canary: Option<f64>,
    /// What it must have been measured at.
    pub gate: GateSettings,
    /// Measure it now instead of believing its manifest.
    pub evaluation: Option<FreshEvaluation>,
}

/// Where a checkpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointSource {
    /// In the registry, by its id.
    Id(String),
    /// In a folder of this machine, from which it is copied, and where that came from.
    Folder {
        /// The folder.
        path: PathBuf,
        /// For example a job's id.
        origin: String,
        /// What it must hold, where a job wrote it; with a bucket it need not be on this machine.
        content: Option<JobContent>,
    },
}

/// A promotion that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Promoted {
    /// How the policy stands now.
    pub standing: PolicyStanding,
    /// What the gate found.
    pub findings: Vec<GateFinding>,
}

impl App {
    /// Lets a checkpoint answer, all requests or a share.
    ///
    /// # Errors
    /// It is refused, or something failed; what was live still is.
    pub async fn promote(self: &Arc<Self>, asked: Promotion) -> Result<Promoted, PromotionError> {
        let registry = self.registry()?;
        self.follow().await?;
        self.check_asked(&asked)?;
        let row = registry.policy(&asked.policy).await?;
        let found = row.as_ref().map_or(0, |row| row.version);
        check_version(&asked.policy, found, asked.expected_version)?;
        let live = row.and_then(|row| row.live);
        let id = self.find(registry, &asked).await?;
        if live.as_deref() == Some(id.as_str()) {
            return Err(PromotionError::LiveAlready { id: id.to_string() });
        }
        let candidate = self.load_beside(registry, &asked.policy, &id).await?;
        let findings = self.examine(registry, &asked, &id, &candidate).await?;
        self.answers_at_all(&candidate).await?;
        let change = PolicyChange {
            id: asked.policy.clone(),
            action: match asked.canary {
                Some(_) => "canary",
                None => "promote",
            },
            live: match asked.canary {
                Some(_) => live.clone(),
                None => Some(id.to_string()),
            },
            replaced: live,
            canary: asked.canary.map(|share| (id.to_string(), share)),
            at: now(),
        };
        // One change at a time, so that memory follows the store in its order. What came before may
        // take minutes and holds nobody up: whoever changed the policy meanwhile changed its
        // version too, and then this change is refused.
        let _turn = self.changing.lock().await;
        let version = self
            .decide(registry, &change, asked.expected_version)
            .await?;
        let served = Served {
            policy: candidate,
            checkpoint: Some(id),
        };
        self.put_live(&change, version, served);
        self.clear_old(registry, &asked.policy).await;
        let standing = self.policy_standing(&asked.policy).await?;
        Ok(Promoted { standing, findings })
    }

    /// Ends a canary; where there is none, makes the version before the live one live again. One
    /// that is damaged is passed over for the one before it.
    ///
    /// # Errors
    /// There is nothing to go back to, or something failed; what was live still is.
    pub async fn roll_back(
        self: &Arc<Self>,
        policy: Option<&str>,
        expected_version: i64,
    ) -> Result<PolicyStanding, PromotionError> {
        let _turn = self.changing.lock().await;
        let registry = self.registry()?;
        self.catch_up(registry).await?;
        let default = self.default_policy();
        let policy = policy.unwrap_or(&default.id);
        let slots = self.live.now();
        let slot = slots.iter().skip(1).find(|slot| slot.id == policy);
        let slot = slot.ok_or_else(|| PromotionError::UnknownPolicy(policy.to_owned()))?;
        let row = registry.policy(policy).await?;
        let found = row.as_ref().map_or(0, |row| row.version);
        check_version(policy, found, expected_version)?;
        let live = row.as_ref().and_then(|row| row.live.clone());
        let is_canary = row.is_some_and(|row| row.canary.is_some());
        let changed = match is_canary {
            true => Slot {
                canary: None,
                ..slot.clone()
            },
            false => self.slot_before(registry, slot, live.as_deref()).await?,
        };
        let change = PolicyChange {
            id: policy.to_owned(),
            action: "rollback",
            live: match is_canary {
                true => live.clone(),
                false => changed.live.checkpoint.as_ref().map(ToString::to_string),
            },
            replaced: live,
            canary: None,
            at: now(),
        };
        let version = self.decide(registry, &change, expected_version).await?;
        self.live.put(Slot { version, ..changed });
        self.policy_standing(policy).await
    }

    pub(super) fn registry(&self) -> Result<&Registry, PromotionError> {
        self.registry.as_ref().ok_or(PromotionError::NoRegistry)
    }

    fn check_asked(&self, asked: &Promotion) -> Result<(), PromotionError> {
        let invalid = |param, problem: String| Err(PromotionError::Invalid { param, problem });
        let shown = super::app::clipped(&asked.policy);
        if !is_model_id(&asked.policy) {
            let problem = format!(
                "must be 1 to 64 letters, digits, `.`, `_` and `-`, of which the first is a letter \
                 or a digit, and not `default`, got `{shown}`"
            );
            return invalid(asked.named_in, problem);
        }
        if self.live.now()[0].id == asked.policy {
            let problem = format!("must be the id of a policy, and `{shown}` is the base model");
            return invalid(asked.named_in, problem);
        }
        if let Some(share) = asked.canary
            && !(share > 0.0 && share < 1.0)
        {
            return invalid("canary", format!("must be between 0 and 1, got {share}"));
        }
        let gate = &asked.gate;
        let bounds = gate.min_spearman.iter().chain(&gate.max_kl);
        if bounds
            .chain([&gate.max_score_loss])
            .any(|bound| !bound.is_finite())
        {
            return invalid("gate", "must hold finite numbers".to_owned());
        }
        if let Some(evaluation) = &asked.evaluation {
            let (prompts, grid) = (evaluation.prompts.len(), evaluation.grid);
            if !(1..=MAX_PROMPTS).contains(&prompts) || !(2..=MAX_GRID).contains(&grid) {
                let problem = format!(
                    "must have 1 to {MAX_PROMPTS} prompts and a `grid` of 2 to {MAX_GRID}, got \
                     {prompts} and {grid}"
                );
                return invalid("evaluation", problem);
            }
        }
        let exists = self.live.now().iter().any(|slot| slot.id == asked.policy);
        match asked.canary {
            Some(_) if !exists => {
                let problem = "needs a live version beside it; promote the first one wholly";
                invalid("canary", problem.to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Writes a change, where nobody else was quicker; the policy's new version.
    async fn decide(
        &self,
        registry: &Registry,
        change: &PolicyChange,
        expected: i64,
    ) -> Result<i64, PromotionError> {
        match registry.change(change, expected).await? {
            Written::Done(version) => {
                let without = match change.action {
                    "remove" => "nothing",
                    _ => "the model's folder",
                };
                let live = change.live.as_deref().unwrap_or(without);
                let (policy, action) = (&change.id, change.action);
                tracing::info!(policy, action, version, live, "the policy was changed");
                Ok(version)
            }
            Written::Other(found) => Err(PromotionError::VersionMismatch {
                policy: change.id.clone(),
                found: found.unwrap_or(0),
                expected,
            }),
        }
    }

    fn put_live(&self, change: &PolicyChange, version: i64, served: Served) {
        let slots = self.live.now();
        let old = slots.iter().find(|slot| slot.id == change.id);
        let changed = match (old, &change.canary) {
            (Some(old), Some((_, share))) => Slot {
                version,
                canary: Some((served, *share)),
                ..old.clone()
            },
            (old, _) => Slot {
                id: change.id.clone(),
                version,
                live: served,
                canary: None,
                own: old.and_then(|old| old.own.clone()),
                problem: None,
            },
        };
        self.live.put(changed);
    }

    /// The slot as it was before `live` was promoted.
    async fn slot_before(
        self: &Arc<Self>,
        registry: &Registry,
        slot: &Slot,
        live: Option<&str>,
    ) -> Result<Slot, PromotionError> {
        let history = registry.history(&slot.id).await?;
        let nothing = || PromotionError::NothingBefore {
            policy: slot.id.clone(),
        };
        let target = live_before(&history, live).ok_or_else(nothing)?;
        let (served, problem) = self
            .first_sound(registry, slot.own.as_ref(), &history, target)
            .await;
        Ok(Slot {
            id: slot.id.clone(),
            version: slot.version,
            live: served.ok_or_else(nothing)?,
            canary: None,
            own: slot.own.clone(),
            problem,
        })
    }

    /// Forgets what nothing needs any more. The change is made; a failure is for the log.
    async fn clear_old(&self, registry: &Registry, policy: &str) {
        match registry.clear_old(policy).await {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tracing::info!(policy, ?removed, "old checkpoints were removed"),
            Err(error) => {
                tracing::warn!(policy, "old checkpoints stay: {}", chain(&error));
            }
        }
    }
}

fn check_version(policy: &str, found: i64, expected: i64) -> Result<(), PromotionError> {
    match found == expected {
        true => Ok(()),
        false => Err(PromotionError::VersionMismatch {
            policy: policy.to_owned(),
            found,
            expected,
        }),
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
