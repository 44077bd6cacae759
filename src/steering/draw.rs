//! Random weights for training: spread over the simplex, with its corners and centre assured.

use rand::Rng;
use rand_distr::{Distribution, Gamma};
use serde::{Deserialize, Serialize};

use super::WeightVector;

/// How weights are drawn: Dirichlet, mixed with one-hot and equal weights.
///
/// A plain Dirichlet almost never visits the corners once there are several objectives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeightDraw {
    /// Concentration of the Dirichlet; below 0.3 nearly all draws are corners.
    pub alpha: f32,
    /// Share of draws with all weight on one objective.
    pub share_one_hot: f32,
    /// Share of draws with equal weights.
    pub share_equal: f32,
}

impl Default for WeightDraw {
    fn default() -> Self {
        Self {
            alpha: 1.0,
            share_one_hot: 0.2,
            share_equal: 0.1,
        }
    }
}

impl WeightDraw {
    /// Weights of `k` objectives.
    pub fn draw(&self, k: usize, rng: &mut impl Rng) -> WeightVector {
        let kind: f32 = rng.random();
        let equal = || WeightVector::on_simplex((0..k).map(|_| 1.0 / k as f64));
        if kind < self.share_one_hot {
            let chosen = rng.random_range(0..k);
            let shares = (0..k).map(|i| f64::from(u8::from(i == chosen)));
            return WeightVector::on_simplex(shares);
        }
        if kind < self.share_one_hot + self.share_equal {
            return equal();
        }
        let Ok(gamma) = Gamma::new(f64::from(self.alpha.max(0.01)), 1.0) else {
            return equal();
        };
        let draws: Vec<f64> = (0..k).map(|_| gamma.sample(rng)).collect();
        let total: f64 = draws.iter().sum();
        if total > 0.0 {
            WeightVector::on_simplex(draws.into_iter().map(|draw| draw / total))
        } else {
            equal()
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn draws_hit_corners_and_centre_as_often_as_asked() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let draw = WeightDraw::default();
        let (mut corners, mut centres, mut mean) = (0, 0, 0.0);
        for _ in 0..4000 {
            let weights = draw.draw(3, &mut rng);
            let sum: f32 = weights.as_slice().iter().sum();
            assert!((sum - 1.0).abs() < 1e-5 && weights.as_slice().iter().all(|w| *w >= 0.0));
            corners += usize::from(weights.as_slice().contains(&1.0));
            centres += usize::from(
                weights
                    .as_slice()
                    .iter()
                    .all(|w| (w - 1.0 / 3.0).abs() < 1e-6),
            );
            mean += weights.as_slice()[0] / 4000.0;
        }
        assert!(
            (700..900).contains(&corners),
            "{corners} corners of 800 expected"
        );
        assert!(
            (330..470).contains(&centres),
            "{centres} centres of 400 expected"
        );
        assert!(
            (mean - 1.0 / 3.0).abs() < 0.03,
            "mean of the first weight {mean}"
        );
    }
}
