//! Pareto fronts and the volume they dominate, for any number of objectives; higher is better.

/// Whether `a` is at least as good as `b` everywhere and better somewhere.
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(x, y)| x >= y) && a.iter().zip(b).any(|(x, y)| x > y)
}

/// Which points no other point dominates, in order. Equal points are all on the front.
pub fn front(points: &[Vec<f64>]) -> Vec<usize> {
    (0..points.len())
        .filter(|&i| !points.iter().any(|other| dominates(other, &points[i])))
        .collect()
}

/// Volume of what the points dominate above `reference`. Points that are not better than the
/// reference on every objective add nothing. Exact: a sweep in two dimensions, slices above.
pub fn hypervolume(points: &[Vec<f64>], reference: &[f64]) -> f64 {
    let inside = points
        .iter()
        .filter(|point| point.iter().zip(reference).all(|(x, z)| x > z))
        .map(|point| point.iter().zip(reference).map(|(x, z)| x - z).collect())
        .collect();
    volume(inside)
}

/// Volume above the origin of points that are positive everywhere.
fn volume(points: Vec<Vec<f64>>) -> f64 {
    match points.first().map(Vec::len) {
        None | Some(0) => 0.0,
        Some(1) => points.iter().map(|p| p[0]).fold(0.0, f64::max),
        Some(2) => area(points),
        Some(_) => slices(points),
    }
}

/// From the best first objective downwards, each point adds the rectangle above the height so far.
fn area(mut points: Vec<Vec<f64>>) -> f64 {
    points.sort_by(|a, b| b[0].total_cmp(&a[0]));
    let (mut total, mut height) = (0.0, 0.0);
    for point in points {
        if point[1] > height {
            total += point[0] * (point[1] - height);
            height = point[1];
        }
    }
    total
}

/// Cuts along the last objective: between two neighbouring values, the points at or above the
/// upper one dominate one dimension less.
fn slices(mut points: Vec<Vec<f64>>) -> f64 {
    let last = points[0].len() - 1;
    points.sort_by(|a, b| b[last].total_cmp(&a[last]));
    let mut total = 0.0;
    for i in 0..points.len() {
        let below = points.get(i + 1).map_or(0.0, |next| next[last]);
        let thickness = points[i][last] - below;
        if thickness > 0.0 {
            let above: Vec<Vec<f64>> = points[..=i].iter().map(|p| p[..last].to_vec()).collect();
            let kept = front(&above)
                .into_iter()
                .map(|i| above[i].clone())
                .collect();
            total += thickness * volume(kept);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn check(points: &[&[f64]], reference: &[f64], expected: f64) {
        let points: Vec<Vec<f64>> = points.iter().map(|p| p.to_vec()).collect();
        let actual = hypervolume(&points, reference);
        assert!(
            (actual - expected).abs() < 1e-9,
            "{actual} is not {expected}"
        );
    }

    #[test]
    fn areas_counted_by_hand() {
        check(&[&[2.0, 3.0]], &[0.0, 0.0], 6.0);
        check(&[&[3.0, 1.0], &[2.0, 2.0], &[1.0, 3.0]], &[0.0, 0.0], 6.0);
        check(&[&[3.0, 1.0], &[2.0, 2.0], &[1.0, 1.0]], &[0.0, 0.0], 5.0);
        check(&[&[0.0, 0.0], &[2.0, -2.0]], &[-1.0, -1.0], 1.0);
        check(&[], &[0.0, 0.0], 0.0);
    }

    #[test]
    fn volumes_counted_by_hand() {
        check(&[&[2.0, 2.0, 2.0]], &[0.0; 3], 8.0);
        // 2*1*1 + 1*2*1 + 1*1*2 minus the shared unit cube twice.
        check(
            &[&[2.0, 1.0, 1.0], &[1.0, 2.0, 1.0], &[1.0, 1.0, 2.0]],
            &[0.0; 3],
            4.0,
        );
        check(
            &[&[1.0, 1.0, 1.0, 3.0], &[1.0, 1.0, 1.0, 1.0]],
            &[0.0; 4],
            3.0,
        );
    }

    #[test]
    fn slices_agree_with_counting_random_darts() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let points: Vec<Vec<f64>> = (0..12)
            .map(|_| (0..3).map(|_| rng.random::<f64>()).collect())
            .collect();
        let darts = 200_000;
        let hits = (0..darts)
            .filter(|_| {
                let dart: Vec<f64> = (0..3).map(|_| rng.random()).collect();
                points
                    .iter()
                    .any(|p| p.iter().zip(&dart).all(|(x, d)| x >= d))
            })
            .count();
        let counted = hits as f64 / f64::from(darts);
        let exact = hypervolume(&points, &[0.0; 3]);
        assert!((exact - counted).abs() < 5e-3, "{exact} against {counted}");
    }

    #[test]
    fn the_front_keeps_equal_points_and_drops_dominated_ones() {
        let points: Vec<Vec<f64>> = [[1.0, 3.0], [2.0, 2.0], [2.0, 2.0], [1.0, 2.0], [3.0, 1.0]]
            .map(Vec::from)
            .to_vec();
        assert_eq!(front(&points), [0, 1, 2, 4]);
    }
}
