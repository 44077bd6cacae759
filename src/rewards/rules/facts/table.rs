//! The table of true facts: built from question rows, kept as one JSON file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::words::words;
use super::row::{Asked, FactRow};
use crate::rewards::{Exchange, RewardError};

/// Slow to write, small to ship.
const COMPRESSION_LEVEL: i32 = 19;

/// Where a reward's facts come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FactSource {
    /// A table written by `FactTable::save`.
    Table(PathBuf),
    /// Question rows: `.jsonl` or `.jsonl.zst` files.
    Rows(Vec<PathBuf>),
}

/// All facts of all subjects, and what known questions ask.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactTable {
    /// Subject key -> keys of its true facts.
    subjects: BTreeMap<String, BTreeSet<String>>,
    /// Normalised question -> what it asks.
    questions: BTreeMap<String, Asked>,
}

impl FactTable {
    /// The table that `source` names.
    pub fn open(source: &FactSource) -> Result<Self, RewardError> {
        match source {
            FactSource::Table(path) => Self::load(path),
            FactSource::Rows(paths) => Self::from_files(paths),
        }
    }

    /// Builds the table from JSONL files (zstd-compressed where the name ends in `.zst`).
    pub fn from_files(paths: &[PathBuf]) -> Result<Self, RewardError> {
        if paths.is_empty() {
            return Err(RewardError::setting(
                "facts",
                "`rows` names no file, expected at least 1",
            ));
        }
        let mut table = Self::default();
        for path in paths {
            for (index, line) in open_text(path)?.lines().enumerate() {
                let line = line.map_err(|source| file_error(path, source))?;
                if line.trim().is_empty() {
                    continue;
                }
                let row = serde_json::from_str(&line).map_err(|source| RewardError::Json {
                    path: path.clone(),
                    line: index + 1,
                    source,
                })?;
                table.add(&row)?;
            }
        }
        Ok(table)
    }

    /// Adds one question row: its facts, and the question itself.
    pub fn add(&mut self, record: &Value) -> Result<(), RewardError> {
        let row = FactRow::from_record(record)?.ok_or_else(|| RewardError::Row {
            id: record
                .get("id")
                .and_then(Value::as_str)
                .unwrap_or("without id")
                .to_owned(),
            reason: "expected one of `country` and `word`".to_owned(),
        })?;
        let asked = row.asked()?;
        let facts = self.subjects.entry(asked.subject.clone()).or_default();
        facts.extend(row.facts(&asked.name));
        if let Some(question) = record.pointer("/prompt/0/content").and_then(Value::as_str) {
            self.questions.insert(question_key(question), asked);
        }
        Ok(())
    }

    /// Reads a table written by `save`.
    pub fn load(path: &Path) -> Result<Self, RewardError> {
        serde_json::from_reader(open_text(path)?).map_err(|source| RewardError::Json {
            path: path.to_owned(),
            line: source.line(),
            source,
        })
    }

    /// Writes the table as JSON (zstd-compressed where the name ends in `.zst`), the same bytes
    /// for the same facts.
    pub fn save(&self, path: &Path) -> Result<(), RewardError> {
        let write = || {
            let mut bytes = serde_json::to_vec(self)?;
            bytes.push(b'\n');
            if is_compressed(path) {
                bytes = zstd::encode_all(bytes.as_slice(), COMPRESSION_LEVEL)?;
            }
            std::fs::write(path, bytes)
        };
        write().map_err(|source| file_error(path, source))
    }

    /// How many subjects, facts and questions the table holds.
    pub fn counts(&self) -> (usize, usize, usize) {
        let facts = self.subjects.values().map(BTreeSet::len).sum();
        (self.subjects.len(), facts, self.questions.len())
    }

    /// What the exchange asks: by its record, else by its question's text.
    pub(super) fn asked(&self, exchange: &Exchange<'_>) -> Result<Asked, RewardError> {
        if let Some(row) = FactRow::from_record(exchange.record)? {
            let asked = row.asked()?;
            if self.subjects.contains_key(&asked.subject) {
                return Ok(asked);
            }
        }
        let question = exchange.question();
        self.questions
            .get(&question_key(question))
            .cloned()
            .ok_or_else(|| RewardError::UnknownQuestion {
                question: question.chars().take(200).collect(),
            })
    }

    /// True where `key` states a fact of the subject.
    pub(super) fn holds(&self, subject: &str, key: &str) -> bool {
        self.subjects
            .get(subject)
            .is_some_and(|facts| facts.contains(key))
    }
}

fn question_key(question: &str) -> String {
    words(question).join(" ")
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "zst")
}

fn open_text(path: &Path) -> Result<BufReader<Box<dyn Read>>, RewardError> {
    let file = File::open(path).map_err(|source| file_error(path, source))?;
    let reader: Box<dyn Read> = if is_compressed(path) {
        Box::new(zstd::Decoder::new(file).map_err(|source| file_error(path, source))?)
    } else {
        Box::new(file)
    };
    Ok(BufReader::new(reader))
}

fn file_error(path: &Path, source: std::io::Error) -> RewardError {
    RewardError::File {
        path: path.to_owned(),
        source,
    }
}
