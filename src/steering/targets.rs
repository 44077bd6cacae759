//! How weights become what a policy of targets is asked for: a value of each objective.

use serde::{Deserialize, Serialize};

use super::WeightVector;

/// Values that a policy can be asked to reach of one objective.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetRange {
    /// What is asked for where the objective counts for nothing.
    pub low: f32,
    /// What is asked for where it counts most; below `low` where less is better (toxicity).
    pub high: f32,
}

/// Largest value that a range may name, so that its units fit whole numbers.
const LARGEST: f32 = 1e6;

impl TargetRange {
    /// Whether its ends can be written and differ.
    pub(super) fn is_sound(self, decimals: u32) -> bool {
        let fits = |end: f32| end.is_finite() && end.abs() <= LARGEST;
        fits(self.low)
            && fits(self.high)
            && units(f64::from(self.low), decimals) != units(f64::from(self.high), decimals)
    }

    /// The whole unit of `10^-decimals` in the range that comes nearest to a value.
    pub(super) fn nearest(self, value: f32, decimals: u32) -> i64 {
        let (least, most) = (self.low.min(self.high), self.low.max(self.high));
        units(f64::from(value.clamp(least, most)), decimals)
    }
}

/// The rules of RiC (arXiv 2402.10207, section 3.4 and its code) by which weights `w` on the simplex
/// become shares of each objective's range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetRule {
    /// `w_i`: equal weights ask for little of everything.
    Linear,
    /// `w_i / ‖w‖₂`: points of a sphere, as far out for every weight.
    L2,
    /// `min(n w_i, 1)` for `n` objectives: the weightiest in full, equal weights everything in full.
    Linf,
}

impl TargetRule {
    /// The word for it in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::L2 => "l2",
            Self::Linf => "linf",
        }
    }

    /// A share from 0 to 1 for each objective.
    pub(super) fn shares(self, weights: &WeightVector) -> Vec<f64> {
        let weights = weights.as_slice().iter().map(|w| f64::from(*w));
        let norm = weights.clone().map(|w| w * w).sum::<f64>().sqrt();
        let count = weights.len() as f64;
        let share = |w: f64| match self {
            Self::Linear => w,
            Self::L2 => w / norm,
            Self::Linf => count * w,
        };
        weights.map(|w| share(w).clamp(0.0, 1.0)).collect()
    }

    /// Each objective's target, in whole units of `10^-decimals`.
    pub(super) fn targets(
        self,
        ranges: &[TargetRange],
        decimals: u32,
        weights: &WeightVector,
    ) -> Vec<i64> {
        let shares = self.shares(weights);
        let target = |(share, range): (f64, &TargetRange)| {
            let (low, high) = (f64::from(range.low), f64::from(range.high));
            units(low + share * (high - low), decimals)
        };
        shares.into_iter().zip(ranges).map(target).collect()
    }
}

/// The nearest whole unit of `10^-decimals`, halves up; what f32 cannot hold decides nothing.
pub(super) fn units(value: f64, decimals: u32) -> i64 {
    let exact = value * f64::from(10u32.pow(decimals));
    ((exact * 1e4).round() / 1e4 + 0.5).floor() as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: [TargetRule; 3] = [TargetRule::Linear, TargetRule::L2, TargetRule::Linf];

    fn weights(raw: &[f64]) -> WeightVector {
        let total: f64 = raw.iter().sum();
        WeightVector::on_simplex(raw.iter().map(|w| w / total))
    }

    #[test]
    fn the_rules_are_the_papers() {
        let range = TargetRange {
            low: -4.2,
            high: 4.2,
        };
        for (rule, raw, expected) in [
            (TargetRule::Linear, [0.7, 0.3], [17, -17]),
            (TargetRule::Linear, [1.0, 0.0], [42, -42]),
            // 0.7 / sqrt(0.58) and 0.3 / sqrt(0.58) of 8.4, from -4.2
            (TargetRule::L2, [0.7, 0.3], [35, -9]),
            // 1 / sqrt(2) of 8.4, from -4.2
            (TargetRule::L2, [0.5, 0.5], [17, 17]),
            (TargetRule::Linf, [0.7, 0.3], [42, 8]),
            (TargetRule::Linf, [0.5, 0.5], [42, 42]),
        ] {
            let told = rule.targets(&[range; 2], 1, &weights(&raw));
            assert_eq!(told, expected, "{rule:?} of {raw:?}");
        }
    }

    #[test]
    fn a_half_is_rounded_up_whatever_f32_makes_of_it() {
        assert_eq!([2.5, -2.5, 0.0].map(|value| units(value, 0)), [3, -2, 0]);
        assert_eq!(units(f64::from(0.35f32), 1), 4);
        assert_eq!(units(f64::from(0.25f32), 1), 3);
    }

    proptest! {
        #[test]
        fn targets_stay_in_their_range_and_follow_their_weight(
            raw in prop::collection::vec(0.0f64..1.0, 1..6),
            ends in prop::collection::vec((-9i8..9, -9i8..9), 6),
            more in 0.0f64..1.0,
            decimals in 0u32..3,
        ) {
            prop_assume!(raw.iter().sum::<f64>() > 1e-3);
            let ranges: Vec<TargetRange> = ends[..raw.len()]
                .iter()
                .map(|(low, high)| TargetRange { low: f32::from(*low), high: f32::from(*high) })
                .collect();
            let mut heavier = raw.clone();
            heavier[0] += more;
            for rule in RULES {
                let told = rule.targets(&ranges, decimals, &weights(&raw));
                for (unit, range) in told.iter().zip(&ranges) {
                    let ends = [range.low, range.high].map(|end| units(f64::from(end), decimals));
                    prop_assert!((ends[0].min(ends[1])..=ends[0].max(ends[1])).contains(unit));
                }
                let then = rule.targets(&ranges, decimals, &weights(&heavier));
                let up = ranges[0].high >= ranges[0].low;
                let follows = if up { then[0] >= told[0] } else { then[0] <= told[0] };
                prop_assert!(follows);
                // nothing but the weights' proportions counts
                let scaled: Vec<f64> = raw.iter().map(|w| w * 4.0).collect();
                prop_assert_eq!(rule.targets(&ranges, decimals, &weights(&scaled)), told);
            }
        }

        #[test]
        fn linf_reaches_every_choice_that_leaves_one_objective_at_its_best(
            scores in prop::collection::vec(1i8..=5, 1..6),
            best in 0usize..5,
        ) {
            let count = scores.len();
            let mut wanted: Vec<i64> = scores.iter().map(|score| i64::from(*score)).collect();
            wanted[best % count] = 5;
            let share = |score: &i64| (score - 1) as f64 / 4.0 / count as f64;
            let mut raw: Vec<f64> = wanted.iter().map(share).collect();
            raw[best % count] += 1.0 - raw.iter().sum::<f64>();
            let ranges = vec![TargetRange { low: 1.0, high: 5.0 }; count];
            prop_assert_eq!(TargetRule::Linf.targets(&ranges, 0, &weights(&raw)), wanted);
        }

        #[test]
        fn all_weight_on_one_objective_asks_for_all_of_it_and_nothing_else(
            chosen in 0usize..4,
            ends in prop::collection::vec((-9i8..9, -9i8..9), 4),
        ) {
            let ranges: Vec<TargetRange> = ends
                .iter()
                .map(|(low, high)| TargetRange { low: f32::from(*low), high: f32::from(*high) })
                .collect();
            let raw: Vec<f64> = (0..4).map(|i| f64::from(u8::from(i == chosen))).collect();
            for rule in RULES {
                let told = rule.targets(&ranges, 0, &weights(&raw));
                for (i, (unit, (low, high))) in told.iter().zip(&ends).enumerate() {
                    let expected = if i == chosen { high } else { low };
                    prop_assert_eq!(*unit, i64::from(*expected));
                }
            }
        }
    }
}
