//! One level of load in figures.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::outcome::{Completion, Outcome};
use super::run::Load;

/// How times are spread, in milliseconds. Percentiles are times that occurred (nearest rank).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// How many times there are.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Half of them are no longer.
    pub p50: f64,
    /// 95 of 100 are no longer.
    pub p95: f64,
    /// 99 of 100 are no longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Spread {
    /// Of these times; `None` of none.
    pub fn of(times: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut ms: Vec<f64> = times
            .into_iter()
            .map(|t| t.as_secs_f64() * 1000.0)
            .collect();
        ms.sort_by(f64::total_cmp);
        let max = *ms.last()?;
        let rank = |percent: usize| {
            let place = (ms.len() * percent).div_ceil(100).max(1) - 1;
            micro(ms[place])
        };
        Some(Self {
            count: ms.len(),
            mean: micro(ms.iter().sum::<f64>() / ms.len() as f64),
            p50: rank(50),
            p95: rank(95),
            p99: rank(99),
            max: micro(max),
        })
    }
}

/// To a microsecond: more digits say nothing.
fn micro(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

/// What came of one level.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LevelReport {
    /// How requests were sent.
    pub load: Load,
    /// Requests sent.
    pub requests: usize,
    /// Requests answered to their end.
    pub completed: usize,
    /// From the first request to the last outcome.
    pub seconds: f64,
    /// Tokens of whole answers a second.
    pub output_tokens_per_s: f64,
    /// Whole answers a second.
    pub requests_per_s: f64,
    /// Mean tokens of a prompt, where the server tells them.
    pub prompt_tokens_mean: Option<f64>,
    /// Mean tokens of an answer.
    pub output_tokens_mean: Option<f64>,
    /// From sending to the first text. In an open loop sending is when it was due.
    pub ttft_ms: Option<Spread>,
    /// Between a piece of text and the next, over all answers.
    pub inter_token_ms: Option<Spread>,
    /// From sending to the end.
    pub end_to_end_ms: Option<Spread>,
    /// From sending to a refusal.
    pub refused_ms: Option<Spread>,
    /// Refusals that do not say when to try again.
    pub refused_without_retry_after: usize,
    /// What went wrong, and how often.
    pub errors: BTreeMap<String, usize>,
}

impl LevelReport {
    pub(super) fn new(load: Load, outcomes: &[Outcome], took: Duration) -> Self {
        let answers: Vec<&Completion> = outcomes
            .iter()
            .filter_map(|outcome| match outcome {
                Outcome::Completed(answer) => Some(answer),
                _ => None,
            })
            .collect();
        let refusals = || {
            outcomes.iter().filter_map(|outcome| match outcome {
                Outcome::Refused(refusal) => Some(refusal),
                _ => None,
            })
        };
        let mut errors = BTreeMap::new();
        for kind in outcomes.iter().filter_map(Outcome::error_kind) {
            *errors.entry(kind).or_insert(0) += 1;
        }
        let tokens: usize = answers.iter().map(|answer| answer.output_tokens).sum();
        let prompts: Option<Vec<usize>> = answers.iter().map(|a| a.prompt_tokens).collect();
        let seconds = took.as_secs_f64();
        Self {
            load,
            requests: outcomes.len(),
            completed: answers.len(),
            seconds: micro(seconds),
            output_tokens_per_s: micro(tokens as f64 / seconds),
            requests_per_s: micro(answers.len() as f64 / seconds),
            prompt_tokens_mean: prompts.and_then(|prompts| mean(&prompts)),
            output_tokens_mean: mean(&answers.iter().map(|a| a.output_tokens).collect::<Vec<_>>()),
            ttft_ms: Spread::of(answers.iter().map(|answer| answer.first_text)),
            inter_token_ms: Spread::of(answers.iter().flat_map(|a| a.gaps.iter().copied())),
            end_to_end_ms: Spread::of(answers.iter().map(|answer| answer.total)),
            refused_ms: Spread::of(refusals().map(|refusal| refusal.after)),
            refused_without_retry_after: refusals().filter(|r| !r.says_when).count(),
            errors,
        }
    }
}

fn mean(counts: &[usize]) -> Option<f64> {
    let total: usize = counts.iter().sum();
    (!counts.is_empty()).then(|| micro(total as f64 / counts.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Refusal;
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn percentiles_are_times_that_occurred() {
        let spread = Spread::of((1..=100).map(|ms| ms * MS)).expect("some");
        assert_eq!((spread.p50, spread.p95, spread.p99), (50.0, 95.0, 99.0));
        assert_eq!((spread.max, spread.mean, spread.count), (100.0, 50.5, 100));
        let one = Spread::of([7 * MS]).expect("one");
        assert_eq!((one.p50, one.p99, one.max), (7.0, 7.0, 7.0));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn only_whole_answers_count_as_throughput() {
        let answer = |tokens| {
            Outcome::Completed(Completion {
                first_text: 2 * MS,
                gaps: vec![MS; 3],
                total: 9 * MS,
                output_tokens: tokens,
                prompt_tokens: Some(5),
            })
        };
        let refused = |says_when| {
            Outcome::Refused(Refusal {
                status: 429,
                code: "queue_full".into(),
                after: MS,
                says_when,
            })
        };
        let outcomes = [
            answer(10),
            answer(20),
            refused(true),
            refused(false),
            Outcome::failed("timeout"),
        ];
        let load = Load::Closed { concurrency: 2 };
        let level = LevelReport::new(load, &outcomes, 2000 * MS);
        assert_eq!((level.requests, level.completed), (5, 2));
        assert_eq!(
            (level.output_tokens_per_s, level.requests_per_s),
            (15.0, 1.0)
        );
        assert_eq!(
            (level.prompt_tokens_mean, level.output_tokens_mean),
            (Some(5.0), Some(15.0))
        );
        assert_eq!(level.refused_without_retry_after, 1);
        assert_eq!(level.errors["status 429 queue_full"], 2);
        assert_eq!(level.errors["timeout"], 1);
        assert_eq!(level.inter_token_ms.map(|spread| spread.count), Some(6));
    }
}
