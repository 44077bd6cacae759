//! Trouble that comes many times a second, said once in a while.

use std::time::{Duration, Instant};

/// Counts what is not said.
#[derive(Debug)]
pub(super) struct Seldom {
    every: Duration,
    said: Option<Instant>,
    times: u64,
}

impl Seldom {
    /// Lets something be said once in `every`.
    pub(super) fn new(every: Duration) -> Self {
        Self {
            every,
            said: None,
            times: 0,
        }
    }

    /// It happened again: how often since it was last said, where it is time to say it.
    pub(super) fn count(&mut self, now: Instant) -> Option<u64> {
        self.times += 1;
        let is_time = self.said.is_none_or(|said| now - said >= self.every);
        is_time.then(|| {
            self.said = Some(now);
            std::mem::take(&mut self.times)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_said_at_once_and_then_once_a_second() {
        let mut seldom = Seldom::new(Duration::from_secs(1));
        let start = Instant::now();
        let said: Vec<_> = (0..60)
            .map(|i| seldom.count(start + Duration::from_millis(50) * i))
            .collect();
        assert_eq!(said[0], Some(1));
        assert!(said[1..20].iter().all(Option::is_none));
        assert_eq!((said[20], said[40]), (Some(20), Some(20)));
        assert_eq!(said.iter().flatten().sum::<u64>(), 41);
    }
}
