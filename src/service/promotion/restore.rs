//! Brings what the store says is live into memory, when a server starts and when another server
//! changed it.
//!
//! A checkpoint that is damaged or gone does not keep the server from starting: the one before it
//! answers, and the standing says why.

use std::path::Path;
use std::sync::Arc;

use super::PromotionError;
use crate::registry::{CheckpointId, Registry, live_before};
use crate::service::app::App;
use crate::service::error::chain;
use crate::service::live::{Served, Slot};
use crate::service::policy::LivePolicy;
use crate::storage::Bucket;
use crate::store::{PolicyHistoryRow, PolicyRow, Store};

impl App {
    /// The same with a registry below `data_dir`, and with what was promoted there.
    ///
    /// # Errors
    /// The registry cannot be opened or read.
    pub async fn with_registry(
        self,
        data_dir: &Path,
        store: Store,
    ) -> Result<Arc<Self>, PromotionError> {
        self.with_registry_in(data_dir, store, None).await
    }

    /// The same with a bucket that has every checkpoint too.
    ///
    /// # Errors
    /// The registry cannot be opened or read.
    pub async fn with_registry_in(
        mut self,
        data_dir: &Path,
        store: Store,
        bucket: Option<Bucket>,
    ) -> Result<Arc<Self>, PromotionError> {
        let registry = Registry::open(data_dir, store).await?;
        self.registry = Some(registry.with_bucket(bucket));
        let app = Arc::new(self);
        app.follow().await?;
        Ok(app)
    }

    /// Takes over what changed in the store since: at the start everything, later what another
    /// server with the same store did.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub async fn follow(self: &Arc<Self>) -> Result<(), PromotionError> {
        let _turn = self.changing.lock().await;
        self.catch_up(self.registry()?).await
    }

    /// The same for whoever holds the turn.
    pub(super) async fn catch_up(
        self: &Arc<Self>,
        registry: &Registry,
    ) -> Result<(), PromotionError> {
        for row in registry.policies().await? {
            let slots = self.live.now();
            let known = slots.iter().find(|slot| slot.id == row.id);
            if row.live.is_none() && known.is_none_or(|slot| slot.own.is_none()) {
                if self.live.remove(&row.id) {
                    tracing::info!(policy = row.id, "the policy was removed elsewhere");
                }
                continue;
            }
            if known.is_none_or(|slot| slot.version != row.version) {
                self.restore(registry, &row).await?;
            }
        }
        Ok(())
    }

    async fn restore(
        self: &Arc<Self>,
        registry: &Registry,
        row: &PolicyRow,
    ) -> Result<(), PromotionError> {
        let slots = self.live.now();
        let own = slots.iter().find(|slot| slot.id == row.id);
        let own = own.and_then(|slot| slot.own.clone());
        let history = registry.history(&row.id).await?;
        let live = row.live.clone();
        let (served, problem) = self
            .first_sound(registry, own.as_ref(), &history, live)
            .await;
        let Some(live) = served else {
            tracing::error!(policy = row.id, "no version of the policy can be loaded");
            return Ok(());
        };
        let canary = match &row.canary {
            Some(id) => match self.load_served(registry, &row.id, id).await {
                Ok(served) => Some((served, row.canary_share)),
                Err(error) => {
                    let why = chain(&error);
                    tracing::error!(policy = row.id, "the canary is left out: {why}");
                    None
                }
            },
            None => None,
        };
        self.live.put(Slot {
            id: row.id.clone(),
            version: row.version,
            live,
            canary,
            own,
            problem,
        });
        Ok(())
    }

    /// `first` where it is sound, else the nearest one before it that is, and why not `first`.
    pub(super) async fn first_sound(
        self: &Arc<Self>,
        registry: &Registry,
        own: Option<&Arc<LivePolicy>>,
        history: &[PolicyHistoryRow],
        first: Option<String>,
    ) -> (Option<Served>, Option<String>) {
        let mut problem = None;
        let mut next = first;
        let mut seen = Vec::new();
        while let Some(id) = next {
            let policy = history.first().map_or("", |row| row.policy.as_str());
            match self.load_served(registry, policy, &id).await {
                Ok(served) => return (Some(served), problem),
                Err(error) => {
                    let why = chain(&error);
                    tracing::error!(policy, "the version before it is taken: {why}");
                    problem.get_or_insert(why);
                }
            }
            next = live_before(history, Some(&id)).flatten();
            seen.push(id);
            // promoted again after a rollback, two can be before each other
            if next.as_ref().is_some_and(|next| seen.contains(next)) {
                break;
            }
        }
        let own = own.map(|policy| Served {
            policy: Arc::clone(policy),
            checkpoint: None,
        });
        (own, problem)
    }

    async fn load_served(
        self: &Arc<Self>,
        registry: &Registry,
        policy: &str,
        id: &str,
    ) -> Result<Served, PromotionError> {
        let id = CheckpointId::parse(id)?;
        Ok(Served {
            policy: self.load_beside(registry, policy, &id).await?,
            checkpoint: Some(id),
        })
    }
}
