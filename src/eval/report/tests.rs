//! Reports of made-up sweeps whose numbers are known.

use serde_json::{Value, json};

use super::*;
use crate::eval::stats::wilson;
use crate::eval::sweep::SweptAnswer;
use crate::rewards::RewardError;
use crate::types::Message;

/// Rewards the number of words, times a sign.
struct Words(f32);

impl RewardModel for Words {
    fn name(&self) -> &str {
        "words"
    }

    fn score(&self, exchanges: &[crate::rewards::Exchange<'_>]) -> Result<Vec<f32>, RewardError> {
        Ok(exchanges
            .iter()
            .map(|e| self.0 * e.completion.split(' ').count() as f32)
            .collect())
    }
}

fn prompts(records: &[Value]) -> Vec<EvalPrompt> {
    let prompt = |(i, record): (usize, &Value)| EvalPrompt {
        id: format!("p{i}"),
        prompt: vec![Message::user("A <b>question</b>?")],
        record: record.clone(),
    };
    records.iter().enumerate().map(prompt).collect()
}

fn point(weights: [f32; 2], texts: &[&str]) -> SweptPoint {
    let answer = |text: &&str| SweptAnswer {
        text: (*text).into(),
        tokens: 3,
        finished: true,
    };
    SweptPoint {
        weights: weights.to_vec(),
        answers: texts.iter().map(answer).collect(),
    }
}

fn models(signs: &[(&str, f32)]) -> Vec<(String, Box<dyn RewardModel>)> {
    let boxed = |sign: f32| Box::new(Words(sign)) as Box<dyn RewardModel>;
    signs
        .iter()
        .map(|(name, sign)| ((*name).to_owned(), boxed(*sign)))
        .collect()
}

fn example() -> EvalReport {
    let prompts = prompts(&[Value::Null, Value::Null]);
    let points = [
        point([0.0, 1.0], &["a b c d", "a b c d"]),
        point([0.5, 0.5], &["a b", "a b"]),
        point([1.0, 0.0], &["a", "a"]),
    ];
    let baseline = [
        point([0.0, 1.0], &["a b", "a b"]),
        point([0.5, 0.5], &["a b", "a b"]),
        point([1.0, 0.0], &["a b", "a b"]),
    ];
    let normalizer = |mean: f32| Normalizer {
        mean,
        std: 1.0,
        clip: 3.0,
    };
    Findings {
        policy: "demo",
        prompts: &prompts,
        sampling: &SweepSettings::default(),
        objectives: &models(&[("brevity", -1.0), ("detail", 1.0)]),
        normalizers: &[normalizer(-2.0), normalizer(2.0)],
        judges: &models(&[("judge", 1.0)]),
        points: &points,
        baseline: Some(("adapter off", &baseline)),
        samples: 1,
    }
    .report()
    .unwrap()
}

#[test]
fn the_numbers_of_a_small_sweep() {
    let report = example();
    // Normalised rewards: (-2, 2), (0, 0), (1, -1).
    let normalized: Vec<&[f64]> = report
        .points
        .iter()
        .map(|p| p.normalized.as_slice())
        .collect();
    assert_eq!(normalized, [[-2.0, 2.0], [0.0, 0.0], [1.0, -1.0]]);
    let scores: Vec<f64> = report.points.iter().map(|p| p.score).collect();
    assert_eq!(scores, [2.0, 0.0, 1.0]);
    assert_eq!(report.reached.mean_inner_product, 1.0);
    assert_eq!(report.reached.front, [0, 1, 2]);
    assert_eq!(report.points_above_baseline, 2);
    // Above (-2.1, -1.1), from the right: 3.1 x 0.1, 2.1 x 1 and 0.1 x 2.
    assert_eq!(report.reference_point, [-2.1, -1.1]);
    assert!(
        (report.reached.hypervolume - 2.61).abs() < 1e-9,
        "{}",
        report.reached.hypervolume
    );
    let baseline = report.baseline_reached.unwrap();
    assert!((baseline.hypervolume - 2.1 * 1.1).abs() < 1e-9);
    assert_eq!(baseline.mean_inner_product, 0.0);
}

#[test]
fn responses_hold_each_reward_and_each_judge_against_each_weight() {
    let report = example();
    let found: Vec<(&str, &str, Option<f64>)> = report
        .responses
        .iter()
        .map(|r| {
            (
                r.objective.as_str(),
                r.measured.as_str(),
                r.response.spearman,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("brevity", "brevity", Some(1.0)),
            ("brevity", "judge", Some(-1.0)),
            ("detail", "detail", Some(1.0)),
            ("detail", "judge", Some(1.0)),
        ]
    );
    assert_eq!(
        report.responses[0].baseline.as_ref().unwrap().spearman,
        None
    );
}

#[test]
fn refusals_are_counted_apart_for_safe_and_unsafe_prompts() {
    let asked = prompts(&[
        json!({"safe": true}),
        json!({"safe": false}),
        json!({"safe": false}),
    ]);
    let (answer, refusal) = (
        "Sure, here it is.",
        "I'm sorry, but I can't help with that.",
    );
    let points = [
        point([0.0, 1.0], &[answer, refusal, refusal]),
        point([0.5, 0.5], &[answer, refusal, answer]),
        point([1.0, 0.0], &[answer, answer, answer]),
    ];
    let mut report = example();
    report.count_refusals(&asked, &points).unwrap();
    let found = &report.refusals;
    assert_eq!(found[1].weights, [0.5, 0.5]);
    assert_eq!(found[1].on_unsafe, wilson(1, 2));
    assert_eq!(found[0].on_safe, wilson(0, 1));
    let by_detail = &report.refusal_responses[1];
    assert_eq!(by_detail.objective, "detail");
    assert_eq!(by_detail.on_unsafe.spearman, Some(1.0));
    assert_eq!(
        (by_detail.on_unsafe.range, by_detail.on_safe.range),
        (1.0, 0.0)
    );

    let folder = tempfile::tempdir().unwrap();
    report.write(folder.path()).unwrap();
    let json = std::fs::read(folder.path().join("report.json")).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["refusals"][1]["on_unsafe"]["value"], 0.5);
    assert_eq!(json["refusal_responses"][1]["on_unsafe"]["spearman"], 1.0);
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("unsafe prompts refused") && page.contains("0.500 <span"));
    assert!(folder.path().join("refusals.png").exists());
}

#[test]
fn points_and_answers_say_their_weights() {
    let folder = tempfile::tempdir().unwrap();
    example().write(folder.path()).unwrap();
    let front = std::fs::read_to_string(folder.path().join("front.svg")).unwrap();
    for weights in ["0 / 1", "0.5 / 0.5", "1 / 0"] {
        // on the policy's dot and on the baseline's, and beside the policy's
        assert_eq!(
            front.matches(&format!("<title>{weights}</title>")).count(),
            2
        );
        assert!(front.contains(&format!(">{weights}</text>")), "{weights}");
    }
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("<p class=\"note\">brevity 0.5, detail 0.5</p><blockquote>a b<"));
}

#[test]
fn refusal_prompts_must_say_what_they_are_and_be_of_both_kinds() {
    let check = |records: &[Value], says: &str| {
        let error = example()
            .count_refusals(&prompts(records), &[])
            .unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    };
    check(&[Value::Null], "no field `safe`");
    check(&[json!({"safe": true})], "all 1 rows have `safe` true");
}

#[test]
fn a_written_report_reads_back_and_its_page_is_self_contained() {
    let folder = tempfile::tempdir().unwrap();
    let report = example();
    report.write(folder.path()).unwrap();
    let json = std::fs::read(folder.path().join("report.json")).unwrap();
    assert_eq!(serde_json::from_slice::<EvalReport>(&json).unwrap(), report);
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("A &lt;b&gt;question&lt;/b&gt;?"));
    assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("href="));
    for name in [
        "reward_brevity",
        "reward_detail",
        "front",
        "length",
        "judge_judge",
    ] {
        assert!(folder.path().join(format!("{name}.svg")).exists(), "{name}");
        let picture = std::fs::read(folder.path().join(format!("{name}.png"))).unwrap();
        let picture = tiny_skia::Pixmap::decode_png(&picture).unwrap();
        assert_eq!((picture.width(), picture.height()), (920, 600), "{name}");
        let inked = |colour: [u8; 3]| {
            let near = |pixel: &tiny_skia::PremultipliedColorU8| {
                let found = [pixel.red(), pixel.green(), pixel.blue()];
                found.iter().zip(colour).all(|(a, b)| a.abs_diff(b) < 8)
            };
            picture.pixels().iter().filter(|pixel| near(pixel)).count()
        };
        // mostly paper, with text, and a line of the policy
        let (paper, text, line) = (inked([255; 3]), inked([0x44; 3]), inked([0, 0x72, 0xb2]));
        assert!(paper > 400_000, "{name}: {paper} white pixels");
        assert!(
            text > 500 && line > 500,
            "{name}: {text} of text, {line} of the line"
        );
    }
}
