//! Rank correlations, intervals and shares: small statistics with ties handled.

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// A mean or share with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The value over all samples.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// Arithmetic mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() {
        0.0
    } else {
        values.iter().sum::<f64>() / values.len() as f64
    }
}

/// Standard deviation over n; 0 of nothing.
pub fn deviation(values: &[f64]) -> f64 {
    let centre = mean(values);
    mean(
        &values
            .iter()
            .map(|x| (x - centre).powi(2))
            .collect::<Vec<_>>(),
    )
    .sqrt()
}

/// Linear correlation; `None` where one side does not vary.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let (mx, my) = (mean(x), mean(y));
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (a, b) in x.iter().zip(y) {
        xy += (a - mx) * (b - my);
        xx += (a - mx).powi(2);
        yy += (b - my).powi(2);
    }
    (xx > 0.0 && yy > 0.0).then(|| xy / (xx * yy).sqrt())
}

/// Spearman's rank correlation, tied values sharing their mean rank; `None` where one side does
/// not vary.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    pearson(&ranks(x), &ranks(y))
}

/// Kendall's tau-b, which corrects for ties; `None` where one side does not vary. Quadratic.
pub fn kendall(x: &[f64], y: &[f64]) -> Option<f64> {
    let (mut balance, mut untied_x, mut untied_y) = (0.0, 0.0, 0.0);
    for i in 0..x.len() {
        for j in 0..i {
            let (dx, dy) = (sign(x[i] - x[j]), sign(y[i] - y[j]));
            balance += dx * dy;
            untied_x += dx.abs();
            untied_y += dy.abs();
        }
    }
    (untied_x > 0.0 && untied_y > 0.0).then(|| balance / f64::sqrt(untied_x * untied_y))
}

fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

/// Ranks from 1, tied values sharing their mean rank.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let tied = order[start..]
            .iter()
            .take_while(|&&i| values[i] == values[order[start]])
            .count();
        let rank = start as f64 + (tied as f64 + 1.0) / 2.0;
        for &i in &order[start..start + tied] {
            ranks[i] = rank;
        }
        start += tied;
    }
    ranks
}

/// Wilson's 95 % interval of a share: right at 0 and 1 and for small counts.
pub fn wilson(successes: usize, total: usize) -> Estimate {
    const Z: f64 = 1.959_963_984_540_054;
    if total == 0 {
        return Estimate {
            value: 0.0,
            low: 0.0,
            high: 1.0,
        };
    }
    let (n, p) = (total as f64, successes as f64 / total as f64);
    let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    Estimate {
        value: p,
        low: (centre - half).max(0.0),
        high: (centre + half).min(1.0),
    }
}

/// Resamples `count` items with replacement and returns the 2.5 % and 97.5 % quantiles of
/// `statistic`. The same seed gives the same interval.
pub fn bootstrap(count: usize, seed: u64, statistic: impl Fn(&[usize]) -> f64) -> Estimate {
    const RESAMPLES: usize = 1000;
    let whole: Vec<usize> = (0..count).collect();
    let value = statistic(&whole);
    if count < 2 {
        return Estimate {
            value,
            low: value,
            high: value,
        };
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draws: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let sample: Vec<usize> = (0..count).map(|_| rng.random_range(0..count)).collect();
            statistic(&sample)
        })
        .collect();
    draws.sort_by(f64::total_cmp);
    Estimate {
        value,
        low: quantile(&draws, 0.025),
        high: quantile(&draws, 0.975),
    }
}

/// Bootstrap interval of a mean.
pub fn mean_interval(values: &[f64], seed: u64) -> Estimate {
    bootstrap(values.len(), seed, |sample| {
        sample.iter().map(|&i| values[i]).sum::<f64>() / sample.len().max(1) as f64
    })
}

/// Linear interpolation between the neighbours of a sorted slice.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(actual: f64, expected: f64) {
        assert!(
            (actual - expected).abs() < 1e-9,
            "{actual} is not {expected}"
        );
    }

    #[test]
    fn tied_values_share_their_mean_rank() {
        assert_eq!(ranks(&[10.0, 20.0, 10.0, 5.0]), [2.5, 4.0, 2.5, 1.0]);
    }

    #[test]
    fn correlations_of_a_small_table() {
        let (x, y) = ([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]);
        close(spearman(&x, &y).unwrap(), 0.8); // 1 - 6 * 2 / (4 * 15)
        close(kendall(&x, &y).unwrap(), 4.0 / 6.0); // 5 concordant, 1 discordant
        close(spearman(&x, &[4.0, 3.0, 2.0, 1.0]).unwrap(), -1.0);
        close(kendall(&x, &[9.0, 8.0, 7.0, 6.0]).unwrap(), -1.0);
    }

    #[test]
    fn ties_are_corrected_for() {
        let (x, y) = ([1.0, 2.0, 2.0, 3.0], [1.0, 2.0, 3.0, 3.0]);
        // Ranks 1 2.5 2.5 4 and 1 2 3.5 3.5: products 1.5 * 1.5 + 1.5 * 1, over sqrt(4.5 * 4.5).
        close(spearman(&x, &y).unwrap(), 3.75 / 4.5);
        // 4 concordant pairs, one tie in each: 4 / sqrt(5 * 5).
        close(kendall(&x, &y).unwrap(), 0.8);
    }

    #[test]
    fn a_side_that_does_not_vary_has_no_correlation() {
        assert_eq!(spearman(&[1.0, 2.0], &[3.0, 3.0]), None);
        assert_eq!(kendall(&[1.0, 2.0], &[3.0, 3.0]), None);
    }

    #[test]
    fn wilson_of_8_in_10() {
        let interval = wilson(8, 10);
        assert!((interval.low - 0.4902).abs() < 1e-4 && (interval.high - 0.9433).abs() < 1e-4);
        assert_eq!(wilson(0, 10).low, 0.0);
        assert!(wilson(10, 10).high <= 1.0 && wilson(10, 10).low < 0.75);
    }

    #[test]
    fn the_bootstrap_interval_holds_the_mean_and_repeats() {
        let values: Vec<f64> = (0..200).map(f64::from).collect();
        let interval = mean_interval(&values, 7);
        assert_eq!(interval, mean_interval(&values, 7));
        close(interval.value, 99.5);
        // The standard error is 57.7 / sqrt(200) = 4.08.
        assert!((interval.low - (99.5 - 8.0)).abs() < 1.5, "{interval:?}");
        assert!((interval.high - (99.5 + 8.0)).abs() < 1.5, "{interval:?}");
    }
}
