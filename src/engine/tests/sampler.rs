//! Tests of drawing: kept sets against a full sort, frequencies against probabilities.

use proptest::prelude::*;

use super::*;

fn params() -> SamplingParams {
    SamplingParams::default()
}

/// A completion of nothing but token 0, for draws that depend on its length alone.
static ZEROS: [TokenId; 50_000] = [0; 50_000];

fn draw<'a>(logits: &'a [f32], sampling: &'a SamplingParams, index: usize) -> Draw<'a> {
    Draw {
        logits,
        sampling,
        history: &ZEROS[..index],
        prompt_tokens: 0,
        allowed: None,
    }
}

fn draw_at(logits: &[f32], sampling: &SamplingParams, index: usize) -> TokenId {
    sample(&draw(logits, sampling, index)).unwrap().id
}

/// A row with few distinct levels, hence many ties.
fn rows() -> impl Strategy<Value = Vec<f32>> {
    prop_oneof![
        prop::collection::vec(-8.0f32..8.0, 1..300),
        prop::collection::vec((-4i32..4).prop_map(|level| level as f32), 1..300),
        prop::collection::vec(-0.01f32..0.01, 600..1500),
    ]
}

/// A token with its weight in double precision.
type Exact = (TokenId, f64);

/// The first tokens, in the order given, that hold the share. `nearest` learns how near the mass
/// before or after any token comes to it.
fn hold(tokens: Vec<Exact>, share: f32, nearest: &mut f64) -> Vec<Exact> {
    let share = f64::from(share);
    let total: f64 = tokens.iter().map(|token| token.1).sum();
    let mut held = 0.0;
    let mut kept = 0_usize;
    for token in &tokens {
        *nearest = nearest.min((held / total - share).abs());
        if held / total < share {
            kept += 1;
        }
        held += token.1;
    }
    let edge = kept
        .checked_sub(1)
        .and_then(|last| tokens.windows(2).nth(last));
    if let Some([last, next]) = edge {
        // weights that single precision may hold for equal: then the lower id comes first
        let apart = (last.1 - next.1).abs();
        if apart > 0.0 && apart < 1e-6 {
            *nearest = 0.0;
        }
    }
    tokens[..kept].to_vec()
}

/// The share of the mass whose surprise is nearest to the entropy, by a full sort.
fn most_typical(mut ranked: Vec<Exact>, share: f32, nearest: &mut f64) -> Vec<Exact> {
    let total: f64 = ranked.iter().map(|token| token.1).sum();
    let surprise = |token: &Exact| -(token.1 / total).ln();
    let entropy: f64 = ranked
        .iter()
        .map(|token| token.1 / total * surprise(token))
        .sum();
    let strange = |token: &Exact| (surprise(token) - entropy).abs();
    ranked.sort_by(|a, b| strange(a).total_cmp(&strange(b)));
    let kept = hold(ranked.clone(), share, nearest);
    if let (Some(last), Some(next)) = (kept.last(), ranked.get(kept.len()))
        && last.1 != next.1
    {
        *nearest = nearest.min(strange(next) - strange(last));
    }
    kept
}

/// What should be kept, in double precision. Also tells how near any cut comes to its bound: too
/// near, rounding may decide either way.
fn reference(logits: &[f32], sampling: &SamplingParams) -> (Vec<TokenId>, f64) {
    let mut sorted: Vec<Scored> = (0..).zip(logits.iter().copied()).collect();
    sorted.sort_by(super::super::logits::by_rank);
    let peak = f64::from(sorted[0].1);
    let weight = |logit: f32| ((f64::from(logit) - peak) / f64::from(sampling.temperature)).exp();
    let mut kept: Vec<Exact> = sorted
        .into_iter()
        .map(|(id, logit)| (id, weight(logit)))
        .collect();
    let mut nearest = f64::INFINITY;
    if sampling.top_k > 0 {
        kept.truncate(sampling.top_k);
    }
    if sampling.typical_p < 1.0 {
        kept = most_typical(kept, sampling.typical_p, &mut nearest);
        // Likelier tokens first, then lower ids.
        kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    }
    if sampling.top_p < 1.0 {
        kept = hold(kept, sampling.top_p, &mut nearest);
    }
    if sampling.min_p > 0.0 {
        let floor = f64::from(sampling.min_p) * kept[0].1;
        let distance = |token: &Exact| (token.1 - floor).abs();
        nearest = kept.iter().map(distance).fold(nearest, f64::min);
        kept.retain(|token| token.1 >= floor);
    }
    // Weights this small are zero to the sampler.
    let faint = |token: &Exact| token.1 < 1e-36;
    if kept.iter().any(faint) {
        nearest = 0.0;
    }
    let mut ids: Vec<_> = kept.into_iter().map(|(id, _)| id).collect();
    ids.sort_unstable();
    (ids, nearest)
}

proptest! {
    #[test]
    fn what_is_kept_equals_a_full_sort(
        logits in rows(),
        temperature in 0.05f32..3.0,
        top_k in prop_oneof![Just(0usize), 1usize..400],
        top_p in prop_oneof![Just(1.0f32), 0.0f32..1.0],
        min_p in prop_oneof![Just(0.0f32), 0.001f32..0.99],
        typical_p in prop_oneof![Just(1.0f32), 0.01f32..1.0],
    ) {
        let sampling =
            SamplingParams { temperature, top_k, top_p, min_p, typical_p, ..params() };
        let (expected, nearest) = reference(&logits, &sampling);
        prop_assume!(nearest > 1e-5);
        let scale = Scale::new(largest(&logits).unwrap().1, temperature);
        let mut kept: Vec<_> =
            survivors(&logits, &sampling, scale).into_iter().map(|(id, _)| id).collect();
        kept.sort_unstable();
        prop_assert_eq!(kept, expected);
    }

    #[test]
    fn a_drawn_token_is_one_that_was_kept(logits in rows(), seed: u64, top_p in 0.1f32..1.0) {
        let sampling = SamplingParams { top_p, top_k: 20, min_p: 0.05, seed, ..params() };
        let (kept, nearest) = reference(&logits, &sampling);
        prop_assume!(nearest > 1e-5);
        prop_assert!(kept.contains(&draw_at(&logits, &sampling, 3)));
    }

    #[test]
    fn log_probabilities_are_those_of_the_raw_row(logits in rows(), seed: u64) {
        let sampling =
            SamplingParams { temperature: 0.4, top_k: 3, logprobs: Some(5), seed, ..params() };
        let token = sample(&draw(&logits, &sampling, 0)).unwrap();
        let peak = f64::from(largest(&logits).unwrap().1);
        let mass: f64 = logits.iter().map(|&logit| (f64::from(logit) - peak).exp()).sum();
        let logprob = |id: TokenId| (f64::from(logits[id as usize]) - peak - mass.ln()) as f32;
        prop_assert!((token.logprob - logprob(token.id)).abs() < 1e-5);
        prop_assert_eq!(token.top.len(), logits.len().min(5));
        for pair in token.top.windows(2) {
            prop_assert!(pair[0].1 >= pair[1].1);
        }
        for (id, got) in token.top {
            prop_assert!((got - logprob(id)).abs() < 1e-5);
        }
    }

    #[test]
    fn greedy_takes_the_lowest_of_the_largest(
        levels in prop::collection::vec(-3i32..3, 1..2000),
    ) {
        let logits: Vec<f32> = levels.iter().map(|&level| level as f32).collect();
        let sampling = SamplingParams { temperature: 0.0, top_p: 0.5, ..params() };
        let best = *levels.iter().max().unwrap();
        let lowest = levels.iter().position(|&level| level == best).unwrap();
        prop_assert_eq!(draw_at(&logits, &sampling, 0) as usize, lowest);
    }
}

/// Draws often and compares the frequencies with `expected` shares by Pearson's chi-square.
fn check_frequencies(logits: &[f32], sampling: &SamplingParams, expected: &[f64]) {
    const DRAWS: usize = 40_000;
    let mut counts = vec![0usize; logits.len()];
    for index in 0..DRAWS {
        counts[draw_at(logits, sampling, index) as usize] += 1;
    }
    let (mut statistic, mut cells) = (0.0, 0);
    for (&count, &share) in counts.iter().zip(expected) {
        if share == 0.0 {
            assert_eq!(count, 0);
            continue;
        }
        let mean = share * DRAWS as f64;
        statistic += (count as f64 - mean).powi(2) / mean;
        cells += 1;
    }
    // Mean plus four standard deviations of chi-square: with fixed seeds this holds or not.
    let freedom = f64::from(cells - 1);
    let bound = freedom + 4.0 * (2.0 * freedom).sqrt();
    assert!(
        statistic < bound,
        "chi-square {statistic} over {freedom} degrees, bound {bound}"
    );
}

fn shares(logits: &[f32], temperature: f64, keep: impl Fn(usize) -> bool) -> Vec<f64> {
    let weights: Vec<f64> = logits
        .iter()
        .enumerate()
        .map(|(id, &logit)| {
            if keep(id) {
                (f64::from(logit) / temperature).exp()
            } else {
                0.0
            }
        })
        .collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

#[test]
fn frequencies_follow_the_probabilities() {
    let logits: Vec<f32> = (0..12).map(|id| (id as f32 * 0.7).sin() * 1.5).collect();
    for (temperature, seed) in [(1.0f32, 1), (0.6, 2), (1.7, 3)] {
        let sampling = SamplingParams {
            temperature,
            seed,
            ..params()
        };
        check_frequencies(
            &logits,
            &sampling,
            &shares(&logits, f64::from(temperature), |_| true),
        );
    }
}

#[test]
fn frequencies_after_a_cut_are_renormalised() {
    let logits = [2.0, 0.1, 1.5, -1.0, 1.0, 0.9];
    let sampling = SamplingParams {
        top_k: 3,
        temperature: 0.8,
        seed: 4,
        ..params()
    };
    check_frequencies(
        &logits,
        &sampling,
        &shares(&logits, f64::from(0.8f32), |id| [0, 2, 4].contains(&id)),
    );
    // Probabilities .31 .05 .28 .02 .17 .15: three tokens hold 0.7, two do not.
    let sampling = SamplingParams {
        top_p: 0.7,
        seed: 5,
        ..params()
    };
    check_frequencies(
        &logits,
        &sampling,
        &shares(&logits, 1.0, |id| [0, 2, 4].contains(&id)),
    );
}

#[test]
fn frequencies_hold_across_blocks() {
    let mut logits = vec![-3.0; 5000];
    let peaks = [0, 1023, 1024, 2500, 4999];
    for &peak in &peaks {
        logits[peak] = 7.0;
    }
    let mut draws = vec![0usize; peaks.len()];
    for index in 0..5000 {
        let id = draw_at(&logits, &params(), index) as usize;
        if let Some(place) = peaks.iter().position(|&peak| peak == id) {
            draws[place] += 1;
        }
    }
    // Five peaks of weight 1 beside 4995 tokens of e^-10: 0.1913 of the mass each.
    for count in draws {
        assert!((830..=1090).contains(&count), "{count}");
    }
}

#[test]
fn a_draw_depends_on_seed_and_position_alone() {
    let logits: Vec<f32> = (0..500).map(|id| (id as f32 * 0.37).cos()).collect();
    let draws = |seed| -> Vec<TokenId> {
        let sampling = SamplingParams { seed, ..params() };
        (0..50)
            .map(|index| draw_at(&logits, &sampling, index))
            .collect()
    };
    assert_eq!(draws(9), draws(9));
    assert_ne!(draws(9), draws(10));
    let backwards: Vec<_> = {
        let sampling = SamplingParams {
            seed: 9,
            ..params()
        };
        (0..50)
            .rev()
            .map(|index| draw_at(&logits, &sampling, index))
            .collect()
    };
    assert_eq!(draws(9), backwards.into_iter().rev().collect::<Vec<_>>());
}

#[test]
fn a_tiny_temperature_is_greedy() {
    let logits = [0.5, 1.0, 0.999_99, -4.0];
    for temperature in [1e-7, f32::MIN_POSITIVE, 1e-45] {
        let sampling = SamplingParams {
            temperature,
            ..params()
        };
        assert_eq!(draw_at(&logits, &sampling, 0), 1, "at {temperature}");
        let sampling = SamplingParams {
            top_p: 0.9,
            ..sampling
        };
        assert_eq!(
            draw_at(&logits, &sampling, 0),
            1,
            "at {temperature} with top_p"
        );
    }
}

#[test]
fn stop_tokens_are_masked_until_min_tokens() {
    let logits = [1.0, 9.0, 2.0];
    let sampling = SamplingParams {
        temperature: 0.0,
        min_tokens: 2,
        stop_token_ids: vec![1, 77],
        ..params()
    };
    assert_eq!(draw_at(&logits, &sampling, 1), 2);
    assert_eq!(draw_at(&logits, &sampling, 2), 1);
    let sampling = SamplingParams {
        ignore_eos: true,
        ..sampling
    };
    assert_eq!(draw_at(&logits, &sampling, 0), 1);
}

#[test]
fn rows_that_cannot_be_sampled_are_refused() {
    let check = |logits: &[f32], sampling: &SamplingParams, expected: SampleError| {
        let outcome = sample(&draw(logits, sampling, 0));
        assert_eq!(outcome.unwrap_err(), expected);
    };
    check(&[0.0, f32::NAN], &params(), SampleError::NotFinite);
    check(&[0.0, f32::INFINITY], &params(), SampleError::NotFinite);
    check(&[f32::NEG_INFINITY; 4], &params(), SampleError::NothingLeft);
    let sampling = SamplingParams {
        min_tokens: 1,
        stop_token_ids: vec![0],
        ..params()
    };
    check(&[1.0], &sampling, SampleError::NothingLeft);
}

#[test]
fn masked_logits_are_never_drawn() {
    let mut logits = vec![f32::NEG_INFINITY; 2000];
    logits[1500] = -3.0;
    for sampling in [
        params(),
        SamplingParams {
            top_k: 50,
            ..params()
        },
        SamplingParams {
            top_p: 0.99,
            ..params()
        },
        SamplingParams {
            min_p: 0.1,
            ..params()
        },
    ] {
        for index in 0..20 {
            assert_eq!(draw_at(&logits, &sampling, index), 1500);
        }
    }
}
