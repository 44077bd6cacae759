//! Rewards an answer that is like a reference: an answer that the prompt's own row holds.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::words::words;
use crate::rewards::{Exchange, RewardError, RewardModel};

/// What makes two answers alike. All go from 0 to 1, over words without case or punctuation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SimilarityMeasure {
    /// Words in common in the same order: F1 of the longest common subsequence (ROUGE-L).
    #[default]
    RougeL,
    /// Words in common in any order: F1.
    Words,
    /// All words the same.
    Exact,
}

struct Similarity {
    field: String,
    measure: SimilarityMeasure,
}

pub(super) fn reward(field: &str, measure: SimilarityMeasure) -> Box<dyn RewardModel> {
    Box::new(Similarity {
        field: field.to_owned(),
        measure,
    })
}

impl RewardModel for Similarity {
    fn name(&self) -> &str {
        "similarity"
    }

    fn score(&self, exchanges: &[Exchange<'_>]) -> Result<Vec<f32>, RewardError> {
        let scored = exchanges.iter().enumerate().map(|(place, exchange)| {
            let answer = words(exchange.completion);
            let references = self.references(exchange.record, place)?;
            let each = references
                .iter()
                .map(|text| self.measure.of(&answer, &words(text)));
            Ok(each.fold(0.0, f32::max))
        });
        scored.collect()
    }
}

impl Similarity {
    /// One text, or several of which the nearest counts.
    fn references<'a>(&self, record: &'a Value, place: usize) -> Result<Vec<&'a str>, RewardError> {
        let found = match record.get(&self.field) {
            Some(Value::String(text)) => Some(vec![text.as_str()]),
            Some(Value::Array(texts)) if !texts.is_empty() => {
                texts.iter().map(Value::as_str).collect()
            }
            _ => None,
        };
        found.ok_or_else(|| RewardError::Row {
            id: match record.get("id").and_then(Value::as_str) {
                Some(id) => id.to_owned(),
                None => place.to_string(),
            },
            reason: format!("`{}` is no text and no list of texts", self.field),
        })
    }
}

impl SimilarityMeasure {
    fn of(self, answer: &[String], reference: &[String]) -> f32 {
        let common = match self {
            Self::Exact => return f32::from(u8::from(answer == reference)),
            Self::RougeL => longest_common(answer, reference),
            Self::Words => in_common(answer, reference),
        };
        // 2pr / (p + r) of two shares with the same numerator
        2.0 * common as f32 / (answer.len() + reference.len()).max(1) as f32
    }
}

/// Length of the longest common subsequence.
fn longest_common(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x == y {
                diagonal + 1
            } else {
                above.max(row[j])
            };
            diagonal = above;
        }
    }
    row[b.len()]
}

/// How many words both have, each as often as both have it.
fn in_common(a: &[String], b: &[String]) -> usize {
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in b {
        *left.entry(word).or_default() += 1;
    }
    let taken = a.iter().filter(|word| match left.get_mut(word.as_str()) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    });
    taken.count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn score(measure: SimilarityMeasure, record: Value, completion: &str) -> Result<f32, String> {
        let exchange = Exchange {
            prompt: &[],
            completion,
            completion_tokens: 1,
            finished: true,
            record: &record,
        };
        let scored = reward("reference", measure).score(&[exchange]);
        scored.map(|values| values[0]).map_err(|e| e.to_string())
    }

    #[test]
    fn order_counts_for_rouge_and_not_for_words() {
        let check = |measure, answer: &str, expected: f32| {
            let record = json!({"reference": "The cat sat down."});
            let value = score(measure, record, answer).expect("a reference");
            assert!((value - expected).abs() < 1e-6, "{answer}: {value}");
        };
        use SimilarityMeasure::{Exact, RougeL, Words};
        check(RougeL, "the cat sat down", 1.0);
        // "cat sat" of 3 and 4 words: 2 * 2 / 7
        check(RougeL, "Cat sat the", 4.0 / 7.0);
        check(Words, "Cat sat the", 6.0 / 7.0);
        check(Words, "the the the", 2.0 / 7.0);
        check(RougeL, "", 0.0);
        check(Exact, "THE CAT, sat down!", 1.0);
        check(Exact, "the cat sat", 0.0);
    }

    #[test]
    fn the_nearest_of_several_references_counts() {
        let record = json!({"reference": ["no", "yes it is"]});
        assert_eq!(
            score(SimilarityMeasure::RougeL, record, "yes it is"),
            Ok(1.0)
        );
    }

    #[test]
    fn a_row_without_a_reference_is_an_error_and_no_0() {
        for record in [
            json!({"id": "q7"}),
            json!({"id": "q7", "reference": []}),
            json!({"id": "q7", "reference": 3}),
            json!({"id": "q7", "reference": ["a", 3]}),
        ] {
            let error = score(SimilarityMeasure::Words, record, "a").expect_err("none");
            assert!(
                error.contains("`q7`") && error.contains("`reference`"),
                "{error}"
            );
        }
    }
}
