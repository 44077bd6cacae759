//! Which version of each policy answers now, and the one place where that changes.
//!
//! A request takes its policy once and holds it to its end; a change replaces the whole list at
//! once, so nobody sees half of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::policy::LivePolicy;
use crate::registry::CheckpointId;

/// A version and the checkpoint it was loaded from; `None` is the model's folder.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) policy: Arc<LivePolicy>,
    pub(super) checkpoint: Option<CheckpointId>,
}

/// One policy's versions.
#[derive(Clone)]
pub(super) struct Slot {
    pub(super) id: String,
    /// The store's version of the policy that this is, 0 where it was never changed.
    pub(super) version: i64,
    /// What answers.
    pub(super) live: Served,
    /// What answers a share of the requests.
    pub(super) canary: Option<(Served, f64)>,
    /// What the model's folder holds; `None` where the policy came with a checkpoint.
    pub(super) own: Option<Arc<LivePolicy>>,
    /// Why something else answers than was promoted.
    pub(super) problem: Option<String>,
}

impl Slot {
    pub(super) fn of_folder(policy: LivePolicy) -> Self {
        let policy = Arc::new(policy);
        Self {
            id: policy.id.clone(),
            version: 0,
            live: Served {
                policy: Arc::clone(&policy),
                checkpoint: None,
            },
            canary: None,
            own: Some(policy),
            problem: None,
        }
    }
}

/// All policies, the base first.
pub(super) struct LivePolicies {
    slots: RwLock<Arc<Vec<Slot>>>,
    turns: AtomicU64,
}

impl LivePolicies {
    pub(super) fn new(slots: Vec<Slot>) -> Self {
        Self {
            slots: RwLock::new(Arc::new(slots)),
            turns: AtomicU64::new(0),
        }
    }

    /// All of them as they are now.
    pub(super) fn now(&self) -> Arc<Vec<Slot>> {
        // a list is replaced whole, so a panic elsewhere cannot have left half of one
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&slots)
    }

    /// Puts a slot in the place of the one with its id, or at the end.
    pub(super) fn put(&self, slot: Slot) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = slots.as_ref().clone();
        match changed.iter_mut().find(|old| old.id == slot.id) {
            Some(old) => *old = slot,
            None => changed.push(slot),
        }
        *slots = Arc::new(changed);
    }

    /// Takes away the slot of an id; false where there is none. Requests that run keep theirs.
    pub(super) fn remove(&self, id: &str) -> bool {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let kept: Vec<_> = slots.iter().filter(|slot| slot.id != id).cloned().collect();
        let found = kept.len() < slots.len();
        *slots = Arc::new(kept);
        found
    }

    /// Which version takes the next request of a slot.
    pub(super) fn next_of(&self, slot: &Slot) -> Arc<LivePolicy> {
        let Some((canary, share)) = &slot.canary else {
            return Arc::clone(&slot.live.policy);
        };
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        match takes_turn(turn, *share) {
            true => Arc::clone(&canary.policy),
            false => Arc::clone(&slot.live.policy),
        }
    }
}

/// Whether a share of all turns includes this one. Multiples of the golden ratio, wrapped, fill
/// the unit interval evenly, so any run of turns has nearly that share.
fn takes_turn(turn: u64, share: f64) -> bool {
    // 2^64 over the golden ratio
    let place = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (place as f64) < share * 2f64.powi(64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_kept_in_every_run_of_turns() {
        for share in [0.0, 0.01, 0.1, 0.5, 1.0] {
            for start in [0, 1000, u64::MAX - 50] {
                let turns = (0..100).map(|i| start.wrapping_add(i));
                let taken = turns.filter(|turn| takes_turn(*turn, share)).count();
                let expected = share * 100.0;
                assert!((taken as f64 - expected).abs() <= 2.0, "{share}: {taken}");
            }
        }
    }
}
