//! Reads JSON lines, plain or zstd-compressed, and names file and line of what is wrong.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::Value;

use crate::training::TrainingError;

/// Reads every row, naming file and line in errors. A reader may give several items for a row.
pub fn read_rows<T>(
    path: &Path,
    read: impl FnMut(usize, Value) -> Result<Vec<T>, String>,
) -> Result<Vec<T>, TrainingError> {
    Ok(read_first_rows(path, u64::MAX, read)?.rows)
}

/// The first rows of a file.
pub(in crate::training) struct FirstRows<T> {
    /// What a reader made of them.
    pub(in crate::training) rows: Vec<T>,
    /// Bytes of text up to the last of them.
    pub(in crate::training) bytes: u64,
    /// Whether there are no more.
    pub(in crate::training) all: bool,
}

/// Reads rows until they have so many bytes of text.
pub(in crate::training) fn read_first_rows<T>(
    path: &Path,
    bytes: u64,
    mut read: impl FnMut(usize, Value) -> Result<Vec<T>, String>,
) -> Result<FirstRows<T>, TrainingError> {
    let mut rows = Vec::new();
    let (mut seen, mut all) = (0, true);
    for (index, line) in open(path)?.lines().enumerate() {
        if seen >= bytes {
            all = false;
            break;
        }
        let line = line.map_err(|source| TrainingError::file(path, source))?;
        seen += line.len() as u64 + 1;
        // some editors put a mark before a file's first line
        let mark = (index == 0).then_some('\u{FEFF}');
        let text = mark.and_then(|mark| line.strip_prefix(mark));
        let text = text.unwrap_or(&line);
        if text.trim().is_empty() {
            continue;
        }
        let fail = |reason: String| TrainingError::Row {
            path: path.to_owned(),
            line: index + 1,
            reason,
        };
        let record: Value =
            serde_json::from_str(text).map_err(|error| fail(format!("not JSON: {error}")))?;
        rows.extend(read(index + 1, record).map_err(fail)?);
    }
    if rows.is_empty() {
        return Err(TrainingError::Data(format!(
            "{} holds no rows",
            path.display()
        )));
    }
    Ok(FirstRows {
        rows,
        bytes: seen,
        all,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, "\u{FEFF}{\"a\": 1}\r\n{\"a\": 2}\r\n").unwrap();
        let rows = read_rows(&path, |line, row| Ok(vec![(line, row["a"].clone())])).unwrap();
        assert_eq!(rows, [(1, Value::from(1)), (2, Value::from(2))]);
        // elsewhere it is
        std::fs::write(&path, "{\"a\": \u{FEFF}1}\n").unwrap();
        assert!(read_rows(&path, |_, row| Ok(vec![row])).is_err());
    }
}
