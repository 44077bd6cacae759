//! Puts rewards of different scales on one: z-scores with frozen statistics, clipped.
//!
//! Fit once on answers of the starting policy, then never again: a moving scale would change what
//! the objective weights mean while the policy learns them.

use serde::{Deserialize, Serialize};

use super::RewardError;
use crate::steering::NormalizerStats;

/// How far from the mean a normalised reward may lie, in standard deviations.
const DEFAULT_CLIP: f32 = 3.0;

/// Frozen statistics of one reward.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalizer {
    /// Mean of the samples it was fit on.
    pub mean: f32,
    /// Their standard deviation (over n), above 0.
    pub std: f32,
    /// Normalised values lie in `[-clip, clip]`.
    pub clip: f32,
}

impl Normalizer {
    /// Checked statistics: finite, `std` and `clip` above 0.
    pub fn new(mean: f32, std: f32, clip: f32) -> Result<Self, RewardError> {
        let fail = |reason: String| Err(RewardError::Normalizer(reason));
        if !mean.is_finite() {
            return fail(format!("mean is {mean}, expected a finite number"));
        }
        for (name, value) in [("std", std), ("clip", clip)] {
            if !(value.is_finite() && value > 0.0) {
                return fail(format!(
                    "{name} is {value}, expected a finite number above 0"
                ));
            }
        }
        Ok(Self { mean, std, clip })
    }

    /// Mean and standard deviation of `samples`, clip 3. Samples that are all equal are refused:
    /// such a reward cannot tell one answer from another.
    pub fn fit(samples: &[f32]) -> Result<Self, RewardError> {
        if samples.len() < 2 {
            let count = samples.len();
            return Err(RewardError::Normalizer(format!(
                "{count} samples, expected at least 2"
            )));
        }
        let count = samples.len() as f64;
        let mean = samples.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let variance = samples
            .iter()
            .map(|&x| (f64::from(x) - mean).powi(2))
            .sum::<f64>()
            / count;
        if samples.iter().all(|x| *x == samples[0]) {
            return Err(RewardError::Normalizer(format!(
                "all {} samples are {}; the reward does not tell answers apart",
                samples.len(),
                samples[0]
            )));
        }
        Self::new(mean as f32, variance.sqrt() as f32, DEFAULT_CLIP)
    }

    /// The z-score of one reward, clipped.
    pub fn apply(&self, reward: f32) -> f32 {
        ((reward - self.mean) / self.std).clamp(-self.clip, self.clip)
    }
}

impl From<Normalizer> for NormalizerStats {
    fn from(Normalizer { mean, std, clip }: Normalizer) -> Self {
        Self { mean, std, clip }
    }
}

impl TryFrom<NormalizerStats> for Normalizer {
    type Error = RewardError;

    fn try_from(NormalizerStats { mean, std, clip }: NormalizerStats) -> Result<Self, Self::Error> {
        Self::new(mean, std, clip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fitted_samples_come_out_with_mean_0_and_deviation_1() {
        let samples = [1.0, 2.0, 3.0, 6.0];
        let normalizer = Normalizer::fit(&samples).unwrap();
        let out: Vec<f32> = samples.iter().map(|&x| normalizer.apply(x)).collect();
        let mean = out.iter().sum::<f32>() / 4.0;
        let variance = out.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 4.0;
        assert!(
            mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-5,
            "{out:?}"
        );
    }

    #[test]
    fn far_values_are_clipped_to_3() {
        let normalizer = Normalizer::new(0.0, 1.0, 3.0).unwrap();
        assert_eq!(normalizer.apply(100.0), 3.0);
        assert_eq!(normalizer.apply(-100.0), -3.0);
        assert_eq!(normalizer.apply(2.5), 2.5);
    }

    #[test]
    fn unusable_statistics_are_refused() {
        assert!(Normalizer::fit(&[1.0]).is_err());
        assert!(Normalizer::fit(&[2.0, 2.0, 2.0]).is_err());
        assert!(Normalizer::fit(&[1.0, f32::NAN]).is_err());
        assert!(Normalizer::new(0.0, 0.0, 3.0).is_err());
        assert!(Normalizer::new(0.0, 1.0, f32::INFINITY).is_err());
    }
}
