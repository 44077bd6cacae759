//! Counters, gauges, tallies and histograms, each changed from any thread without waiting long.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Counts up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// It is this now.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// What it is now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters by label values. The values must come from a closed list: each makes a line of every
/// scrape, for ever.
#[derive(Debug)]
pub struct Tally<K>(Mutex<BTreeMap<K, u64>>);

impl<K: Ord> Default for Tally<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord + Clone> Tally<K> {
    /// One more of these.
    pub fn add(&self, key: K) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(key).or_default() += 1;
    }

    /// All of them, in order.
    pub fn counts(&self) -> Vec<(K, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(key, n)| (key.clone(), *n)).collect()
    }
}

/// How often values came in each of some ranges.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds: the last is beyond all.
    buckets: Box<[AtomicU64]>,
    /// An `f64`'s bits.
    sum: AtomicU64,
}

impl Histogram {
    /// One with these upper bounds, ascending.
    pub fn new(bounds: &'static [f64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0));
        Self {
            bounds,
            buckets: buckets.collect(),
            sum: AtomicU64::new(0f64.to_bits()),
        }
    }

    /// One more value.
    pub fn observe(&self, value: f64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[place].fetch_add(1, Ordering::Relaxed);
        let add = |sum: u64| Some((f64::from_bits(sum) + value).to_bits());
        // never fails: `add` always returns something
        let _ = self
            .sum
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// One more span of time, in seconds.
    pub fn observe_time(&self, time: Duration) {
        self.observe(time.as_secs_f64());
    }

    /// Each upper bound with how many values are at most that; the last is infinite.
    pub fn cumulative(&self) -> Vec<(f64, u64)> {
        let mut below = 0;
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let counts = self.buckets.iter().map(|n| n.load(Ordering::Relaxed));
        bounds
            .zip(counts)
            .map(|(bound, count)| {
                below += count;
                (bound, below)
            })
            .collect()
    }

    /// All values together.
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_counts_below_it() {
        let histogram = Histogram::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 2.0, 9.0] {
            histogram.observe(value);
        }
        let expected = [(1.0, 2), (2.0, 4), (f64::INFINITY, 5)];
        assert_eq!(histogram.cumulative(), expected);
        assert_eq!(histogram.sum(), 14.0);
    }

    #[test]
    fn a_tally_counts_each_label_by_itself() {
        let tally = Tally::default();
        for word in ["b", "a", "b"] {
            tally.add(word);
        }
        assert_eq!(tally.counts(), [("a", 1), ("b", 2)]);
    }
}
