//! What templates write, and which are refused.

use super::*;
use crate::steering::Objective;

fn objectives() -> ObjectiveSet {
    let objective = |name: &str| Objective {
        name: name.to_owned(),
        description: String::new(),
        default_weight: 1.0,
        min_weight: 0.0,
        max_weight: None,
    };
    ObjectiveSet::new(["brevity", "detail"].map(objective).to_vec()).unwrap()
}

fn template(text: &str, decimals: u32) -> ConditioningTemplate {
    ConditioningTemplate {
        kind: ConditioningKind::WeightsText,
        open: "<w>".into(),
        close: "</w>".into(),
        template: text.into(),
        decimals,
        placement: Placement::PromptEnd,
        targets: Vec::new(),
        rule: None,
    }
}

#[test]
fn weights_are_written_as_numbers_or_counted_in_words() {
    let objectives = objectives();
    let weights = objectives.from_ordered(&[0.31, 0.69]).unwrap();
    for (text, body) in [
        (
            "brevity {brevity}, detail {detail}",
            "brevity 0.3, detail 0.7",
        ),
        (
            "{detail:long} {brevity:short}",
            "long long long long long long long short short short",
        ),
        ("{brevity}{detail:x}", "0.3x x x x x x x"),
    ] {
        let template = template(text, 1);
        template.validate(&objectives).unwrap();
        assert_eq!(template.render(&objectives, &weights).unwrap().body, body);
    }
}

#[test]
fn all_spans_are_those_of_all_weights() {
    let objectives = objectives();
    let bodies = |text: &str, decimals: u32| -> Vec<String> {
        let spans = template(text, decimals).spans(&objectives);
        spans.into_iter().map(|span| span.body).collect()
    };
    let words = bodies("{brevity:a} {detail:b c}", 0);
    assert_eq!(words, [" b c", "a "]);
    let tenths = bodies("{brevity} {detail}", 1);
    assert_eq!(tenths.len(), 11);
    for tenth in 0..=10 {
        let weights = [f64::from(tenth), f64::from(10 - tenth)];
        let weights = objectives.from_ordered(&weights).unwrap();
        let span = template("{brevity} {detail}", 1).render(&objectives, &weights);
        assert!(tenths.contains(&span.unwrap().body));
    }
    // 1001 would be, and 20,000 are allowed; of three objectives 501,501
    assert_eq!(bodies("{brevity} {detail}", 3).len(), 1001);
    assert_eq!(grid_points(1000, 3), 501_501.0);
}

#[test]
fn a_template_that_does_not_fit_is_refused() {
    for (text, decimals, said) in [
        ("{brevity}", 1, "`{detail}`"),
        ("{brevity} {detail} {brevity:b}", 1, "exactly once"),
        ("{brevity} {detail} {mood}", 1, "none of"),
        ("{bre{detail}vity} {brevity}", 1, "`{detail}`"),
        ("{brevity} {detail} }", 1, "unpaired"),
        ("{brevity: } {detail}", 1, "behind the colon"),
        ("{brevity:b} {detail:d}", 2, "decimals of 0 or 1"),
    ] {
        let error = template(text, decimals)
            .validate(&objectives())
            .unwrap_err();
        assert!(error.to_string().contains(said), "{text}: {error}");
    }
}

fn of_targets(
    kind: ConditioningKind,
    decimals: u32,
    ends: [(f32, f32); 2],
) -> ConditioningTemplate {
    ConditioningTemplate {
        kind,
        targets: ends.map(|(low, high)| TargetRange { low, high }).to_vec(),
        ..template("b {brevity}, d {detail}", decimals)
    }
}

#[test]
fn targets_are_written_with_the_stated_decimals_by_the_rule_of_the_kind() {
    let objectives = objectives();
    let weights = objectives.from_ordered(&[0.7, 0.3]).unwrap();
    let kinds = [
        (
            of_targets(
                ConditioningKind::RewardTokens,
                1,
                [(-4.2, 4.2), (-1.0, 2.0)],
            ),
            "b 3.5, d 0.2",
            [3.5, 0.2],
        ),
        (
            of_targets(
                ConditioningKind::RewardTokens,
                2,
                [(-4.2, 4.2), (-1.0, 2.0)],
            ),
            "b 3.52, d 0.18",
            [3.52, 0.18],
        ),
        (
            of_targets(ConditioningKind::ScoreTokens, 0, [(1.0, 5.0), (1.0, 5.0)]),
            "b 5, d 3",
            [5.0, 3.0],
        ),
        // less detail is what weight on it asks for
        (
            of_targets(ConditioningKind::Attributes, 0, [(0.0, 4.0), (4.0, 0.0)]),
            "b 4, d 2",
            [4.0, 2.0],
        ),
    ];
    for (template, body, told) in kinds {
        template.validate(&objectives).unwrap();
        let span = template.render(&objectives, &weights).unwrap();
        assert_eq!(
            (span.body.as_str(), template.told(&weights)),
            (body, told.to_vec())
        );
        // weights are not rounded to the decimals of another scale
        assert_eq!(template.heard(&weights), weights);
    }
    let stated = ConditioningTemplate {
        rule: Some(TargetRule::Linear),
        ..of_targets(ConditioningKind::ScoreTokens, 0, [(1.0, 5.0), (1.0, 5.0)])
    };
    assert_eq!(stated.told(&weights), [4.0, 2.0]);
}

#[test]
fn a_manifest_that_does_not_fit_its_kind_is_refused() {
    use ConditioningKind::{AdapterMix, Attributes, RewardTokens, ScoreTokens, WeightsText};
    let bare = |kind| ConditioningTemplate {
        kind,
        open: String::new(),
        close: String::new(),
        ..template("", 2)
    };
    let five = [(1.0, 5.0), (1.0, 5.0)];
    let one = |mut template: ConditioningTemplate| {
        template.targets.pop();
        template
    };
    let words = |template: ConditioningTemplate| ConditioningTemplate {
        template: "{brevity:b} {detail}".into(),
        ..template
    };
    for (template, said) in [
        (of_targets(WeightsText, 1, five), "no targets"),
        (of_targets(AdapterMix, 1, five), "no targets"),
        (template("{brevity} {detail}", 1).of(AdapterMix), "no open"),
        (bare(RewardTokens), "0 ranges"),
        (one(of_targets(Attributes, 0, five)), "1 ranges, expected 2"),
        (of_targets(ScoreTokens, 1, five), "whole numbers"),
        (
            of_targets(ScoreTokens, 0, [(1.0, 5.0), (5.0, 1.0)]),
            "`detail` is 5 to 1",
        ),
        (
            of_targets(Attributes, 0, [(1.0, 4.5), (0.0, 4.0)]),
            "whole numbers",
        ),
        (
            of_targets(RewardTokens, 1, [(1.0, 1.04), (0.0, 4.0)]),
            "differ when rounded",
        ),
        (
            of_targets(RewardTokens, 1, [(0.0, f32::NAN), (0.0, 4.0)]),
            "`brevity`",
        ),
        (words(of_targets(ScoreTokens, 0, five)), "counts words"),
    ] {
        let error = template.validate(&objectives()).unwrap_err().to_string();
        assert!(error.contains(said), "{error} does not say {said}");
    }
    bare(AdapterMix).validate(&objectives()).unwrap();
    let weights = objectives().from_ordered(&[2.0, 1.0]).unwrap();
    assert_eq!(bare(AdapterMix).render(&objectives(), &weights), None);
    assert_eq!(bare(AdapterMix).told(&weights), [0.67, 0.33]);
}

impl ConditioningTemplate {
    fn of(self, kind: ConditioningKind) -> Self {
        Self { kind, ..self }
    }
}
