//! One row of a question file, and what it asks.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::words::{contains_run, sentences, words};
use super::sentence::fact_key;
use crate::rewards::RewardError;

/// The fields of a question row that tell facts; others are ignored.
#[derive(Debug, Deserialize)]
pub(super) struct FactRow {
    #[serde(default)]
    id: String,
    country: Option<String>,
    word: Option<String>,
    must_contain: Option<String>,
    concise: String,
    detailed: String,
}

/// What one question asks, in the terms of the fact table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// The subject's key in the table.
    pub(super) subject: String,
    /// Its name, as texts write it.
    pub(super) name: String,
    /// What a right answer contains.
    pub(super) must_contain: String,
    /// The key of the asked fact.
    pub(super) fact: String,
    /// Keys of fragments that state the asked fact: "Algiers."
    pub(super) fragments: Vec<String>,
}

impl FactRow {
    /// The row in `record`, or `None` where it names no subject.
    pub(super) fn from_record(record: &Value) -> Result<Option<Self>, RewardError> {
        if record.get("country").is_none() && record.get("word").is_none() {
            return Ok(None);
        }
        let id = record
            .get("id")
            .and_then(Value::as_str)
            .unwrap_or("without id")
            .to_owned();
        Self::deserialize(record)
            .map(Some)
            .map_err(|error| RewardError::Row {
                id,
                reason: error.to_string(),
            })
    }

    /// What the row asks.
    pub(super) fn asked(&self) -> Result<Asked, RewardError> {
        let (subject, name) = match (&self.country, &self.word) {
            (Some(country), None) => (subject_key("country", country), country.clone()),
            (None, Some(word)) => (subject_key("word", word), word.clone()),
            _ => return Err(self.fail("expected one of `country` and `word`")),
        };
        let must_contain = self.must_contain.as_ref().unwrap_or(&self.concise).clone();
        let needle = words(&must_contain);
        let stated = sentences(&self.detailed);
        let fact = stated
            .iter()
            .find(|sentence| contains_run(&words(sentence), &needle))
            .map(|sentence| fact_key(sentence, &name))
            .ok_or_else(|| self.fail("no sentence of `detailed` states what is asked"))?;
        let mut fragments = vec![
            fact_key(&self.concise, &name),
            fact_key(&must_contain, &name),
        ];
        fragments.retain(|fragment| *fragment != fact);
        fragments.dedup();
        Ok(Asked {
            subject,
            name,
            must_contain,
            fact,
            fragments,
        })
    }

    /// The keys of all facts that the long answer states.
    pub(super) fn facts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        sentences(&self.detailed)
            .into_iter()
            .map(move |sentence| fact_key(sentence, name))
            .filter(|key| !key.is_empty())
    }

    fn fail(&self, reason: &str) -> RewardError {
        RewardError::Row {
            id: self.id.clone(),
            reason: reason.to_owned(),
        }
    }
}

fn subject_key(kind: &str, name: &str) -> String {
    format!("{kind}:{}", words(name).join(" "))
}
