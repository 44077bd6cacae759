//! Rewards an answer that does not repeat itself: the share of its runs of words that are distinct.

use std::collections::HashSet;

use super::{per_answer, words::words};
use crate::rewards::{Exchange, RewardError, RewardModel};

pub(super) fn reward(run: usize) -> Result<Box<dyn RewardModel>, RewardError> {
    if run == 0 {
        return Err(RewardError::setting(
            "repetition",
            "`run` is 0, expected at least 1 word",
        ));
    }
    Ok(per_answer("repetition", move |exchange: &Exchange<'_>| {
        distinct_share(exchange.completion, run)
    }))
}

/// 0 for an empty text; a text shorter than one run counts as one run.
fn distinct_share(text: &str, run: usize) -> f32 {
    let words = words(text);
    if words.is_empty() {
        return 0.0;
    }
    let runs = words.windows(run.min(words.len()));
    let count = runs.len();
    runs.collect::<HashSet<_>>().len() as f32 / count as f32
}

#[cfg(test)]
mod tests {
    use super::distinct_share;

    #[test]
    fn repeated_runs_lower_the_share() {
        assert_eq!(distinct_share("one two three four", 2), 1.0);
        assert_eq!(distinct_share("go on, go on, go on", 2), 0.4);
        assert_eq!(distinct_share("yes", 3), 1.0);
        assert_eq!(distinct_share(" ... ", 3), 0.0);
    }
}
