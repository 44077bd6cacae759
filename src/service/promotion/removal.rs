//! Takes a policy that came with a checkpoint off the server, and off all servers of its registry.
//!
//! The store decides first, as with promotions. The policy's checkpoints stay, so what was removed
//! can be promoted again; the next promotion under its name clears those that nothing needs.

use std::sync::Arc;

use super::{PromotionError, check_version, now};
use crate::service::app::{App, clipped};
use crate::service::live::Slot;
use crate::store::PolicyChange;

impl App {
    /// Removes a policy; its version after that, which promoting it again must expect. Requests
    /// that run finish on it.
    ///
    /// # Errors
    /// There is none, it is of another version, it has to stay, or something failed.
    pub async fn remove_policy(
        self: &Arc<Self>,
        policy: &str,
        expected_version: i64,
    ) -> Result<i64, PromotionError> {
        let _turn = self.changing.lock().await;
        let registry = self.registry()?;
        self.catch_up(registry).await?;
        let slots = self.live.now();
        let slot = slots.iter().find(|slot| slot.id == policy);
        let slot = slot.ok_or_else(|| PromotionError::UnknownPolicy(clipped(policy)))?;
        if let Some(why) = self.why_it_stays(slot, slots.len()) {
            let policy = policy.to_owned();
            return Err(PromotionError::Stays { policy, why });
        }
        let row = registry.policy(policy).await?;
        check_version(
            policy,
            row.as_ref().map_or(0, |row| row.version),
            expected_version,
        )?;
        let change = PolicyChange {
            id: policy.to_owned(),
            action: "remove",
            live: None,
            replaced: row.and_then(|row| row.live),
            canary: None,
            at: now(),
        };
        let version = self.decide(registry, &change, expected_version).await?;
        self.live.remove(policy);
        Ok(version)
    }

    /// Why one of so many models cannot be removed, if it cannot.
    fn why_it_stays(&self, slot: &Slot, models: usize) -> Option<&'static str> {
        if self.default_policy().id == slot.id {
            Some("it answers where no model is named")
        } else if slot.own.is_some() {
            Some("it lies in the model's folder; remove it there, or roll it back")
        } else if models == 2 {
            Some("it is the only one over this model")
        } else {
            None
        }
    }
}
