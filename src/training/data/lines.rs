//! Reads JSON lines, plain or zstd-compressed, and names file and line of what is wrong.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::Value;

use crate::training::TrainingError;

/// Reads every row, naming file and line in errors. A reader may give several items for a row.
pub fn read_rows<T>(
    path: &Path,
    mut read: impl FnMut(usize, Value) -> Result<Vec<T>, String>,
) -> Result<Vec<T>, TrainingError> {
    let mut rows = Vec::new();
    for (index, line) in open(path)?.lines().enumerate() {
        let text = line.map_err(|source| TrainingError::file(path, source))?;
        if text.trim().is_empty() {
            continue;
        }
        let fail = |reason: String| TrainingError::Row {
            path: path.to_owned(),
            line: index + 1,
            reason,
        };
        let record: Value =
            serde_json::from_str(&text).map_err(|error| fail(format!("not JSON: {error}")))?;
        rows.extend(read(index + 1, record).map_err(fail)?);
    }
    if rows.is_empty() {
        return Err(TrainingError::Data(format!(
            "{} holds no rows",
            path.display()
        )));
    }
    Ok(rows)
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, TrainingError> {
    let file = File::open(path).map_err(|source| TrainingError::file(path, source))?;
    let reader: Box<dyn Read> = if path.extension().is_some_and(|e| e == "zst") {
        let decoder = zstd::stream::read::Decoder::new(file);
        Box::new(decoder.map_err(|source| TrainingError::file(path, source))?)
    } else {
        Box::new(file)
    };
    Ok(Box::new(BufReader::new(reader)))
}
