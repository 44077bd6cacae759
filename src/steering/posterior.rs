//! What a user's choices say of the weights they would want: Bradley-Terry on the simplex.
//!
//! Of two answers whose normalised rewards differ by `d` (chosen minus rejected, one number an
//! objective), a user with weights `w` prefers the first with probability `sigmoid(w . d)`. Before
//! any choice a Dirichlet prior holds. Two objectives are integrated on a grid; more are sampled, with
//! a fixed seed, so that the same choices give the same weights.
//!
//! Source of the model: a user's reward as a mix of base rewards, arXiv 2503.06358; the next pair
//! is the one with the largest mutual information between choice and weights.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::{WeightPrior, WeightVector};

/// Points of the grid on the first of two weights.
const GRID: usize = 2001;
/// Draws that stand for the posterior of three and more weights.
const DRAWS: usize = 2000;
/// Draws before the first that counts.
const WARM_UP: usize = 200;
const SEED: u64 = 0x5eed;
/// What one interval leaves out, half on each side.
const OUTSIDE: f64 = 0.1;

/// Which of two answers, by their places in a list, and what a choice between them would tell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Question {
    /// Place of the one.
    pub first: usize,
    /// Place of the other.
    pub second: usize,
    /// Expected information about the weights, in bits; at most 1.
    pub bits: f64,
}

/// How likely each weight vector is after some choices.
#[derive(Debug, Clone)]
pub struct WeightPosterior {
    /// Weight vectors, one after the other.
    points: Vec<f64>,
    /// The probability of each; sums to 1.
    mass: Vec<f64>,
    objectives: usize,
}

impl WeightPosterior {
    /// The posterior of as many weights as the prior has. Each choice is the difference of the
    /// normalised rewards, chosen minus rejected, one number an objective.
    ///
    /// ```
    /// use steersman::steering::{WeightPosterior, WeightPrior};
    /// // five times the answer was chosen that is better by the first objective alone
    /// let prior = WeightPrior::uniform(2);
    /// let posterior = WeightPosterior::of(&prior, &vec![vec![1.0, -1.0]; 5]);
    /// assert!(posterior.mean().as_slice()[0] > 0.7);
    /// let (low, high) = posterior.intervals()[0];
    /// assert!(low > 0.3 && high > 0.95);
    /// ```
    pub fn of(prior: &WeightPrior, choices: &[Vec<f64>]) -> Self {
        let objectives = prior.alpha().len();
        match objectives {
            0 | 1 => Self {
                points: vec![1.0; objectives],
                mass: vec![1.0; objectives],
                objectives,
            },
            2 => Self::on_grid(prior, choices),
            _ => Self::drawn(prior, choices),
        }
    }

    fn on_grid(prior: &WeightPrior, choices: &[Vec<f64>]) -> Self {
        let points: Vec<f64> = (0..GRID)
            .flat_map(|i| {
                // midpoints of equal cells
                let first = (i as f64 + 0.5) / GRID as f64;
                [first, 1.0 - first]
            })
            .collect();
        let logs: Vec<f64> = points
            .chunks_exact(2)
            .map(|w| {
                let told = choices.iter().map(|d| log_sigmoid(dot(w, d)));
                prior.log_density(w.iter().copied()) + told.sum::<f64>()
            })
            .collect();
        let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let raw: Vec<f64> = logs.iter().map(|log| (log - top).exp()).collect();
        let total: f64 = raw.iter().sum();
        Self {
            points,
            mass: raw.into_iter().map(|m| m / total).collect(),
            objectives: 2,
        }
    }

    /// Hit and run: from each point a random direction within the simplex, and along it a slice
    /// sample (Neal 2003, with shrinkage). Needs no step size, however narrow the posterior is.
    fn drawn(prior: &WeightPrior, choices: &[Vec<f64>]) -> Self {
        let objectives = prior.alpha().len();
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let mut chain = Chain::start(prior, choices);
        let mut points = Vec::with_capacity(DRAWS * objectives);
        for step in 0..WARM_UP + DRAWS {
            // as many moves a draw as there are directions, so that draws are nearly independent
            for _ in 1..objectives {
                chain.step(&mut rng);
            }
            if step >= WARM_UP {
                points.extend_from_slice(&chain.weights);
            }
        }
        Self {
            points,
            mass: vec![1.0 / DRAWS as f64; DRAWS],
            objectives,
        }
    }

    fn weighted(&self) -> impl Iterator<Item = (&[f64], f64)> {
        let points = self.points.chunks_exact(self.objectives.max(1));
        points.zip(self.mass.iter().copied())
    }

    /// The mean weights.
    pub fn mean(&self) -> WeightVector {
        let mut mean = vec![0.0; self.objectives];
        for (point, mass) in self.weighted() {
            for (sum, weight) in mean.iter_mut().zip(point) {
                *sum += mass * weight;
            }
        }
        let total: f64 = mean.iter().sum();
        WeightVector::on_simplex(mean.into_iter().map(|weight| weight / total))
    }

    /// Per objective the interval that holds its weight with probability 0.9, as much being left
    /// out below as above.
    pub fn intervals(&self) -> Vec<(f64, f64)> {
        (0..self.objectives)
            .map(|objective| {
                let mut marginal: Vec<(f64, f64)> = self
                    .weighted()
                    .map(|(point, mass)| (point[objective], mass))
                    .collect();
                marginal.sort_by(|a, b| a.0.total_cmp(&b.0));
                (
                    quantile(&marginal, OUTSIDE / 2.0),
                    quantile(&marginal, 1.0 - OUTSIDE / 2.0),
                )
            })
            .collect()
    }

    /// Expected information, in bits, of a choice between two answers whose normalised rewards
    /// differ by `difference`: how much the forecasts of likely weights disagree about it.
    pub fn information(&self, difference: &[f64]) -> f64 {
        let (mut forecast, mut spent) = (0.0, 0.0);
        for (point, mass) in self.weighted() {
            let p = sigmoid(dot(point, difference));
            forecast += mass * p;
            spent += mass * entropy(p);
        }
        (entropy(forecast) - spent).max(0.0)
    }

    /// The pair of candidates whose comparison would tell most; `None` for fewer than two. Each
    /// candidate is its normalised rewards. Of equals the earlier pair is taken.
    pub fn next_question(&self, candidates: &[Vec<f64>]) -> Option<Question> {
        let mut best: Option<Question> = None;
        for second in 1..candidates.len() {
            for first in 0..second {
                let pair = candidates[first].iter().zip(&candidates[second]);
                let difference: Vec<f64> = pair.map(|(a, b)| a - b).collect();
                let bits = self.information(&difference);
                if best.is_none_or(|question| bits > question.bits) {
                    best = Some(Question {
                        first,
                        second,
                        bits,
                    });
                }
            }
        }
        best
    }
}

/// A walk over the simplex.
struct Chain<'a> {
    weights: Vec<f64>,
    prior: &'a WeightPrior,
    choices: &'a [Vec<f64>],
    /// `w . d` of each choice.
    margins: Vec<f64>,
}

impl<'a> Chain<'a> {
    fn start(prior: &'a WeightPrior, choices: &'a [Vec<f64>]) -> Self {
        let weights = prior.mean();
        let margins = choices.iter().map(|d| dot(&weights, d)).collect();
        Self {
            weights,
            prior,
            choices,
            margins,
        }
    }

    fn step(&mut self, rng: &mut ChaCha8Rng) {
        let direction = self.direction(rng);
        let slopes: Vec<f64> = self.choices.iter().map(|d| dot(&direction, d)).collect();
        let log_at = |t: f64| -> f64 {
            let margins = self.margins.iter().zip(&slopes);
            let told = margins.map(|(m, slope)| log_sigmoid(m + t * slope));
            let weights = self.weights.iter().zip(&direction);
            self.prior
                .log_density(weights.map(|(weight, way)| weight + t * way))
                + told.sum::<f64>()
        };
        let (mut low, mut high) = self.reach(&direction);
        let level = log_at(0.0) + (1.0 - rng.random::<f64>()).ln();
        let t = loop {
            let t = low + (high - low) * rng.random::<f64>();
            // 0 itself is always on the slice, so the interval cannot shrink for ever
            if log_at(t) >= level || high - low < 1e-12 {
                break t;
            }
            if t < 0.0 { low = t } else { high = t }
        };
        for (weight, way) in self.weights.iter_mut().zip(&direction) {
            *weight = (*weight + t * way).max(0.0);
        }
        for (margin, slope) in self.margins.iter_mut().zip(&slopes) {
            *margin += t * slope;
        }
    }

    /// Uniform among the directions that keep the sum.
    fn direction(&self, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let count = self.weights.len();
        let mut direction: Vec<f64> = (0..count).map(|_| StandardNormal.sample(rng)).collect();
        let mean = direction.iter().sum::<f64>() / count as f64;
        direction.iter_mut().for_each(|way| *way -= mean);
        direction
    }

    /// How far one can go both ways before a weight is negative.
    fn reach(&self, direction: &[f64]) -> (f64, f64) {
        let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
        for (weight, way) in self.weights.iter().zip(direction) {
            if *way > 0.0 {
                low = low.max(-weight / way);
            } else if *way < 0.0 {
                high = high.min(-weight / way);
            }
        }
        // only a direction of zeros, which a normal draw never is, has no bounds
        match low.is_finite() && high.is_finite() {
            true => (low, high),
            false => (0.0, 0.0),
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Without overflow or cancellation at either end.
fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// Of a coin, in bits.
fn entropy(p: f64) -> f64 {
    let part = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    part(p) + part(1.0 - p)
}

/// The value below which `share` of the mass lies; values are sorted.
fn quantile(sorted: &[(f64, f64)], share: f64) -> f64 {
    let mut below = 0.0;
    for (value, mass) in sorted {
        below += mass;
        if below >= share {
            return *value;
        }
    }
    sorted.last().map_or(1.0, |(value, _)| *value)
}

#[cfg(test)]
mod tests;
