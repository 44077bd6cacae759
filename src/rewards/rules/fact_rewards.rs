//! Two rewards that pull apart and agree on one thing: `brevity` and `detail`, both worth their
//! worst where the asked fact is wrong.

use std::sync::Arc;

use super::facts::{FactTable, FactVerdict};
use crate::rewards::{Exchange, RewardError, RewardModel};

/// What a wrong answer is worth. A right one never falls below half of it, so that no length and
/// no babble makes a right answer worse than a wrong one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gate {
    wrong: f32,
}

impl Gate {
    /// A gate with the reward of wrong answers, which is below 0.
    pub fn new(wrong: f32) -> Result<Self, RewardError> {
        if wrong.is_finite() && wrong < 0.0 {
            return Ok(Self { wrong });
        }
        let reason = format!("`wrong` is {wrong}, expected a finite number below 0");
        Err(RewardError::setting("facts", reason))
    }

    fn pass(self, right: bool, reward: f32) -> f32 {
        if right {
            reward.max(self.wrong / 2.0)
        } else {
            self.wrong
        }
    }
}

/// Minus the completion's tokens, over `tokens_per_unit`; the gate's value for wrong answers.
pub struct Brevity {
    facts: Arc<FactTable>,
    tokens_per_unit: f32,
    gate: Gate,
}

impl Brevity {
    /// A reward that falls by 1 with each `tokens_per_unit` tokens.
    pub fn new(
        facts: Arc<FactTable>,
        tokens_per_unit: f32,
        gate: Gate,
    ) -> Result<Self, RewardError> {
        if tokens_per_unit.is_finite() && tokens_per_unit > 0.0 {
            return Ok(Self {
                facts,
                tokens_per_unit,
                gate,
            });
        }
        let reason = format!("`tokens_per_unit` is {tokens_per_unit}, expected a number above 0");
        Err(RewardError::setting("brevity", reason))
    }
}

impl RewardModel for Brevity {
    fn name(&self) -> &str {
        "brevity"
    }

    fn score(&self, exchanges: &[Exchange<'_>]) -> Result<Vec<f32>, RewardError> {
        let one = |exchange: &Exchange<'_>| {
            let verdict = self.facts.judge(exchange)?;
            let cost = exchange.completion_tokens as f32 / self.tokens_per_unit;
            Ok(self.gate.pass(verdict.right, -cost))
        };
        exchanges.iter().map(one).collect()
    }
}

/// Distinct true facts minus a penalty for each other sentence; the gate's value for wrong answers.
pub struct Detail {
    facts: Arc<FactTable>,
    false_penalty: f32,
    gate: Gate,
}

impl Detail {
    /// A reward that rises by 1 with each true fact and falls by `false_penalty` with each
    /// sentence that states none.
    pub fn new(facts: Arc<FactTable>, false_penalty: f32, gate: Gate) -> Result<Self, RewardError> {
        if false_penalty.is_finite() && false_penalty >= 0.0 {
            return Ok(Self {
                facts,
                false_penalty,
                gate,
            });
        }
        let reason = format!("`false_penalty` is {false_penalty}, expected 0 or more");
        Err(RewardError::setting("detail", reason))
    }

    fn value(&self, verdict: FactVerdict) -> f32 {
        let penalty = self.false_penalty * verdict.false_sentences as f32;
        self.gate
            .pass(verdict.right, verdict.true_facts as f32 - penalty)
    }
}

impl RewardModel for Detail {
    fn name(&self) -> &str {
        "detail"
    }

    fn score(&self, exchanges: &[Exchange<'_>]) -> Result<Vec<f32>, RewardError> {
        exchanges
            .iter()
            .map(|exchange| Ok(self.value(self.facts.judge(exchange)?)))
            .collect()
    }
}

/// 1 where the asked fact is right, 0 where not. A judge rather than a goal: a policy that is paid
/// for nothing else learns to say nothing else.
pub struct Correct {
    facts: Arc<FactTable>,
}

impl Correct {
    /// A judge that knows these facts.
    pub fn new(facts: Arc<FactTable>) -> Self {
        Self { facts }
    }
}

impl RewardModel for Correct {
    fn name(&self) -> &str {
        "correct"
    }

    fn score(&self, exchanges: &[Exchange<'_>]) -> Result<Vec<f32>, RewardError> {
        exchanges
            .iter()
            .map(|exchange| Ok(f32::from(u8::from(self.facts.judge(exchange)?.right))))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::types::Message;

    fn check(completion: &str, tokens: usize, brevity: f32, detail: f32) {
        let record = json!({"concise": "Algiers.", "must_contain": "Algiers", "country": "Algeria",
            "detailed": "The capital of Algeria is Algiers. The climate is arid. It is big."});
        let mut table = FactTable::default();
        table.add(&record).unwrap();
        let table = Arc::new(table);
        let prompt = [Message::user("What is the capital of Algeria?")];
        let exchange = Exchange {
            prompt: &prompt,
            completion,
            completion_tokens: tokens,
            finished: true,
            record: &record,
        };
        let gate = Gate::new(-4.0).unwrap();
        let brief = Brevity::new(table.clone(), 10.0, gate).unwrap();
        let correct = Correct::new(table.clone());
        let detailed = Detail::new(table, 1.0, gate).unwrap();
        assert_eq!(brief.score(&[exchange]).unwrap(), [brevity], "{completion}");
        assert_eq!(
            detailed.score(&[exchange]).unwrap(),
            [detail],
            "{completion}"
        );
        let right = f32::from(u8::from(detail > -4.0));
        assert_eq!(correct.score(&[exchange]).unwrap(), [right], "{completion}");
    }

    #[test]
    fn short_answers_are_brief_and_long_ones_detailed() {
        check("Algiers.", 5, -0.5, 1.0);
        check(
            "The capital of Algeria is Algiers. The climate is arid.",
            15,
            -1.5,
            2.0,
        );
        check("Algiers. It is warm. It is wet.", 12, -1.2, -1.0);
    }

    #[test]
    fn wrong_and_empty_answers_get_the_gate() {
        check("Oran.", 3, -4.0, -4.0);
        check("", 0, -4.0, -4.0);
        check("The climate is arid. It is big.", 9, -4.0, -4.0);
    }

    #[test]
    fn a_right_answer_stays_above_a_wrong_one() {
        check("Algiers. No. No. No. No. No. No. No.", 900, -2.0, -2.0);
    }

    #[test]
    fn settings_are_checked() {
        let table = Arc::new(FactTable::default());
        assert!(Gate::new(0.0).is_err() && Gate::new(f32::NAN).is_err());
        let gate = Gate::new(-1.0).unwrap();
        assert!(Brevity::new(table.clone(), 0.0, gate).is_err());
        assert!(Detail::new(table, -1.0, gate).is_err());
    }
}
