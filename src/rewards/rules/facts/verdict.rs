//! How one answer stands against the facts.

use std::collections::BTreeSet;

use super::super::words::{contains_run, sentences, words};
use super::sentence::fact_key;
use super::table::FactTable;
use crate::rewards::{Exchange, RewardError};

/// What an answer got right and wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FactVerdict {
    /// The answer contains what was asked.
    pub right: bool,
    /// Distinct true facts of the subject, each stated in a sentence of its own.
    pub true_facts: usize,
    /// Sentences that state no fact of the subject, broken-off ones included.
    pub false_sentences: usize,
}

impl FactTable {
    /// Holds an answer against the facts. A sentence said twice counts once as a fact.
    pub fn judge(&self, exchange: &Exchange<'_>) -> Result<FactVerdict, RewardError> {
        let asked = self.asked(exchange)?;
        let right = contains_run(&words(exchange.completion), &words(&asked.must_contain));
        let mut stated = BTreeSet::new();
        let mut false_sentences = 0;
        for sentence in sentences(exchange.completion) {
            let key = fact_key(sentence, &asked.name);
            if asked.fragments.contains(&key) {
                stated.insert(asked.fact.clone());
            } else if self.holds(&asked.subject, &key) {
                stated.insert(key);
            } else {
                false_sentences += 1;
            }
        }
        Ok(FactVerdict {
            right,
            true_facts: stated.len(),
            false_sentences,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::types::Message;

    fn rows() -> [Value; 3] {
        [
            json!({"id": "1", "prompt": [{"role": "user", "content": "What is the capital of Algeria?"}],
                "concise": "Algiers.", "must_contain": "Algiers", "country": "Algeria",
                "detailed": "The capital of Algeria is Algiers. About 48 million people live there."}),
            json!({"id": "2", "prompt": [{"role": "user", "content": "How many people live in Algeria?"}],
                "concise": "About 48 million people.", "must_contain": "48 million people",
                "country": "Algeria",
                "detailed": "About 48 million people live in Algeria. The climate is arid."}),
            json!({"id": "3", "prompt": [{"role": "user", "content": "What does \"abbot\" mean?"}],
                "concise": "The superior of an abbey.", "word": "abbot",
                "detailed": "The word \"abbot\" is a noun. It means: the superior of an abbey."}),
        ]
    }

    fn check(row: usize, completion: &str, expected: (bool, usize, usize)) {
        let rows = rows();
        let mut table = FactTable::default();
        rows.iter().for_each(|row| table.add(row).unwrap());
        let question = rows[row]
            .pointer("/prompt/0/content")
            .and_then(Value::as_str)
            .unwrap();
        let prompt = [Message::user(question)];
        for record in [&rows[row], &Value::Null] {
            let exchange = Exchange {
                prompt: &prompt,
                completion,
                completion_tokens: 1,
                finished: true,
                record,
            };
            let verdict = table.judge(&exchange).unwrap();
            let found = (verdict.right, verdict.true_facts, verdict.false_sentences);
            assert_eq!(found, expected, "{completion}");
        }
    }

    #[test]
    fn the_asked_fact_may_be_a_fragment_or_a_sentence() {
        check(0, "Algiers.", (true, 1, 0));
        check(0, "It is Algiers.", (true, 1, 0));
        check(0, "The capital of Algeria is Algiers.", (true, 1, 0));
        check(
            0,
            "Algiers. The capital of Algeria is Algiers.",
            (true, 1, 0),
        );
        check(1, "About 48 million people.", (true, 1, 0));
        check(2, "The superior of an abbey.", (true, 1, 0));
        check(
            2,
            "The word \"abbot\" is a noun. It means: the superior of an abbey.",
            (true, 2, 0),
        );
    }

    #[test]
    fn facts_of_other_rows_count_and_repetition_does_not() {
        let answer = "The capital of Algeria is Algiers. The climate is arid. About 48 million \
                      people live there. About 48 million people live in Algeria.";
        check(0, answer, (true, 3, 0));
    }

    #[test]
    fn wrong_unfinished_and_foreign_sentences_are_false() {
        check(0, "The capital of Algeria is Oran.", (false, 0, 1));
        check(0, "Algiers. The climate is", (true, 1, 1));
        check(
            0,
            "Algiers. The capital of Angola is Luanda. I like it.",
            (true, 1, 2),
        );
        check(0, "", (false, 0, 0));
        check(1, "About 8 million people.", (false, 0, 1));
    }

    #[test]
    fn an_unknown_question_is_an_error() {
        let prompt = [Message::user("What is love?")];
        let exchange = Exchange {
            prompt: &prompt,
            completion: "A song.",
            completion_tokens: 2,
            finished: true,
            record: &Value::Null,
        };
        let error = FactTable::default().judge(&exchange).unwrap_err();
        assert!(
            matches!(error, RewardError::UnknownQuestion { .. }),
            "{error}"
        );
    }

    #[test]
    fn a_saved_table_loads_equal() {
        let mut table = FactTable::default();
        rows().iter().for_each(|row| table.add(row).unwrap());
        let dir = tempfile::tempdir().unwrap();
        for name in ["facts.json.zst", "facts.json"] {
            let path = dir.path().join(name);
            table.save(&path).unwrap();
            assert_eq!(FactTable::load(&path).unwrap(), table);
        }
        let path = dir.path().join("facts.json");
        std::fs::write(&path, "{\"subjects\": 3}").unwrap();
        assert!(matches!(
            FactTable::load(&path),
            Err(RewardError::Json { .. })
        ));
    }
}
