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

/// Draws that weights which suit an answer are chosen from.
const CANDIDATES: usize = 16;

impl WeightDraw {
    /// Weights in hindsight: those under which an answer with these scores is a good one. Of
    /// several draws w one is chosen with probability in proportion to exp(lean w.s), so that
    /// under weights w the answers seen in training follow exp(lean w.s) as well; a lean of 0 is
    /// `draw`.
    pub fn draw_in_hindsight(&self, scores: &[f32], lean: f32, rng: &mut impl Rng) -> WeightVector {
        let mut drawn: Vec<_> = (0..CANDIDATES)
            .map(|_| self.draw(scores.len(), rng))
            .collect();
        let utilities: Vec<f32> = drawn.iter().map(|w| lean * w.dot(scores)).collect();
        let highest = utilities.iter().copied().fold(f32::MIN, f32::max);
        let shares: Vec<f32> = utilities.iter().map(|u| (u - highest).exp()).collect();
        let mut left = rng.random::<f32>() * shares.iter().sum::<f32>();
        let chosen = shares.iter().position(|share| {
            left -= share;
            left <= 0.0
        });
        drawn.swap_remove(chosen.unwrap_or(0))
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

    #[test]
    fn hindsight_leans_towards_what_an_answer_is_good_at() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let draw = WeightDraw::default();
        let mut mean = |lean: f32| {
            let drawn = (0..2000).map(|_| draw.draw_in_hindsight(&[1.0, 0.0], lean, &mut rng));
            drawn.map(|w| w.as_slice()[0]).sum::<f32>() / 2000.0
        };
        assert!((mean(0.0) - 0.5).abs() < 0.03);
        assert!(mean(2.0) > 0.6 && mean(2.0) < 0.8);
        assert!(mean(1000.0) > 0.98);
    }
}
