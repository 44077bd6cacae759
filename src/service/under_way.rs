//! Which adapters have answers that run and that wait.
//!
//! The engine knows no names, so whoever has a sequence handed to it says here whose it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::app::App;
use crate::engine::Progress;
use crate::telemetry::{Page, names};

/// Answers under way, of policies that have an adapter.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    next: AtomicU64,
    answers: Mutex<BTreeMap<u64, Answer>>,
}

/// The id of its policy, and how far it has come.
type Answer = (Arc<str>, Arc<Progress>);

/// An answer's entry; it goes when the answer has ended.
#[derive(Debug)]
pub(super) struct Listed {
    list: Arc<UnderWay>,
    place: u64,
}

impl UnderWay {
    /// An answer of this policy was handed to the engine.
    pub(super) fn list(self: &Arc<Self>, policy: Arc<str>, progress: &Arc<Progress>) -> Listed {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(place, (policy, Arc::clone(progress)));
        Listed {
            list: Arc::clone(self),
            place,
        }
    }

    /// Names of the policies with an answer that runs, and of those with one that waits.
    fn names(&self) -> [String; 2] {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |runs: bool| {
            let names: BTreeSet<&str> = answers
                .values()
                .filter(|(_, progress)| progress.started().is_some() == runs)
                .map(|(policy, _)| policy.as_ref())
                .collect();
            names.into_iter().collect::<Vec<_>>().join(",")
        };
        [of(true), of(false)]
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let answers = self.list.answers.lock();
        let mut answers = answers.unwrap_or_else(PoisonError::into_inner);
        answers.remove(&self.place);
    }
}

impl App {
    /// Writes which adapters are at work, as routers made for vLLM read it; nothing where no
    /// policy has an adapter.
    pub(super) fn report_adapters(&self, page: &mut Page) {
        let slots = self.live.now();
        let versions = slots
            .iter()
            .flat_map(|slot| [Some(&slot.live), slot.canary.as_ref().map(|(it, _)| it)])
            .flatten();
        let adapters = versions.filter(|version| version.policy.adapter.is_some());
        let count = adapters.count();
        if count == 0 {
            return;
        }
        let [running, waiting] = self.meters.under_way.names();
        let labels = [
            ("running_lora_adapters", running),
            ("waiting_lora_adapters", waiting),
            // every adapter that is loaded can be in one batch
            ("max_lora", count.to_string()),
        ];
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        page.foreign(&names::LORA_REQUESTS, [(labels, now.as_secs_f64())]);
    }
}
