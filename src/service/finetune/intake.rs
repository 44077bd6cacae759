//! Takes a file's bytes in as they come: onto the disk, and line by line against the schema.
//!
//! Nothing of a file can be seen before it is whole, checked and synced.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use serde_json::Value;

use super::FineTuningError;
use crate::registry::Uploads;
use crate::training::data::RowKind;

/// Most bytes of a file.
pub const MAX_FILE_BYTES: u64 = 512 << 20;
/// Most bytes of one line.
pub const MAX_LINE_BYTES: usize = 1 << 20;
const BYTE_ORDER_MARK: &[u8] = "\u{FEFF}".as_bytes();
/// Lines at fault that are told.
const TOLD: usize = 10;

/// A file that is on its way in. Dropped before it is finished, it leaves nothing behind.
pub struct FileIntake {
    id: String,
    draft: PathBuf,
    target: PathBuf,
    file: Option<BufWriter<File>>,
    lines: Lines,
    bytes: u64,
    hasher: blake3::Hasher,
    limit: u64,
}

/// What is left of a file that was taken in.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) id: String,
    pub(super) kind: RowKind,
    pub(super) bytes: u64,
    pub(super) rows: u64,
    /// Of its bytes, in hexadecimal.
    pub(super) blake3: String,
}

impl FileIntake {
    pub(super) fn begin(uploads: &Uploads, limit: u64) -> Result<Self, FineTuningError> {
        fs::create_dir_all(uploads.folder()).map_err(disk("its folder"))?;
        let id = format!("file-{}", uuid::Uuid::now_v7().simple());
        let draft = uploads.folder().join(format!(".draft-{id}"));
        let file = File::create(&draft).map_err(disk("a new file"))?;
        Ok(Self {
            target: uploads.path(&id),
            id,
            draft,
            file: Some(BufWriter::new(file)),
            lines: Lines::default(),
            bytes: 0,
            hasher: blake3::Hasher::new(),
            limit,
        })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// There are too many by now, or they cannot be written.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), FineTuningError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.limit {
            return Err(FineTuningError::TooLarge(self.limit));
        }
        self.lines.push(bytes);
        self.hasher.update(bytes);
        match &mut self.file {
            Some(file) => file.write_all(bytes).map_err(disk("its bytes")),
            None => Ok(()),
        }
    }

    /// Checks what came and waits until the disk has it.
    pub(super) fn finish(mut self) -> Result<Taken, FineTuningError> {
        let (kind, rows) = self.lines.finish().map_err(FineTuningError::Rows)?;
        if let Some(file) = self.file.take() {
            let file = file
                .into_inner()
                .map_err(|e| disk("its bytes")(e.into_error()))?;
            file.sync_all().map_err(disk("its bytes"))?;
        }
        fs::rename(&self.draft, &self.target).map_err(disk("its name"))?;
        if let Some(folder) = self.target.parent() {
            let folder = File::open(folder).map_err(disk("its folder"))?;
            folder.sync_all().map_err(disk("its folder"))?;
        }
        Ok(Taken {
            id: std::mem::take(&mut self.id),
            kind,
            bytes: self.bytes,
            rows,
            blake3: self.hasher.finalize().to_hex().to_string(),
        })
    }
}

impl Drop for FileIntake {
    fn drop(&mut self) {
        // gone already where the file was finished
        let _ = fs::remove_file(&self.draft);
    }
}

fn disk(what: &'static str) -> impl Fn(std::io::Error) -> FineTuningError {
    move |source| FineTuningError::Disk { what, source }
}

/// Lines as they come in pieces.
#[derive(Debug, Default)]
struct Lines {
    /// The line that is not over yet; cut where it is too long.
    open: Vec<u8>,
    number: u64,
    rows: u64,
    kind: Option<RowKind>,
    told: Vec<String>,
    faults: u64,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        let mut pieces = bytes.split(|byte| *byte == b'\n');
        if let Some(first) = pieces.next() {
            self.extend(first);
        }
        for piece in pieces {
            self.end_line();
            self.extend(piece);
        }
    }

    fn extend(&mut self, piece: &[u8]) {
        let room = (MAX_LINE_BYTES + 1).saturating_sub(self.open.len());
        self.open.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    fn end_line(&mut self) {
        self.number += 1;
        let mut line = std::mem::take(&mut self.open);
        // as in `training::data`: some editors put a mark before a file's first line
        if self.number == 1 && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        self.rows += 1;
        if let Err(reason) = self.check(&line) {
            self.faults += 1;
            if self.told.len() < TOLD {
                self.told.push(format!("line {}: {reason}", self.number));
            }
        }
    }

    fn check(&mut self, line: &[u8]) -> Result<(), String> {
        if line.len() > MAX_LINE_BYTES {
            return Err(format!(
                "more than the {MAX_LINE_BYTES} bytes that a line may have"
            ));
        }
        let text = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
        let record: Value =
            serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
        let found = RowKind::of(&record).ok_or(
            "expected an object with `prompt` (prompts), `prompt`, `chosen` and `rejected` \
             (pairs), or `text` or `messages` (texts)",
        )?;
        let kind = *self.kind.get_or_insert(found);
        if found != kind {
            let (found, kind) = (found.as_str(), kind.as_str());
            return Err(format!("a row of {found} in a file that began as {kind}"));
        }
        kind.check(record)
    }

    fn finish(&mut self) -> Result<(RowKind, u64), String> {
        if !self.open.is_empty() {
            self.end_line();
        }
        if self.faults > self.told.len() as u64 {
            let more = self.faults - self.told.len() as u64;
            self.told.push(format!("and {more} more lines"));
        }
        match (self.kind, self.told.is_empty()) {
            (Some(kind), true) => Ok((kind, self.rows)),
            (None, true) => Err("it holds no rows".to_owned()),
            (_, false) => Err(self.told.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMPT: &str = r#"{"prompt":[{"role":"user","content":"Hi?"}]}"#;

    /// Takes the text in, in pieces of every size from 1 on.
    fn take(text: &[u8], piece: usize) -> Result<(RowKind, u64), String> {
        let mut lines = Lines::default();
        text.chunks(piece).for_each(|bytes| lines.push(bytes));
        lines.finish()
    }

    #[test]
    fn lines_are_the_same_however_they_come_in() {
        let text = format!("{PROMPT}\r\n\n{PROMPT}\n{PROMPT}");
        for piece in [1, 2, 7, 50, 4096] {
            assert_eq!(take(text.as_bytes(), piece), Ok((RowKind::Prompts, 3)));
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        let text = format!("\u{FEFF}{PROMPT}\n{PROMPT}\n");
        assert_eq!(take(text.as_bytes(), 2), Ok((RowKind::Prompts, 2)));
    }

    #[test]
    fn lines_at_fault_are_told_by_number() {
        let pair = r#"{"prompt":[{"role":"user","content":"Hi?"}],"chosen":"a","rejected":"a"}"#;
        let check = |text: &[u8], words: &[&str]| {
            let told = take(text, 3).unwrap_err();
            for word in words {
                assert!(told.contains(word), "`{word}` is not in: {told}");
            }
        };
        check(
            format!("{PROMPT}\n\n{{\n{pair}").as_bytes(),
            &["line 3: not JSON", "line 4: a row of pairs"],
        );
        check(
            pair.as_bytes(),
            &["line 1: chosen and rejected are the same"],
        );
        check(b"[1]", &["line 1: expected an object"]);
        check(b"\xff\xfe", &["line 1: not UTF-8"]);
        check(b" \n \n", &["no rows"]);
        check(
            "{\n".repeat(13).as_bytes(),
            &["line 10", "and 3 more lines"],
        );
        let long = format!("{{\"text\":\"{}\"}}", "x".repeat(MAX_LINE_BYTES));
        let mut lines = Lines::default();
        lines.push(long.as_bytes());
        assert!(lines.finish().unwrap_err().contains("line 1: more than"));
    }
}
