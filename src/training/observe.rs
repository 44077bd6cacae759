//! What a job tells the outside while it runs, and how the outside stops it.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::TrainingError;
use super::tensorboard::EventFile;

/// How a run ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All steps are done and the result is written.
    Finished,
    /// The observer asked to stop; the state is saved and the next run goes on from it.
    Interrupted,
}

/// The numbers of one finished step.
///
/// `metrics` are functions of the job's seed and data, the same on every run; `timings` are not,
/// and are kept apart so that two runs can be compared byte by byte.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepReport {
    /// Steps finished, this one included.
    pub step: u64,
    /// Steps the job will take.
    pub total_steps: u64,
    /// Names and values in the order they were recorded.
    pub metrics: Vec<(String, f64)>,
    /// Seconds and rates.
    pub timings: Vec<(String, f64)>,
}

impl StepReport {
    /// An empty report.
    pub fn new(step: u64, total_steps: u64) -> Self {
        Self {
            step,
            total_steps,
            ..Self::default()
        }
    }

    /// Adds a metric.
    pub fn record(&mut self, name: impl Into<String>, value: impl Into<f64>) {
        self.metrics.push((name.into(), value.into()));
    }

    /// Adds a timing.
    pub fn time(&mut self, name: impl Into<String>, value: impl Into<f64>) {
        self.timings.push((name.into(), value.into()));
    }

    /// Adds what every kind of step tells of its cost: seconds, tokens that training saw for each of
    /// them, and the most memory that this process ever held.
    pub fn cost(&mut self, seconds: f64, tokens: usize) {
        self.time("step_seconds", seconds);
        self.time("tokens_per_second", tokens as f64 / seconds.max(1e-9));
        if let Some(peak) = peak_memory_bytes() {
            self.time("peak_memory_bytes", peak as f64);
        }
    }

    /// A metric by its name.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| *value)
    }

    fn line(&self, values: &[(String, f64)]) -> Value {
        let mut line = Map::new();
        line.insert("step".into(), self.step.into());
        for (name, value) in values {
            line.insert(name.clone(), (*value).into());
        }
        Value::Object(line)
    }
}

/// Where the system tells.
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Hears what a job does. All calls come from the job's own thread.
pub trait TrainObserver {
    /// A sentence for the person who waits.
    fn log(&mut self, line: &str) {
        let _ = line;
    }

    /// A step is done.
    fn step(&mut self, report: &StepReport) {
        let _ = report;
    }

    /// A state was saved in `folder`.
    fn saved(&mut self, step: u64, folder: &Path) {
        let _ = (step, folder);
    }

    /// Asked after a state was saved on the way: where a copy of the policy that can be served
    /// shall be written; none is wanted by default.
    fn checkpoint_folder(&mut self, step: u64) -> Option<PathBuf> {
        let _ = step;
        None
    }

    /// The copy after `step` is whole in `folder`.
    fn published(&mut self, step: u64, folder: &Path) {
        let _ = (step, folder);
    }

    /// Asked after each step, and often while completions are drawn: whether to save and stop.
    fn stop_requested(&self) -> bool {
        false
    }
}

/// Hears nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl TrainObserver for Silent {}

/// Appends each step to `metrics.jsonl` and `timings.jsonl` in a job's folder, and to an event file
/// for TensorBoard.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    metrics: BufWriter<File>,
    timings: BufWriter<File>,
    events: EventFile,
    lost: u64,
}

impl MetricsFile {
    /// Opens the two files, cutting off `metrics.jsonl` after `length` bytes: what a resumed job
    /// wrote past its last saved state is written again. A file that is shorter is cut off after its
    /// last whole line: what it told is lost, and no reason to lose the run.
    pub fn open(folder: &Path, length: u64) -> Result<Self, TrainingError> {
        let path = folder.join("metrics.jsonl");
        let fail = |source| TrainingError::file(&path, source);
        let mut metrics = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(fail)?;
        let present = metrics.metadata().map_err(fail)?.len();
        let kept = match present < length {
            true => whole_lines(&mut metrics).map_err(fail)?,
            false => length,
        };
        metrics.set_len(kept).map_err(fail)?;
        metrics.seek(SeekFrom::End(0)).map_err(fail)?;
        let timings_path = folder.join("timings.jsonl");
        let timings = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&timings_path)
            .map_err(|source| TrainingError::file(&timings_path, source))?;
        Ok(Self {
            path,
            metrics: BufWriter::new(metrics),
            timings: BufWriter::new(timings),
            events: EventFile::in_job(folder),
            lost: length - kept,
        })
    }

    /// Bytes that `metrics.jsonl` lacked when it was opened.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Appends one step.
    pub fn write(&mut self, report: &StepReport) -> Result<(), TrainingError> {
        writeln!(self.metrics, "{}", report.line(&report.metrics))
            .and_then(|()| writeln!(self.timings, "{}", report.line(&report.timings)))
            .and_then(|()| self.metrics.flush())
            .and_then(|()| self.timings.flush())
            .map_err(|source| TrainingError::file(&self.path, source))?;
        self.events.write(report)
    }

    /// Bytes of `metrics.jsonl` so far, all of them on disk.
    pub fn sync(&mut self) -> Result<u64, TrainingError> {
        let fail = |source| TrainingError::file(&self.path, source);
        self.metrics.flush().map_err(fail)?;
        self.metrics.get_ref().sync_all().map_err(fail)?;
        self.metrics.stream_position().map_err(fail)
    }
}

/// Bytes up to and with the last end of a line.
fn whole_lines(file: &mut File) -> std::io::Result<u64> {
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let end = text.iter().rposition(|byte| *byte == b'\n');
    Ok(end.map_or(0, |end| end as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(step: u64) -> StepReport {
        let mut report = StepReport::new(step, 3);
        report.record("loss", 0.5);
        report.time("seconds", 1.25);
        report
    }

    #[test]
    fn a_resumed_file_is_cut_back_to_the_saved_length() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = MetricsFile::open(folder.path(), 0).unwrap();
        file.write(&report(1)).unwrap();
        let saved = file.sync().unwrap();
        file.write(&report(2)).unwrap();
        drop(file);
        let mut file = MetricsFile::open(folder.path(), saved).unwrap();
        file.write(&report(2)).unwrap();
        file.write(&report(3)).unwrap();
        let text = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
        let expected: String = (1..=3)
            .map(|step| format!("{{\"step\":{step},\"loss\":0.5}}\n"))
            .collect();
        assert_eq!(text, expected);
    }

    #[test]
    fn a_file_shorter_than_the_saved_state_goes_on_after_its_last_whole_line() {
        let check = |text: &str, kept: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("metrics.jsonl");
            std::fs::write(&path, text).unwrap();
            let mut file = MetricsFile::open(folder.path(), 40).unwrap();
            assert_eq!(file.lost(), 40 - kept.len() as u64, "{text}");
            file.write(&report(3)).unwrap();
            let expected = format!("{kept}{{\"step\":3,\"loss\":0.5}}\n");
            assert_eq!(file.sync().unwrap(), expected.len() as u64);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        };
        check("", "");
        check("{\"st", "");
        check("{\"step\":1}\n{\"step\":", "{\"step\":1}\n");
        check("{\"step\":1}\n", "{\"step\":1}\n");
    }
}
