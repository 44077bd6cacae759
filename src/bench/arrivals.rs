//! When the requests of an open loop are sent: at random, so many a second on average, whether the
//! server keeps up or not.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Moments after the start, as in a Poisson process of `rate` requests a second.
pub(super) fn arrivals(rate: f64, count: usize, seed: u64) -> Vec<Duration> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut at = 0.0;
    let gaps = (0..count).map(|_| {
        // 1 - x is never 0, so its logarithm is finite
        at -= (1.0 - rng.random::<f64>()).ln() / rate;
        Duration::from_secs_f64(at)
    });
    gaps.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_keep_their_rate_and_their_order() {
        let times = arrivals(50.0, 10_000, 3);
        assert!(times.is_sorted());
        let seconds = times[times.len() - 1].as_secs_f64();
        assert!(
            (seconds - 200.0).abs() < 10.0,
            "{seconds} s for 10,000 at 50/s"
        );
        assert_eq!(times, arrivals(50.0, 10_000, 3));
        assert_ne!(times, arrivals(50.0, 10_000, 4));
    }
}
