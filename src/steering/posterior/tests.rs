//! Simulated users whose weights are known: are they found, and are the intervals honest?

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::*;
use crate::steering::{WeightDraw, WeightPrior};

/// Rewards of answers, normal and independent.
fn answers(count: usize, objectives: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
    let answer = |rng: &mut ChaCha8Rng| {
        (0..objectives)
            .map(|_| StandardNormal.sample(rng))
            .collect()
    };
    (0..count).map(|_| answer(rng)).collect()
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// The choice of a user with these weights, as the difference of chosen and rejected.
fn choose(weights: &[f64], pair: &[Vec<f64>], rng: &mut ChaCha8Rng) -> Vec<f64> {
    let first = difference(&pair[0], &pair[1]);
    match rng.random::<f64>() < sigmoid(dot(weights, &first)) {
        true => first,
        false => first.iter().map(|d| -d).collect(),
    }
}

fn choices(weights: &[f64], count: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
    (0..count)
        .map(|_| {
            let pair = answers(2, weights.len(), rng);
            choose(weights, &pair, rng)
        })
        .collect()
}

fn distance(posterior: &WeightPosterior, weights: &[f64]) -> f64 {
    let mean = posterior.mean();
    let pairs = mean.as_slice().iter().zip(weights);
    pairs.map(|(a, b)| (f64::from(*a) - b).abs()).sum()
}

#[test]
fn weights_are_found_from_choices() {
    let check = |weights: &[f64], expected: f64| {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let few = WeightPosterior::of(
            &WeightPrior::uniform(weights.len()),
            &choices(weights, 10, &mut rng),
        );
        let many = WeightPosterior::of(
            &WeightPrior::uniform(weights.len()),
            &choices(weights, 1000, &mut rng),
        );
        let away = distance(&many, weights);
        assert!(away < expected, "{weights:?}: {away}, {:?}", many.mean());
        let width = |p: &WeightPosterior| p.intervals().iter().map(|(a, b)| b - a).sum::<f64>();
        assert!(width(&many) < width(&few) / 3.0);
    };
    check(&[0.8, 0.2], 0.16);
    check(&[0.1, 0.9], 0.16);
    check(&[0.6, 0.3, 0.1], 0.22);
    check(&[0.1, 0.1, 0.1, 0.7], 0.25);
}

#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let uniform = WeightDraw {
        alpha: 1.0,
        share_one_hot: 0.0,
        share_equal: 0.0,
    };
    for (objectives, users) in [(2, 300), (3, 60)] {
        let mut held = 0;
        for _ in 0..users {
            let drawn = uniform.draw(objectives, &mut rng);
            let weights: Vec<f64> = drawn.as_slice().iter().map(|w| f64::from(*w)).collect();
            let posterior = WeightPosterior::of(
                &WeightPrior::uniform(objectives),
                &choices(&weights, 15, &mut rng),
            );
            let intervals = posterior.intervals();
            held += intervals
                .iter()
                .zip(&weights)
                .filter(|(interval, w)| (interval.0..=interval.1).contains(*w))
                .count();
        }
        let share = held as f64 / (users * objectives) as f64;
        assert!((0.83..=0.97).contains(&share), "{objectives}: {share}");
    }
}

#[test]
fn without_choices_all_weights_are_equally_likely() {
    for objectives in [2, 3, 5] {
        let posterior = WeightPosterior::of(&WeightPrior::uniform(objectives), &[]);
        let centre = vec![1.0 / objectives as f64; objectives];
        assert!(distance(&posterior, &centre) < 0.05);
        // the first weight of Dirichlet(1) lies below q with probability 1 - (1 - q)^(k - 1)
        let tail = 1.0 / (objectives as f64 - 1.0);
        let (low, high) = posterior.intervals()[0];
        assert!((low - (1.0 - 0.95f64.powf(tail))).abs() < 0.02, "{low}");
        assert!((high - (1.0 - 0.05f64.powf(tail))).abs() < 0.04, "{high}");
    }
    let one = WeightPosterior::of(&WeightPrior::uniform(1), &[vec![2.0]]);
    assert_eq!(one.mean().as_slice(), [1.0]);
    assert_eq!(one.intervals(), [(1.0, 1.0)]);
}

#[test]
fn grid_and_walk_agree_where_both_can_be_used() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let seen = choices(&[0.7, 0.3], 40, &mut rng);
    for prior in [[0.5, 0.5], [0.2, 0.8], [1.0, 0.0]] {
        let prior = WeightPrior::around(&prior);
        for seen in [&seen[..], &[]] {
            let grid = WeightPosterior::on_grid(&prior, seen);
            let walk = WeightPosterior::drawn(&prior, seen);
            let mean: Vec<f64> = grid.mean().as_slice().iter().map(|w| (*w).into()).collect();
            assert!(distance(&walk, &mean) < 0.02, "{prior:?}");
            let ends = grid.intervals().into_iter().zip(walk.intervals());
            for ((a, b), (c, d)) in ends {
                assert!((a - c).abs() < 0.03 && (b - d).abs() < 0.03, "{prior:?}");
            }
        }
    }
}

#[test]
fn the_same_choices_give_the_same_weights() {
    let seen = choices(&[0.5, 0.3, 0.2], 20, &mut ChaCha8Rng::seed_from_u64(1));
    let (a, b) = (
        WeightPosterior::of(&WeightPrior::uniform(3), &seen),
        WeightPosterior::of(&WeightPrior::uniform(3), &seen),
    );
    assert_eq!(a.mean(), b.mean());
    assert_eq!(a.intervals(), b.intervals());
}

#[test]
fn extreme_choices_leave_the_weights_on_the_simplex() {
    for objectives in [2, 3, 6] {
        let mut strong = vec![-1000.0; objectives];
        strong[0] = 1000.0;
        for count in [1, 200] {
            let posterior = WeightPosterior::of(
                &WeightPrior::uniform(objectives),
                &vec![strong.clone(); count],
            );
            let mean = posterior.mean();
            let sum: f32 = mean.as_slice().iter().sum();
            assert!(
                (sum - 1.0).abs() < 1e-5 && mean.as_slice()[0] > 0.5,
                "{mean:?}"
            );
            assert!(mean.as_slice().iter().all(|w| (0.0..=1.0).contains(w)));
        }
    }
}

#[test]
fn the_next_question_tells_more_than_a_random_one() {
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    let prior = WeightPosterior::of(&WeightPrior::uniform(2), &[]);
    // two that differ in nothing tell nothing, two that differ everywhere alike tell little
    let candidates = vec![
        vec![0.0, 0.0],
        vec![0.0, 0.0],
        vec![1.0, 1.0],
        vec![2.0, -2.0],
    ];
    let asked = prior.next_question(&candidates).expect("two or more");
    assert!(asked.second == 3 && asked.bits > 0.1, "{asked:?}");
    assert!(prior.information(&[0.0, 0.0]) < 1e-12);
    assert!(prior.next_question(&candidates[..1]).is_none());

    // users who are asked well are known better after as many answers
    let weights = [0.75, 0.25];
    let (mut well, mut badly) = (0.0, 0.0);
    for _ in 0..30 {
        let (mut asked_well, mut asked_badly) = (Vec::new(), Vec::new());
        for _ in 0..8 {
            let offered = answers(6, 2, &mut rng);
            let posterior = WeightPosterior::of(&WeightPrior::uniform(2), &asked_well);
            let question = posterior.next_question(&offered).expect("six");
            let pair = [question.first, question.second].map(|i| offered[i].clone());
            asked_well.push(choose(&weights, &pair, &mut rng));
            asked_badly.push(choose(&weights, &offered[..2], &mut rng));
        }
        well += distance(
            &WeightPosterior::of(&WeightPrior::uniform(2), &asked_well),
            &weights,
        );
        badly += distance(
            &WeightPosterior::of(&WeightPrior::uniform(2), &asked_badly),
            &weights,
        );
    }
    assert!(well < badly, "{well} {badly}");
}

#[test]
fn stated_weights_hold_until_choices_speak_against_them() {
    for stated in [vec![0.8, 0.2], vec![0.6, 0.3, 0.1]] {
        let prior = WeightPrior::around(&stated);
        let mut before = distance(&WeightPosterior::of(&prior, &[]), &stated);
        assert!(before < 0.03, "{stated:?}: {before}");
        // each choice is for what is weighed least
        let mut against = vec![-0.5; stated.len()];
        against[stated.len() - 1] = 1.0;
        for count in [1, 8, 64] {
            let away = distance(
                &WeightPosterior::of(&prior, &vec![against.clone(); count]),
                &stated,
            );
            assert!(away > before, "{stated:?}, {count}: {away}");
            if count == 1 {
                assert!(away < 0.3, "one choice is not everything: {away}");
            }
            before = away;
        }
        assert!(before > 1.0, "{stated:?}: {before}");
    }
}
