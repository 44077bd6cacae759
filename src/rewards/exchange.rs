//! What a reward is shown, and what it must answer.

use serde_json::Value;

use super::RewardError;
use crate::types::{Message, Role};

/// One answer to one prompt, as a reward sees it: without any objective weights.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// The conversation up to and including the turn that is answered.
    pub prompt: &'a [Message],
    /// The answer's text, its end token left out.
    pub completion: &'a str,
    /// Tokens the policy spent on the answer, its end token left out.
    pub completion_tokens: usize,
    /// The policy ended the answer itself; false when it ran into the length limit.
    pub finished: bool,
    /// The prompt's own JSONL row, for rules that check facts; `Null` where there is none.
    pub record: &'a Value,
}

impl Exchange<'_> {
    /// What the user said last; empty where no user spoke.
    pub fn question(&self) -> &str {
        self.prompt
            .iter()
            .rev()
            .find(|message| message.role == Role::User)
            .map_or("", |message| message.content.as_str())
    }
}

/// Gives each exchange one number; higher is better.
pub trait RewardModel: Send + Sync {
    /// The name used in messages and reports.
    fn name(&self) -> &str;

    /// One finite value for each exchange, in order. Each value depends on its exchange alone,
    /// but where a judge was told to compare the answers that stand side by side.
    fn score(&self, exchanges: &[Exchange<'_>]) -> Result<Vec<f32>, RewardError>;

    /// As `score`, but where it has to wait for others it ends with [`RewardError::CalledOff`] soon
    /// after `stop` says so.
    fn score_unless(
        &self,
        exchanges: &[Exchange<'_>],
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>, RewardError> {
        let _ = stop;
        self.score(exchanges)
    }
}
