//! The rewards of all objectives, asked together and checked before a value reaches a loss.

use super::{Exchange, RewardError, RewardModel};

/// One reward per objective, in the order of the objectives.
pub struct RewardSuite {
    rewards: Vec<Box<dyn RewardModel>>,
}

impl RewardSuite {
    /// A suite of at least one reward; their order is the objectives' order.
    pub fn new(rewards: Vec<Box<dyn RewardModel>>) -> Result<Self, RewardError> {
        if rewards.is_empty() {
            return Err(RewardError::EmptySuite);
        }
        Ok(Self { rewards })
    }

    /// The rewards' names, in order.
    pub fn names(&self) -> Vec<&str> {
        self.rewards.iter().map(|reward| reward.name()).collect()
    }

    /// How many objectives the suite scores.
    pub fn objective_count(&self) -> usize {
        self.rewards.len()
    }

    /// `[exchange][objective]`. A wrong count or a value that is not finite is an error, never 0.
    pub fn score(&self, exchanges: &[Exchange<'_>]) -> Result<Vec<Vec<f32>>, RewardError> {
        self.score_unless(exchanges, &|| false)
    }

    /// As [`Self::score`], until `stop` says otherwise: then no service is waited for any longer.
    pub fn score_unless(
        &self,
        exchanges: &[Exchange<'_>],
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<f32>>, RewardError> {
        let mut rows = vec![Vec::with_capacity(self.rewards.len()); exchanges.len()];
        for reward in &self.rewards {
            let values = reward.score_unless(exchanges, stop)?;
            check(reward.name(), exchanges.len(), &values)?;
            for (row, value) in rows.iter_mut().zip(values) {
                row.push(value);
            }
        }
        Ok(rows)
    }
}

fn check(reward: &str, expected: usize, values: &[f32]) -> Result<(), RewardError> {
    if values.len() != expected {
        let actual = values.len();
        return Err(RewardError::Count {
            reward: reward.to_owned(),
            expected,
            actual,
        });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => {
            let value = values[index];
            Err(RewardError::NotFinite {
                reward: reward.to_owned(),
                index,
                value,
            })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::types::Message;

    struct Fixed(&'static str, Vec<f32>);

    impl RewardModel for Fixed {
        fn name(&self) -> &str {
            self.0
        }

        fn score(&self, _: &[Exchange<'_>]) -> Result<Vec<f32>, RewardError> {
            Ok(self.1.clone())
        }
    }

    fn score(rewards: Vec<Fixed>) -> Result<Vec<Vec<f32>>, RewardError> {
        let prompt = [Message::user("Hello?")];
        let exchange = Exchange {
            prompt: &prompt,
            completion: "Hi.",
            completion_tokens: 2,
            finished: true,
            record: &Value::Null,
        };
        let rewards = rewards
            .into_iter()
            .map(|r| Box::new(r) as Box<dyn RewardModel>)
            .collect();
        RewardSuite::new(rewards)?.score(&[exchange, exchange])
    }

    #[test]
    fn rows_follow_the_exchanges_and_columns_the_objectives() {
        let rows = score(vec![Fixed("a", vec![1.0, 2.0]), Fixed("b", vec![3.0, 4.0])]).unwrap();
        assert_eq!(rows, [[1.0, 3.0], [2.0, 4.0]]);
    }

    #[test]
    fn a_value_that_is_not_finite_is_caught_and_named() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = score(vec![Fixed("a", vec![1.0, bad])]).unwrap_err();
            assert!(
                matches!(error, RewardError::NotFinite { index: 1, .. }),
                "{error}"
            );
            assert!(error.to_string().contains("`a`"), "{error}");
        }
    }

    #[test]
    fn a_wrong_count_is_caught() {
        let error = score(vec![Fixed("a", vec![1.0])]).unwrap_err();
        assert!(
            matches!(
                error,
                RewardError::Count {
                    expected: 2,
                    actual: 1,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_suite_needs_a_reward() {
        assert!(matches!(score(vec![]), Err(RewardError::EmptySuite)));
    }
}
