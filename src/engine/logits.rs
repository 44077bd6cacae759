//! Arithmetic over one row of logits: the largest, the mass, the leading few.
//!
//! Every function walks the row in a fixed order of its own, so that equal rows give equal bits.

use std::cmp::Ordering;

use crate::kernel::row;
use crate::types::TokenId;

/// A token with its logit.
pub(super) type Scored = (TokenId, f32);

/// Entries whose masses are added up together.
const BLOCK: usize = 1024;

/// The largest logit and its lowest index. `None` if a value is NaN.
pub(super) fn largest(logits: &[f32]) -> Option<Scored> {
    row::largest(logits).map(|(index, value)| (index as TokenId, value))
}

/// Moves a row away from a neutral one: `l + (scale - 1) * (l - l_neutral)`. A token that either
/// row rules out stays as it is in the first.
pub(super) fn guide(row: &mut [f32], neutral: &[f32], scale: f32) {
    for (logit, neutral) in row.iter_mut().zip(neutral) {
        if *logit != f32::NEG_INFINITY && *neutral != f32::NEG_INFINITY {
            *logit += (scale - 1.0) * (*logit - neutral);
        }
    }
}

/// Turns logits into unnormalised probabilities, 1 for the largest logit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    largest: f32,
    inverse_temperature: f32,
}

impl Scale {
    pub(super) fn new(largest: f32, temperature: f32) -> Self {
        // Bounded: an infinite factor would make NaN of the largest logit's 0.
        Self {
            largest,
            inverse_temperature: (1.0 / temperature).min(f32::MAX),
        }
    }

    pub(super) fn weight(self, logit: f32) -> f32 {
        row::exp(self.exponent(logit))
    }

    /// The logarithm of the weight.
    pub(super) fn exponent(self, logit: f32) -> f32 {
        (logit - self.largest) * self.inverse_temperature
    }
}

/// The unnormalised probability of a whole row, added up by block.
#[derive(Debug, Clone)]
pub(super) struct Mass {
    scale: Scale,
    blocks: Vec<f64>,
    total: f64,
}

impl Mass {
    pub(super) fn new(logits: &[f32], scale: Scale) -> Self {
        let blocks: Vec<f64> = logits
            .chunks(BLOCK)
            .map(|block| row::exp_sum(block, scale.largest, scale.inverse_temperature))
            .collect();
        let total = blocks.iter().sum();
        Self {
            scale,
            blocks,
            total,
        }
    }

    pub(super) fn total(&self) -> f64 {
        self.total
    }

    /// The natural log-probability of one logit of the row; for a scale of temperature 1.
    pub(super) fn logprob(&self, logit: f32) -> f32 {
        (f64::from(logit) - f64::from(self.scale.largest) - self.total.ln()) as f32
    }

    /// The token at the share `uniform` in [0, 1) of the mass, counted in order of ids.
    pub(super) fn pick(&self, logits: &[f32], uniform: f64) -> Option<TokenId> {
        let mut left = uniform * self.total;
        let mut found = None;
        for (index, &mass) in self
            .blocks
            .iter()
            .enumerate()
            .filter(|(_, mass)| **mass > 0.0)
        {
            if left < mass {
                found = Some((index, left));
                break;
            }
            left -= mass;
            // Should rounding carry the share past the end, the last token with mass is meant.
            found = Some((index, f64::INFINITY));
        }
        let (index, mut left) = found?;
        let start = index * BLOCK;
        let block = &logits[start..logits.len().min(start + BLOCK)];
        let mut picked = None;
        for (id, &logit) in (start..).zip(block) {
            let weight = f64::from(self.scale.weight(logit));
            if weight > 0.0 {
                picked = Some(id as TokenId);
                if left < weight {
                    break;
                }
                left -= weight;
            }
        }
        picked
    }
}

/// The `count` largest logits above minus infinity, largest first; among equals the lowest id.
pub(super) fn leading(logits: &[f32], count: usize) -> Vec<Scored> {
    let count = count.min(logits.len());
    if count == 0 {
        return Vec::new();
    }
    // Collects twice as many as asked for, then throws the lesser half away and raises the bar.
    // A later equal never passes the bar, as ids ascend.
    let mut kept: Vec<Scored> = Vec::with_capacity(2 * count);
    let mut bar = f32::NEG_INFINITY;
    for (id, &logit) in logits.iter().enumerate() {
        if logit > bar {
            kept.push((id as TokenId, logit));
            if kept.len() == 2 * count {
                kept.select_nth_unstable_by(count - 1, by_rank);
                kept.truncate(count);
                bar = kept[count - 1].1;
            }
        }
    }
    kept.sort_unstable_by(by_rank);
    kept.truncate(count);
    kept
}

/// Larger logits first, then lower ids.
pub(super) fn by_rank(a: &Scored, b: &Scored) -> Ordering {
    b.1.partial_cmp(&a.1)
        .unwrap_or(Ordering::Equal)
        .then(a.0.cmp(&b.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn leading_equals_a_full_sort(
            levels in prop::collection::vec(-6i32..6, 1..200),
            count in 0usize..220,
        ) {
            // Few levels make many ties.
            let logits: Vec<f32> = levels.iter().map(|&level| level as f32).collect();
            let mut sorted: Vec<Scored> = (0..).zip(logits.iter().copied()).collect();
            sorted.sort_by(by_rank);
            sorted.truncate(count);
            prop_assert_eq!(leading(&logits, count), sorted);
        }

        #[test]
        fn largest_equals_a_plain_scan(logits in prop::collection::vec(-5i32..5, 1..100)) {
            let logits: Vec<f32> = logits.iter().map(|&level| level as f32).collect();
            prop_assert_eq!(largest(&logits), leading(&logits, 1).first().copied());
        }
    }

    #[test]
    fn guidance_moves_away_from_the_neutral_row() {
        let neutral = [1.0, 0.5, 3.0, f32::NEG_INFINITY, 2.0];
        let check = |scale, expected: [f32; 5]| {
            let mut row = [2.0, 0.5, 1.0, 4.0, f32::NEG_INFINITY];
            guide(&mut row, &neutral, scale);
            assert_eq!(row, expected, "at {scale}");
        };
        check(1.0, [2.0, 0.5, 1.0, 4.0, f32::NEG_INFINITY]);
        check(1.5, [2.5, 0.5, 0.0, 4.0, f32::NEG_INFINITY]);
        check(0.0, [1.0, 0.5, 3.0, 4.0, f32::NEG_INFINITY]);
    }

    #[test]
    fn a_nan_anywhere_is_noticed() {
        for place in 0..40 {
            let mut logits = vec![0.5; 40];
            logits[place] = f32::NAN;
            assert_eq!(largest(&logits), None, "at {place}");
        }
    }

    #[test]
    fn a_share_of_almost_one_picks_the_last_token_with_mass() {
        let mut logits = vec![0.0; 3000];
        logits[2990..].fill(f32::NEG_INFINITY);
        let mass = Mass::new(&logits, Scale::new(0.0, 1.0));
        assert_eq!(mass.pick(&logits, 1.0 - f64::EPSILON / 2.0), Some(2989));
        assert_eq!(mass.pick(&logits, 1.0), Some(2989));
        assert_eq!(mass.pick(&logits, 0.0), Some(0));
    }
}
