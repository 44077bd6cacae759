//! Writes a job's numbers as TensorBoard reads them: event files of scalars.
//!
//! A file is a row of records, each the protocol buffer `tensorflow.Event` between its length and
//! two checksums (TFRecord framing). Only the fields that scalars need are written.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::TrainingError;
use super::observe::StepReport;

/// The folder of event files in a job's folder.
pub const FOLDER: &str = "tensorboard";

/// Event files of one job. Each run writes a file of its own, begun with its first step, and says
/// from which step on it replaces what was written before: a reader drops steps that a killed run
/// took past its last saved state.
#[derive(Debug)]
pub struct EventFile {
    folder: PathBuf,
    open: Option<(PathBuf, BufWriter<File>)>,
}

impl EventFile {
    /// In a job's folder.
    pub fn in_job(job: &Path) -> Self {
        Self {
            folder: job.join(FOLDER),
            open: None,
        }
    }

    /// Appends one step: its metrics under their names, its timings under `timing/`.
    pub fn write(&mut self, report: &StepReport) -> Result<(), TrainingError> {
        let now = seconds_now();
        let (path, file) = match self.open.take() {
            Some(open) => open,
            None => self.begin(now, report.step)?,
        };
        let (path, file) = self.open.insert((path, file));
        let record = scalars(now, report);
        write_record(file, &record)
            .and_then(|()| file.flush())
            .map_err(|source| TrainingError::file(&*path, source))
    }

    fn begin(
        &self,
        now: f64,
        first_step: u64,
    ) -> Result<(PathBuf, BufWriter<File>), TrainingError> {
        let fail = |source| TrainingError::file(&self.folder, source);
        fs::create_dir_all(&self.folder).map_err(fail)?;
        let mut number = 0;
        let (path, file) = loop {
            // readers sort by name: the time comes first, and a number tells runs of a second apart
            let seconds = now as u64;
            let name = format!("events.out.tfevents.{seconds:010}.steersman.{number:04}");
            let path = self.folder.join(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => break (path, file),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(TrainingError::file(path, error)),
            }
        };
        let mut file = BufWriter::new(file);
        let version = Message::default().double(1, now).bytes(3, b"brain.Event:2");
        // SessionLog of status START, at the first step that counts from here
        let start = Message::default()
            .double(1, now)
            .varint(2, first_step)
            .bytes(7, &Message::default().varint(1, 1).0);
        write_record(&mut file, &version.0)
            .and_then(|()| write_record(&mut file, &start.0))
            .map_err(|source| TrainingError::file(&path, source))?;
        Ok((path, file))
    }
}

/// An event with a summary of one value a number.
fn scalars(now: f64, report: &StepReport) -> Vec<u8> {
    let mut summary = Message::default();
    let timings = report
        .timings
        .iter()
        .map(|(name, value)| (format!("timing/{name}"), value));
    let metrics = report.metrics.iter();
    let metrics = metrics.map(|(name, value)| (name.clone(), value));
    for (tag, value) in metrics.chain(timings) {
        let one = Message::default()
            .bytes(1, tag.as_bytes())
            .float(2, *value as f32);
        summary = summary.bytes(1, &one.0);
    }
    Message::default()
        .double(1, now)
        .varint(2, report.step)
        .bytes(5, &summary.0)
        .0
}

fn seconds_now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// A protocol buffer message, field after field.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn key(&mut self, field: u8, wire: u8) {
        self.0.push((field << 3) | wire);
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(mut self, field: u8, value: u64) -> Self {
        self.key(field, 0);
        self.number(value);
        self
    }

    fn double(mut self, field: u8, value: f64) -> Self {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u8, value: &[u8]) -> Self {
        self.key(field, 2);
        self.number(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn float(mut self, field: u8, value: f32) -> Self {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }
}

fn write_record(out: &mut impl Write, data: &[u8]) -> std::io::Result<()> {
    let length = (data.len() as u64).to_le_bytes();
    out.write_all(&length)?;
    out.write_all(&masked(crc32c(&length)).to_le_bytes())?;
    out.write_all(data)?;
    out.write_all(&masked(crc32c(data)).to_le_bytes())
}

/// As TFRecord stores checksums, so that one over data with checksums in it is not weak.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Castagnoli's CRC (RFC 3720), bit by bit: a step's record has a few hundred bytes.
fn crc32c(data: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let low = crc & 1;
            crc = (crc >> 1) ^ (low * 0x82f6_3b78);
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, B.4
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn numbers_are_written_as_protocol_buffers_write_them() {
        let message = Message::default()
            .varint(2, 300)
            .bytes(1, b"loss")
            .float(2, 0.5);
        let expected = [
            0x10, 0xac, 0x02, 0x0a, 4, b'l', b'o', b's', b's', 0x15, 0, 0, 0, 0x3f,
        ];
        assert_eq!(message.0, expected);
    }

    /// Records of a file: whole, and with the checksums that their bytes have.
    fn records(bytes: &[u8]) -> Vec<&[u8]> {
        let mut rest = bytes;
        let mut found = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let check = |at: usize, data: &[u8]| {
                let stored = u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
                assert_eq!(stored, masked(crc32c(data)));
            };
            check(8, &rest[..8]);
            check(12 + length, &rest[12..12 + length]);
            found.push(&rest[12..12 + length]);
            rest = &rest[16 + length..];
        }
        found
    }

    #[test]
    fn each_run_writes_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = StepReport::new(7, 9);
        report.record("loss", 0.5);
        report.time("step_seconds", 1.0);
        for _ in 0..2 {
            let mut events = EventFile::in_job(folder.path());
            events.write(&report).unwrap();
            events.write(&report).unwrap();
        }
        let files: Vec<_> = fs::read_dir(folder.path().join(FOLDER)).unwrap().collect();
        assert_eq!(files.len(), 2);
        for file in files {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            let records = records(&bytes);
            assert_eq!(records.len(), 4, "version, start, two steps");
            assert!(records[0].ends_with(b"brain.Event:2"));
            // step 7, session log { status: START }
            assert_eq!(records[1][9..], [0x10, 7, 0x3a, 2, 8, 1]);
            assert!(records[2].windows(4).any(|part| part == b"loss"));
            let timing = b"timing/step_seconds";
            assert!(records[3].windows(timing.len()).any(|part| part == timing));
        }
    }
}
