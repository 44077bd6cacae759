//! What is held of a user's weights before any choice.

/// A stated weight counts as at least this much of their sum: nobody is so sure of nothing.
const LEAST: f64 = 0.1;

/// A Dirichlet distribution over weights, all of whose parameters are at least 1, so that its density
/// is log-concave and bounded.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightPrior {
    alpha: Vec<f64>,
}

impl WeightPrior {
    /// All weights are equally likely: Dirichlet(1).
    pub fn uniform(objectives: usize) -> Self {
        Self {
            alpha: vec![1.0; objectives],
        }
    }

    /// The weakest whose mean are these weights, up to their sum and up to weights that hold less
    /// than 0.1 of it. Equal weights give [`Self::uniform`], and so do weights that no mean can be:
    /// negative ones, or none above zero.
    ///
    /// ```
    /// use steersman::steering::WeightPrior;
    /// assert_eq!(WeightPrior::around(&[0.75, 0.25]).alpha(), [3.0, 1.0]);
    /// assert_eq!(WeightPrior::around(&[2.0, 2.0]), WeightPrior::uniform(2));
    /// ```
    pub fn around(weights: &[f64]) -> Self {
        let sum: f64 = weights.iter().sum();
        if weights.iter().any(|weight| *weight < 0.0) || !(sum > 0.0 && sum.is_finite()) {
            return Self::uniform(weights.len());
        }
        let counted: Vec<f64> = weights.iter().map(|w| (w / sum).max(LEAST)).collect();
        let least = counted.iter().copied().fold(f64::INFINITY, f64::min);
        Self {
            alpha: counted.iter().map(|weight| weight / least).collect(),
        }
    }

    /// Its parameters, one an objective.
    pub fn alpha(&self) -> &[f64] {
        &self.alpha
    }

    /// The mean weights; they sum to 1.
    pub(super) fn mean(&self) -> Vec<f64> {
        let sum: f64 = self.alpha.iter().sum();
        self.alpha.iter().map(|alpha| alpha / sum).collect()
    }

    /// The logarithm of its density at weights that sum to 1, but for a constant.
    pub(super) fn log_density(&self, weights: impl IntoIterator<Item = f64>) -> f64 {
        let each = self.alpha.iter().zip(weights);
        each.filter(|(alpha, _)| **alpha > 1.0)
            .map(|(alpha, weight)| (alpha - 1.0) * weight.max(0.0).ln())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stated_weights_are_its_mean() {
        for weights in [vec![0.7, 0.3], vec![0.2, 0.5, 0.3], vec![0.1, 0.9]] {
            let prior = WeightPrior::around(&weights);
            for (mean, weight) in prior.mean().iter().zip(&weights) {
                assert!((mean - weight).abs() < 1e-12, "{prior:?}");
            }
            assert!(prior.alpha().iter().all(|alpha| *alpha >= 1.0));
        }
        // nothing is not held for certain
        assert_eq!(WeightPrior::around(&[3.0, 0.0]).alpha(), [10.0, 1.0]);
    }

    #[test]
    fn what_is_no_mean_says_nothing() {
        for weights in [vec![0.0, 0.0], vec![1.5, -0.5], vec![f64::INFINITY, 1.0]] {
            assert_eq!(WeightPrior::around(&weights), WeightPrior::uniform(2));
        }
        assert_eq!(WeightPrior::around(&[]), WeightPrior::uniform(0));
    }

    #[test]
    fn its_density_is_dirichlets() {
        let prior = WeightPrior::around(&[0.75, 0.25]);
        let density = |first: f64| prior.log_density([first, 1.0 - first]).exp();
        assert!((density(0.5) / density(1.0) - 0.25).abs() < 1e-12);
        assert_eq!(density(0.0), 0.0);
        let flat = WeightPrior::uniform(2).log_density([0.0, 1.0]);
        assert_eq!(flat, 0.0);
    }
}
