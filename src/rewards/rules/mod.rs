//! Rewards by rule: computed from the text alone, or held against a table of facts.
//!
//! Every rule checks its settings when it is built; none can fail on an answer's text.
//! Similarity fails where a prompt's row holds no reference.

mod fact_rewards;
mod facts;
mod json_valid;
mod length;
mod on_topic;
mod readability;
mod refusal;
mod regex_match;
mod repetition;
mod rule;
mod similarity;
mod words;

pub use fact_rewards::{Brevity, Correct, Detail, Gate};
pub use facts::{FactSource, FactTable, FactVerdict};
pub use length::{LengthGoal, LengthUnit};
pub use refusal::is_refusal;
pub use rule::RuleConfig;
pub use similarity::SimilarityMeasure;

use super::{Exchange, RewardError, RewardModel};

/// A rule that looks at one exchange at a time and cannot fail.
struct PerAnswer<F> {
    name: &'static str,
    value: F,
}

impl<F: Fn(&Exchange<'_>) -> f32 + Send + Sync> RewardModel for PerAnswer<F> {
    fn name(&self) -> &str {
        self.name
    }

    fn score(&self, exchanges: &[Exchange<'_>]) -> Result<Vec<f32>, RewardError> {
        Ok(exchanges.iter().map(&self.value).collect())
    }
}

fn per_answer<F>(name: &'static str, value: F) -> Box<dyn RewardModel>
where
    F: Fn(&Exchange<'_>) -> f32 + Send + Sync + 'static,
{
    Box::new(PerAnswer { name, value })
}
