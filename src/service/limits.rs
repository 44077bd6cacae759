//! How much a key may use: requests and tokens a minute, each an allowance that refills evenly.
//!
//! Tokens are counted as they come, after the request was let in, so an allowance can go below
//! zero; then nothing new is let in until it is made up for. Limits are those of one process:
//! several servers on one store each grant them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::access::AccessError;

/// So much a minute; a minute's worth may be used at once.
#[derive(Debug)]
struct Allowance {
    per_minute: u32,
    state: Mutex<Level>,
}

#[derive(Debug, Clone, Copy)]
struct Level {
    /// What is left; below 0 it is owed.
    left: f64,
    at: Instant,
}

/// How a key stands with one of its limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// `requests` or `tokens`.
    pub what: &'static str,
    /// How many a minute.
    pub per_minute: u32,
    /// How many are left now.
    pub remaining: u32,
    /// When all are there again.
    pub full_in: Duration,
}

impl Allowance {
    fn new(per_minute: u32, now: Instant) -> Self {
        let left = f64::from(per_minute);
        Self {
            per_minute,
            state: Mutex::new(Level { left, at: now }),
        }
    }

    fn per_second(&self) -> f64 {
        f64::from(self.per_minute) / 60.0
    }

    /// Lets `change` see and alter what is left at `now`.
    fn with<T>(&self, now: Instant, change: impl FnOnce(&mut f64) -> T) -> T {
        let mut level = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(level.at).as_secs_f64();
        level.left = (level.left + passed * self.per_second()).min(f64::from(self.per_minute));
        level.at = level.at.max(now);
        change(&mut level.left)
    }

    /// Until one more is there.
    fn wait(&self, left: f64) -> Duration {
        Duration::from_secs_f64((1.0 - left).max(0.0) / self.per_second())
    }

    fn refused(&self, what: &'static str, left: f64) -> AccessError {
        AccessError::Limited {
            what,
            per_minute: self.per_minute,
            wait: self.wait(left),
        }
    }

    fn standing(&self, what: &'static str, now: Instant) -> Standing {
        let left = self.with(now, |left| *left);
        let missing = f64::from(self.per_minute) - left;
        Standing {
            what,
            per_minute: self.per_minute,
            remaining: left.max(0.0) as u32,
            full_in: Duration::from_secs_f64(missing.max(0.0) / self.per_second()),
        }
    }
}

/// The allowances of one key.
#[derive(Debug)]
pub(super) struct KeyLimits {
    requests: Option<Allowance>,
    tokens: Option<Allowance>,
}

impl KeyLimits {
    /// Full allowances; a limit that is `None` or 0 is none.
    pub(super) fn new(requests: Option<u32>, tokens: Option<u32>, now: Instant) -> Self {
        let allowance = |per_minute: Option<u32>| {
            per_minute
                .filter(|n| *n > 0)
                .map(|n| Allowance::new(n, now))
        };
        Self {
            requests: allowance(requests),
            tokens: allowance(tokens),
        }
    }

    /// Counts one request where both limits leave room.
    pub(super) fn admit(&self, now: Instant) -> Result<(), AccessError> {
        if let Some(tokens) = &self.tokens {
            let left = tokens.with(now, |left| *left);
            if left < 1.0 {
                return Err(tokens.refused("tokens", left));
            }
        }
        let Some(requests) = &self.requests else {
            return Ok(());
        };
        requests.with(now, |left| {
            if *left < 1.0 {
                return Err(requests.refused("requests", *left));
            }
            *left -= 1.0;
            Ok(())
        })
    }

    /// Counts tokens, also those that go beyond the limit.
    pub(super) fn charge_tokens(&self, count: usize, now: Instant) {
        if let Some(tokens) = &self.tokens {
            tokens.with(now, |left| *left -= count as f64);
        }
    }

    /// One entry a limit.
    pub(super) fn standings(&self, now: Instant) -> Vec<Standing> {
        let limits = [("requests", &self.requests), ("tokens", &self.tokens)];
        let stated = limits
            .into_iter()
            .filter_map(|(what, limit)| Some((what, limit.as_ref()?)));
        stated
            .map(|(what, allowance)| allowance.standing(what, now))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_of(refused: Result<(), AccessError>) -> (&'static str, f64) {
        match refused {
            Err(AccessError::Limited { what, wait, .. }) => (what, wait.as_secs_f64()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_minutes_requests_may_come_at_once_and_then_evenly() {
        let start = Instant::now();
        let limits = KeyLimits::new(Some(30), None, start);
        for _ in 0..30 {
            limits.admit(start).expect("within the limit");
        }
        let (what, wait) = wait_of(limits.admit(start));
        assert!(
            what == "requests" && (wait - 2.0).abs() < 1e-6,
            "{what} {wait}"
        );
        let later = start + Duration::from_millis(2001);
        limits.admit(later).expect("one came back");
        assert!(limits.admit(later).is_err());
        let standing = limits.standings(later + Duration::from_secs(3600))[0];
        assert_eq!((standing.remaining, standing.per_minute), (30, 30));
        assert_eq!(standing.full_in, Duration::ZERO);
    }

    #[test]
    fn tokens_beyond_the_limit_are_owed_before_anything_new_begins() {
        let start = Instant::now();
        let limits = KeyLimits::new(None, Some(600), start);
        limits.admit(start).expect("full");
        limits.charge_tokens(900, start);
        let (what, wait) = wait_of(limits.admit(start));
        assert!(
            what == "tokens" && (wait - 30.1).abs() < 1e-6,
            "{what} {wait}"
        );
        assert_eq!(limits.standings(start)[0].remaining, 0);
        limits
            .admit(start + Duration::from_millis(30_101))
            .expect("made up for");
    }

    #[test]
    fn a_clock_that_steps_back_grants_nothing() {
        let start = Instant::now() + Duration::from_secs(60);
        let limits = KeyLimits::new(Some(1), None, start);
        limits.admit(start).expect("the only one");
        assert!(limits.admit(start - Duration::from_secs(30)).is_err());
        assert!(limits.admit(start + Duration::from_secs(1)).is_err());
    }
}
