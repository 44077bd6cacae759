//! Random streams named by what they are for, so that no generator's state has to be saved.
//!
//! Every draw of a job is a function of the job's seed, a purpose and counters (step, prompt,
//! completion): resuming, batching or reordering cannot change it.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The seed of one stream.
pub fn derive(seed: u64, purpose: &str, counters: &[u64]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&(purpose.len() as u64).to_le_bytes());
    hasher.update(purpose.as_bytes());
    for counter in counters {
        hasher.update(&counter.to_le_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// The generator of one stream.
pub fn stream(seed: u64, purpose: &str, counters: &[u64]) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(derive(seed, purpose, counters))
}

/// Deals the indices of a data set in a new random order each epoch, a batch at a time.
///
/// Its only state is how many were dealt, which is what a saved job keeps.
#[derive(Debug, Clone)]
pub struct Deal {
    seed: u64,
    len: usize,
    dealt: u64,
    order: Vec<usize>,
    order_epoch: Option<u64>,
}

impl Deal {
    /// Over `len` items (at least 1), going on after `dealt` of them.
    pub fn resume(seed: u64, len: usize, dealt: u64) -> Self {
        Self {
            seed,
            len: len.max(1),
            dealt,
            order: Vec::new(),
            order_epoch: None,
        }
    }

    /// How many indices were dealt since the start.
    pub fn dealt(&self) -> u64 {
        self.dealt
    }

    /// How many items there are.
    pub fn rows(&self) -> usize {
        self.len
    }

    /// Goes to where `dealt` indices were dealt, back or on.
    pub fn go_to(&mut self, dealt: u64) {
        self.dealt = dealt;
    }

    /// Epochs begun or finished, as a fraction.
    pub fn epoch(&self) -> f64 {
        self.dealt as f64 / self.len as f64
    }

    /// Whether the next index begins an epoch.
    pub fn is_between_epochs(&self) -> bool {
        self.dealt.is_multiple_of(self.len as u64)
    }

    /// The next `count` indices. An epoch's last batch is filled up from the next epoch.
    pub fn next(&mut self, count: usize) -> Vec<usize> {
        (0..count)
            .map(|_| {
                let (epoch, place) = (self.dealt / self.len as u64, self.dealt % self.len as u64);
                if self.order_epoch != Some(epoch) {
                    self.order = (0..self.len).collect();
                    self.order
                        .shuffle(&mut stream(self.seed, "order", &[epoch]));
                    self.order_epoch = Some(epoch);
                }
                self.dealt += 1;
                self.order[place as usize]
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_seed_purpose_and_counter() {
        let seeds = [
            derive(1, "rollout", &[0, 0]),
            derive(2, "rollout", &[0, 0]),
            derive(1, "weights", &[0, 0]),
            derive(1, "rollout", &[0, 1]),
            derive(1, "rollout", &[1, 0]),
            derive(1, "rollout", &[0]),
        ];
        let different: std::collections::HashSet<u64> = seeds.into_iter().collect();
        assert_eq!(different.len(), seeds.len());
        assert_eq!(derive(1, "rollout", &[0, 0]), seeds[0]);
    }

    #[test]
    fn every_epoch_deals_each_index_once_in_another_order() {
        let mut deal = Deal::resume(3, 10, 0);
        let first = deal.next(10);
        let second = deal.next(10);
        assert_ne!(first, second);
        for mut epoch in [first, second] {
            epoch.sort_unstable();
            assert_eq!(epoch, (0..10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_resumed_deal_goes_on_where_it_stopped() {
        let mut whole = Deal::resume(3, 7, 0);
        let all = whole.next(20);
        let mut resumed = Deal::resume(3, 7, 12);
        assert_eq!(resumed.next(8), all[12..]);
    }
}
