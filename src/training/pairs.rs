//! Which of two completions is the better one under the weights they were asked for.
//!
//! Works on normalised rewards, so that a margin of 1 is one standard deviation of every
//! objective. Knows nothing of text or tensors.

use serde::{Deserialize, Serialize};

/// How two completions become a preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelRule {
    /// The higher weighted sum of rewards wins.
    #[default]
    Scalarized,
    /// Each objective prefers one; the label is the total weight of those that prefer the first.
    /// Insensitive to the rewards' scales.
    PerObjective,
}

/// How rewards become a preference pair.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PairSettings {
    /// The label rule.
    pub label: LabelRule,
    /// Subtracted from every objective's normalised reward where the answer ran into the length
    /// limit instead of ending.
    pub missing_eos_penalty: f32,
    /// Differences smaller than this, in standard deviations, are ties and are not trained on.
    pub tie_margin: f32,
    /// Further weights, drawn anew, under which each pair of answers is judged and trained on
    /// again: the same two answers, and another of them may win. Costs training, no sampling.
    /// Hindsight relabelling as in PD-MORL (arXiv 2208.07914); slightly off-policy.
    pub relabel: u32,
}

impl Default for PairSettings {
    fn default() -> Self {
        Self {
            label: LabelRule::Scalarized,
            missing_eos_penalty: 1.0,
            tie_margin: 0.05,
            relabel: 0,
        }
    }
}

/// One completion as the labeller sees it.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// Normalised rewards, in the order of the objectives.
    pub rewards: &'a [f32],
    /// The policy ended the answer itself.
    pub finished: bool,
}

/// The labeller's verdict over two completions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// One is better.
    Preferred {
        /// 0 or 1.
        chosen: usize,
        /// Probability that it is the better one: 1 for `scalarized`, otherwise at least a half.
        target: f32,
    },
    /// Too close to tell.
    Tie,
}

/// What became of a step's pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairCounts {
    /// Pairs trained on.
    pub kept: usize,
    /// Pairs dropped as ties.
    pub ties: usize,
    /// Pairs of two identical completions; they are ties too.
    pub duplicates: usize,
}

impl PairCounts {
    /// Share of the step's pairs that were dropped; 0 of none.
    pub fn tie_rate(&self) -> f32 {
        let total = self.kept + self.ties;
        if total == 0 {
            0.0
        } else {
            self.ties as f32 / total as f32
        }
    }
}

/// The score of a completion: the weighted sum of its rewards, the penalty taken off each first.
pub fn score(settings: &PairSettings, weights: &[f32], answer: Answer<'_>) -> f32 {
    let penalty = penalty(settings, answer);
    weights
        .iter()
        .zip(answer.rewards)
        .map(|(w, r)| w * (r - penalty))
        .sum()
}

/// Compares two completions of one prompt.
pub fn judge(settings: &PairSettings, weights: &[f32], answers: [Answer<'_>; 2]) -> Verdict {
    match settings.label {
        LabelRule::Scalarized => {
            let gap = score(settings, weights, answers[0]) - score(settings, weights, answers[1]);
            if gap.abs() < settings.tie_margin || gap == 0.0 {
                return Verdict::Tie;
            }
            Verdict::Preferred {
                chosen: usize::from(gap < 0.0),
                target: 1.0,
            }
        }
        LabelRule::PerObjective => judge_per_objective(settings, weights, answers),
    }
}

/// An objective whose two rewards tie gives half its weight to each; a pair is a tie when every
/// objective that has weight ties.
fn judge_per_objective(
    settings: &PairSettings,
    weights: &[f32],
    answers: [Answer<'_>; 2],
) -> Verdict {
    let penalties = answers.map(|answer| penalty(settings, answer));
    let (mut first, mut total, mut decided) = (0.0, 0.0, false);
    for (k, &weight) in weights.iter().enumerate() {
        let gap = (answers[0].rewards[k] - penalties[0]) - (answers[1].rewards[k] - penalties[1]);
        total += weight;
        if gap.abs() < settings.tie_margin || gap == 0.0 {
            first += weight / 2.0;
        } else {
            decided |= weight > 0.0;
            first += if gap > 0.0 { weight } else { 0.0 };
        }
    }
    if !decided {
        return Verdict::Tie;
    }
    let share = first / total;
    if share >= 0.5 {
        Verdict::Preferred {
            chosen: 0,
            target: share,
        }
    } else {
        Verdict::Preferred {
            chosen: 1,
            target: 1.0 - share,
        }
    }
}

fn penalty(settings: &PairSettings, answer: Answer<'_>) -> f32 {
    if answer.finished {
        0.0
    } else {
        settings.missing_eos_penalty
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn settings(label: LabelRule) -> PairSettings {
        PairSettings {
            label,
            ..PairSettings::default()
        }
    }

    fn check(label: LabelRule, weights: &[f32], rewards: [&[f32]; 2], expected: Verdict) {
        let answers = rewards.map(|rewards| Answer {
            rewards,
            finished: true,
        });
        let verdict = judge(&settings(label), weights, answers);
        match (verdict, expected) {
            (
                Verdict::Preferred {
                    chosen: a,
                    target: p,
                },
                Verdict::Preferred {
                    chosen: b,
                    target: q,
                },
            ) => assert!(
                a == b && (p - q).abs() < 1e-6,
                "{verdict:?}, expected {expected:?}"
            ),
            _ => assert_eq!(verdict, expected),
        }
    }

    #[test]
    fn scores_and_choices_are_the_golden_ones() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/preference_math/pairing.json"
        );
        let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let floats = |v: &Value| -> Vec<f32> {
            v.as_array()
                .unwrap()
                .iter()
                .map(|x| x.as_f64().unwrap() as f32)
                .collect()
        };
        for case in file["cases"].as_array().unwrap() {
            let settings = PairSettings {
                missing_eos_penalty: case["missing_eos_penalty"].as_f64().unwrap_or(0.0) as f32,
                tie_margin: 0.0,
                ..PairSettings::default()
            };
            let weights = floats(&case["weights"]);
            let rewards: Vec<Vec<f32>> = case["rewards"]
                .as_array()
                .unwrap()
                .iter()
                .map(floats)
                .collect();
            let expected = floats(&case["scores"]);
            let answers = [0, 1].map(|i| Answer {
                rewards: &rewards[i],
                finished: case["contains_eos"][i].as_bool().unwrap(),
            });
            for (answer, expected) in answers.iter().zip(&expected) {
                let actual = score(&settings, &weights, *answer);
                assert!(
                    (actual - expected).abs() < 1e-5,
                    "{actual} is not {expected}"
                );
            }
            let verdict = judge(&settings, &weights, answers);
            if expected[0] == expected[1] {
                assert_eq!(
                    verdict,
                    Verdict::Tie,
                    "ours drops what TRL gives to completion 0"
                );
            } else {
                let chosen = case["chosen"].as_u64().unwrap() as usize;
                assert_eq!(
                    verdict,
                    Verdict::Preferred {
                        chosen,
                        target: 1.0
                    }
                );
            }
        }
    }

    #[test]
    fn the_weights_decide_a_conflict() {
        let rewards: [&[f32]; 2] = [&[1.0, -1.0], &[-1.0, 1.0]];
        let first = Verdict::Preferred {
            chosen: 0,
            target: 1.0,
        };
        let second = Verdict::Preferred {
            chosen: 1,
            target: 1.0,
        };
        check(LabelRule::Scalarized, &[0.7, 0.3], rewards, first);
        check(LabelRule::Scalarized, &[0.3, 0.7], rewards, second);
        check(LabelRule::Scalarized, &[0.5, 0.5], rewards, Verdict::Tie);
    }

    #[test]
    fn a_gap_below_the_margin_is_a_tie() {
        check(
            LabelRule::Scalarized,
            &[1.0],
            [&[0.0], &[0.04]],
            Verdict::Tie,
        );
        let second = Verdict::Preferred {
            chosen: 1,
            target: 1.0,
        };
        check(LabelRule::Scalarized, &[1.0], [&[0.0], &[0.06]], second);
    }

    #[test]
    fn a_per_objective_label_is_the_weight_of_those_that_agree() {
        let rewards: [&[f32]; 2] = [&[100.0, -1.0], &[-100.0, 1.0]];
        let first = Verdict::Preferred {
            chosen: 0,
            target: 0.7,
        };
        let second = Verdict::Preferred {
            chosen: 1,
            target: 0.7,
        };
        check(LabelRule::PerObjective, &[0.7, 0.3], rewards, first);
        check(LabelRule::PerObjective, &[0.3, 0.7], rewards, second);
        // A tied objective splits its weight; objectives without weight do not decide.
        let tied: [&[f32]; 2] = [&[1.0, 0.0], &[0.0, 0.0]];
        let leaning = Verdict::Preferred {
            chosen: 0,
            target: 0.7,
        };
        check(LabelRule::PerObjective, &[0.4, 0.6], tied, leaning);
        check(LabelRule::PerObjective, &[0.0, 1.0], tied, Verdict::Tie);
    }

    #[test]
    fn an_answer_that_never_ends_loses_one_deviation_on_every_objective() {
        let [cut, whole] = [false, true].map(|finished| Answer {
            rewards: &[0.5, 0.5],
            finished,
        });
        let settings = settings(LabelRule::Scalarized);
        assert_eq!(score(&settings, &[0.25, 0.75], cut), -0.5);
        let verdict = judge(&settings, &[0.25, 0.75], [cut, whole]);
        assert_eq!(
            verdict,
            Verdict::Preferred {
                chosen: 1,
                target: 1.0
            }
        );
    }
}
