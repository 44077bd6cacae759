//! Objective weights on the simplex, and their canonical rounding.

use serde::Serialize;

use super::WeightError;

/// Objective weights in the order of their `ObjectiveSet`: non-negative, finite, of sum 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeightVector(Vec<f32>);

impl WeightVector {
    /// From shares that the caller has already checked and normalised.
    pub(super) fn on_simplex(shares: impl Iterator<Item = f64>) -> Self {
        Self(shares.map(|share| share as f32 + 0.0).collect())
    }

    /// The weights.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// Weighted sum of one number an objective.
    pub fn dot(&self, values: &[f32]) -> f32 {
        self.0
            .iter()
            .zip(values)
            .map(|(weight, value)| weight * value)
            .sum()
    }

    /// Whole units of `10^-decimals` that add up to one, by largest remainder; of equal
    /// remainders the earlier objective's is rounded up.
    pub fn units(&self, decimals: u32) -> Vec<u32> {
        let scale = 10u32.pow(decimals);
        let exact: Vec<f64> = self
            .0
            .iter()
            .map(|w| f64::from(*w) * f64::from(scale))
            .collect();
        let mut units: Vec<u32> = exact.iter().map(|x| (x + 1e-4).floor() as u32).collect();
        let mut order: Vec<usize> = (0..units.len()).collect();
        // in ten-thousandths, so that what f32 cannot hold decides nothing
        let rest = |i: &usize| ((exact[*i] - f64::from(units[*i])) * 1e4).round() as i64;
        order.sort_by(|a, b| rest(b).cmp(&rest(a)).then(a.cmp(b)));
        let missing = scale.saturating_sub(units.iter().sum());
        for index in order.into_iter().cycle().take(missing as usize) {
            units[index] += 1;
        }
        units
    }

    /// The weights as the policy is told them.
    pub fn rounded(&self, decimals: u32) -> Self {
        let scale = f64::from(10u32.pow(decimals));
        Self::on_simplex(
            self.units(decimals)
                .into_iter()
                .map(|units| f64::from(units) / scale),
        )
    }
}

/// Reads `helpfulness=0.7,harmlessness=0.3`.
pub fn parse_pairs(text: &str) -> Result<Vec<(String, f64)>, WeightError> {
    let syntax = || WeightError::Syntax {
        text: text.chars().take(120).collect(),
    };
    text.split(',')
        .map(|pair| {
            let (name, weight) = pair.split_once('=').ok_or_else(syntax)?;
            let weight = weight.trim().parse::<f64>().map_err(|_| syntax())?;
            Ok((name.trim().to_owned(), weight))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn thirds_round_to_tenths_that_add_up() {
        let weights = WeightVector::on_simplex([1.0 / 3.0; 3].into_iter());
        assert_eq!(weights.units(1), [4, 3, 3]);
        assert_eq!(
            WeightVector::on_simplex([0.7, 0.3].into_iter()).units(1),
            [7, 3]
        );
        assert_eq!(
            WeightVector::on_simplex([0.65, 0.35].into_iter()).units(1),
            [7, 3]
        );
    }

    proptest! {
        #[test]
        fn rounding_adds_up_stays_close_and_is_idempotent(
            raw in prop::collection::vec(0.0f64..1.0, 1..8),
            decimals in 0u32..4,
        ) {
            let total: f64 = raw.iter().sum();
            prop_assume!(total > 1e-6);
            let weights = WeightVector::on_simplex(raw.iter().map(|w| w / total));
            let units = weights.units(decimals);
            let scale = 10u32.pow(decimals);
            prop_assert_eq!(units.iter().sum::<u32>(), scale);
            for (unit, weight) in units.iter().zip(weights.as_slice()) {
                prop_assert!((f64::from(*unit) - f64::from(*weight * scale as f32)).abs() < 1.001);
            }
            prop_assert_eq!(weights.rounded(decimals).units(decimals), units);
        }
    }
}
