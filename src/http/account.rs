//! What a request came to: told by its route as it goes, read for its line of log at its end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::service::LivePolicy;
use crate::telemetry::Timeline;
use crate::types::Usage;

/// The account of one request. Holds figures and ids, never what was said.
#[derive(Debug, Clone, Default)]
pub(super) struct Account {
    figures: Arc<Mutex<Figures>>,
    timeline: Timeline,
}

/// What an account tells.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    /// Names the caller's key without telling it.
    pub(super) key: Option<Arc<str>>,
    pub(super) model: Option<String>,
    pub(super) policy_version: Option<String>,
    /// Of all answers together; those of answers that were cut count what came.
    pub(super) usage: Usage,
    /// The code of what went wrong.
    pub(super) error: Option<&'static str>,
}

impl Account {
    /// Who asked.
    pub(super) fn asked_by(&self, key: Option<Arc<str>>) {
        self.lock().key = key;
    }

    /// Who answers.
    pub(super) fn answered_by(&self, policy: &LivePolicy) {
        let mut figures = self.lock();
        figures.model = Some(policy.id.clone());
        figures.policy_version = Some(policy.version.clone());
    }

    /// Where the times of its answers are told.
    pub(super) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// So many tokens more were told.
    pub(super) fn told(&self, tokens: usize) {
        self.lock().usage.completion_tokens += tokens;
    }

    /// What it cost in the end.
    pub(super) fn cost(&self, usage: Usage) {
        self.lock().usage = usage;
    }

    /// What went wrong.
    pub(super) fn failed(&self, code: &'static str) {
        self.lock().error = Some(code);
    }

    /// Everything told so far.
    pub(super) fn figures(&self) -> Figures {
        self.lock().clone()
    }

    /// Figures are whole at every moment, also after a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
