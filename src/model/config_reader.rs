//! Reads a JSON object strictly: every key is either used, known to be neutral, or refused.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::ModelError;

/// A JSON object whose keys are ticked off as they are read.
pub(super) struct ConfigReader {
    path: PathBuf,
    fields: Map<String, Value>,
    used: BTreeSet<String>,
}

impl ConfigReader {
    pub(super) fn open(path: &Path) -> Result<Self, ModelError> {
        let text = std::fs::read_to_string(path).map_err(|source| ModelError::Io {
            path: path.to_owned(),
            source,
        })?;
        let value: Value = serde_json::from_str(&text).map_err(|error| ModelError::Invalid {
            path: path.to_owned(),
            reason: format!("not JSON: {error}"),
        })?;
        let Value::Object(fields) = value else {
            return Err(ModelError::Invalid {
                path: path.to_owned(),
                reason: "expected a JSON object".into(),
            });
        };
        Ok(Self {
            path: path.to_owned(),
            fields,
            used: BTreeSet::new(),
        })
    }

    /// A reader over fields that stand for those of a file.
    pub(super) fn over(path: &Path, fields: Map<String, Value>) -> Self {
        Self {
            path: path.to_owned(),
            fields,
            used: BTreeSet::new(),
        }
    }

    /// A reader over an object nested under `key`; absent or null gives `None`.
    pub(super) fn object(&mut self, key: &str) -> Result<Option<ConfigReader>, ModelError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Self {
                path: self.path.clone(),
                fields,
                used: BTreeSet::new(),
            })),
            Some(other) => Err(self.invalid(key, &other, "an object")),
        }
    }

    /// The raw value under `key`; null counts as absent.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.used.insert(key.to_owned());
        self.fields
            .get(key)
            .filter(|value| !value.is_null())
            .cloned()
    }

    pub(super) fn count(&mut self, key: &str) -> Result<Option<usize>, ModelError> {
        self.take(key)
            .map(
                |value| match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
                    Some(n) if n > 0 => Ok(n),
                    _ => Err(self.invalid(key, &value, "a positive whole number")),
                },
            )
            .transpose()
    }

    pub(super) fn required_count(&mut self, key: &str) -> Result<usize, ModelError> {
        self.count(key)?.ok_or_else(|| self.missing(key))
    }

    pub(super) fn number(&mut self, key: &str) -> Result<Option<f64>, ModelError> {
        self.take(key)
            .map(|value| match value.as_f64() {
                Some(x) if x.is_finite() => Ok(x),
                _ => Err(self.invalid(key, &value, "a number")),
            })
            .transpose()
    }

    pub(super) fn required_number(&mut self, key: &str) -> Result<f64, ModelError> {
        self.number(key)?.ok_or_else(|| self.missing(key))
    }

    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>, ModelError> {
        self.take(key)
            .map(|value| {
                value
                    .as_bool()
                    .ok_or_else(|| self.invalid(key, &value, "true or false"))
            })
            .transpose()
    }

    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, ModelError> {
        self.take(key)
            .map(|value| match &value {
                Value::String(text) => Ok(text.clone()),
                _ => Err(self.invalid(key, &value, "a string")),
            })
            .transpose()
    }

    pub(super) fn texts(&mut self, key: &str) -> Result<Option<Vec<String>>, ModelError> {
        self.take(key)
            .map(|value| {
                serde_json::from_value(value.clone())
                    .map_err(|_| self.invalid(key, &value, "a list of strings"))
            })
            .transpose()
    }

    /// One token id or a list of them.
    pub(super) fn token_ids(&mut self, key: &str) -> Result<Vec<u32>, ModelError> {
        let Some(value) = self.take(key) else {
            return Ok(Vec::new());
        };
        let one = serde_json::from_value::<u32>(value.clone()).map(|id| vec![id]);
        one.or_else(|_| serde_json::from_value::<Vec<u32>>(value.clone()))
            .map_err(|_| self.invalid(key, &value, "a token id or a list of token ids"))
    }

    /// Marks keys that change nothing in what this program computes.
    pub(super) fn ignore(&mut self, keys: &[&str]) {
        self.used.extend(keys.iter().map(|key| (*key).to_owned()));
    }

    /// Refuses the first key that nobody has read, unless its value switches nothing on.
    pub(super) fn finish(self) -> Result<(), ModelError> {
        let neutral = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(items) => items.is_empty(),
            _ => false,
        };
        let unknown = self
            .fields
            .iter()
            .find(|(key, value)| !self.used.contains(*key) && !neutral(value));
        match unknown {
            None => Ok(()),
            Some((key, value)) => Err(ModelError::Unsupported {
                path: self.path,
                feature: format!("`{key}` = {value}"),
                supported: "remove the key if it has no effect on this checkpoint".into(),
            }),
        }
    }

    pub(super) fn missing(&self, key: &str) -> ModelError {
        ModelError::Invalid {
            path: self.path.clone(),
            reason: format!("`{key}` is missing"),
        }
    }

    pub(super) fn invalid(&self, key: &str, value: &Value, expected: &str) -> ModelError {
        let reason = format!("`{key}` is {value}, expected {expected}");
        ModelError::Invalid {
            path: self.path.clone(),
            reason,
        }
    }

    pub(super) fn unsupported(&self, feature: String, supported: &str) -> ModelError {
        ModelError::Unsupported {
            path: self.path.clone(),
            feature,
            supported: supported.to_owned(),
        }
    }
}
