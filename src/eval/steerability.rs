//! Does the policy do what the weights say: how rewards answer to weights along a grid.

use serde::{Deserialize, Serialize};

use super::stats::{deviation, kendall, mean, spearman};

/// How one number answers to one objective's weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// Rank correlation of the weight and the mean over prompts, over the grid's points.
    pub spearman: Option<f64>,
    /// Kendall's tau-b of the same.
    pub kendall: Option<f64>,
    /// Rank correlation of the weight and the single answers' values.
    pub spearman_answers: Option<f64>,
    /// Share of the steps between neighbouring weights at which the mean falls.
    pub monotone_violations: f64,
    /// Mean at the highest weight minus mean at the lowest.
    pub range: f64,
    /// The range over the mean deviation of answers at one weight; above 1 the weight shows in a
    /// single answer.
    pub range_over_deviation: f64,
}

/// Measures a response. `values` holds, for each point, one value per prompt.
pub fn response(weights: &[f64], values: &[Vec<f64>]) -> Response {
    let means: Vec<f64> = values.iter().map(|values| mean(values)).collect();
    let (mut each_weight, mut each_value) = (Vec::new(), Vec::new());
    for (weight, values) in weights.iter().zip(values) {
        each_weight.extend(std::iter::repeat_n(*weight, values.len()));
        each_value.extend(values);
    }
    let curve = by_weight(weights, &means);
    let falls = curve
        .windows(2)
        .filter(|pair| pair[1].1 < pair[0].1)
        .count();
    let range = match (curve.first(), curve.last()) {
        (Some(low), Some(high)) => high.1 - low.1,
        _ => 0.0,
    };
    let spread = mean(
        &values
            .iter()
            .map(|values| deviation(values))
            .collect::<Vec<_>>(),
    );
    Response {
        spearman: spearman(weights, &means),
        kendall: kendall(weights, &means),
        spearman_answers: spearman(&each_weight, &each_value),
        monotone_violations: falls as f64 / curve.len().saturating_sub(1).max(1) as f64,
        range,
        range_over_deviation: if spread > 0.0 { range / spread } else { 0.0 },
    }
}

/// Mean value at each different weight, in order of the weights: on a simplex of three or more
/// objectives many points share one objective's weight.
pub fn by_weight(weights: &[f64], values: &[f64]) -> Vec<(f64, f64)> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[a].total_cmp(&weights[b]));
    let mut curve: Vec<(f64, Vec<f64>)> = Vec::new();
    for i in order {
        match curve.last_mut() {
            Some((weight, group)) if (weights[i] - *weight).abs() < 1e-6 => group.push(values[i]),
            _ => curve.push((weights[i], vec![values[i]])),
        }
    }
    curve
        .into_iter()
        .map(|(weight, group)| (weight, mean(&group)))
        .collect()
}

/// Mean realised score: the average over points of the weights times the mean rewards there.
pub fn mean_inner_product(weights: &[Vec<f64>], rewards: &[Vec<f64>]) -> f64 {
    let score = |(w, r): (&Vec<f64>, &Vec<f64>)| w.iter().zip(r).map(|(w, r)| w * r).sum();
    mean(&weights.iter().zip(rewards).map(score).collect::<Vec<f64>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_follows_its_weights() {
        let weights = [0.0, 0.5, 1.0];
        let values = [vec![0.0, 2.0], vec![1.0, 3.0], vec![3.0, 5.0]];
        let response = response(&weights, &values);
        assert_eq!(response.spearman, Some(1.0));
        assert_eq!(response.kendall, Some(1.0));
        assert_eq!((response.monotone_violations, response.range), (0.0, 3.0));
        // Every point's deviation is 1.
        assert_eq!(response.range_over_deviation, 3.0);
    }

    #[test]
    fn a_policy_that_ignores_them() {
        let response = response(&[0.0, 0.5, 1.0], &[vec![1.0], vec![1.0], vec![1.0]]);
        assert_eq!((response.spearman, response.kendall), (None, None));
        assert_eq!((response.monotone_violations, response.range), (0.0, 0.0));
    }

    #[test]
    fn a_fall_in_the_middle_is_one_violation_of_three() {
        let response = response(
            &[0.0, 0.3, 0.6, 1.0],
            &[vec![0.0], vec![2.0], vec![1.0], vec![3.0]],
        );
        assert!((response.monotone_violations - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn points_that_share_a_weight_are_averaged() {
        let curve = by_weight(&[0.5, 0.0, 0.5], &[1.0, 7.0, 3.0]);
        assert_eq!(curve, [(0.0, 7.0), (0.5, 2.0)]);
    }

    #[test]
    fn the_mean_inner_product_by_hand() {
        let weights = [vec![1.0, 0.0], vec![0.5, 0.5]];
        let rewards = [vec![2.0, 9.0], vec![1.0, 3.0]];
        assert_eq!(mean_inner_product(&weights, &rewards), 2.0);
    }
}
