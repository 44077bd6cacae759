//! A finished job's result file: the numbers of its steps as CSV, as OpenAI's jobs have one.
//!
//! It is written from the job's events when it is read, so it is the same on every server,
//! whichever machine trained, and goes when the job does.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{FileInfo, FineTuningError};
use crate::jobs::{JobId, JobStatus};
use crate::service::App;

/// Before the digits of the job's id.
const PREFIX: &str = "file-results-";
/// The column that every row has.
const STEP: &str = "step";
/// Events that are read at once.
const AT_ONCE: u32 = 1000;

/// The result file of a job.
pub(super) fn id_of(job: &JobId) -> String {
    format!("{PREFIX}{}", job.digits())
}

/// The job whose result file this is; `None` where the id is that of another kind of file.
pub(super) fn job_of(id: &str) -> Option<JobId> {
    JobId::parse(&format!("ftjob-{}", id.strip_prefix(PREFIX)?))
}

impl App {
    /// A finished job's result file, with its content.
    ///
    /// # Errors
    /// The job has none yet, or it cannot be read.
    pub(super) async fn result_file(
        &self,
        job: &JobId,
    ) -> Result<(FileInfo, String), FineTuningError> {
        let (_, store) = self.fine_tuning()?;
        let id = id_of(job);
        let row = store.job(job.as_str()).await?;
        let done = |state: &str| JobStatus::parse(state) == Some(JobStatus::Succeeded);
        let row = row
            .filter(|row| done(&row.state))
            .ok_or_else(|| FineTuningError::NoFile(id.clone()))?;
        let mut steps = Steps::default();
        let mut after = 0;
        loop {
            let events = store.events_after(job.as_str(), after, AT_ONCE).await?;
            for event in &events {
                after = event.seq;
                steps.take(event.data.as_deref());
            }
            if events.len() < AT_ONCE as usize {
                break;
            }
        }
        let content = steps.csv();
        let info = FileInfo {
            id,
            name: "step_metrics.csv".to_owned(),
            purpose: "fine-tune-results".to_owned(),
            kind: "metrics".to_owned(),
            bytes: i64::try_from(content.len()).unwrap_or(i64::MAX),
            rows: i64::try_from(steps.rows.len()).unwrap_or(i64::MAX),
            content: None,
            created_at: row.finished_at.unwrap_or(row.created_at),
        };
        Ok((info, content))
    }
}

/// The numbers of each step. One that was done again, after a crash, has those of the last time.
#[derive(Default)]
struct Steps {
    rows: BTreeMap<i64, Map<String, Value>>,
}

impl Steps {
    fn take(&mut self, data: Option<&str>) {
        let data = data.map(serde_json::from_str::<Value>);
        if let Some(Ok(Value::Object(data))) = data
            && let Some(step) = data.get(STEP).and_then(Value::as_i64)
        {
            self.rows.insert(step, data);
        }
    }

    fn csv(&self) -> String {
        let names: BTreeSet<_> = self.rows.values().flat_map(Map::keys).collect();
        let names: Vec<_> = names.into_iter().filter(|name| *name != STEP).collect();
        let mut text = STEP.to_owned();
        for name in &names {
            text.push(',');
            text.push_str(&quoted(name));
        }
        text.push('\n');
        for (step, row) in &self.rows {
            text.push_str(&step.to_string());
            for name in &names {
                text.push(',');
                match row.get(*name) {
                    None | Some(Value::Null) => {}
                    Some(Value::String(word)) => text.push_str(&quoted(word)),
                    Some(value) => text.push_str(&quoted(&value.to_string())),
                }
            }
            text.push('\n');
        }
        text
    }
}

/// A field of CSV (RFC 4180).
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_done_again_has_its_last_numbers_and_columns_are_those_of_all() {
        let mut steps = Steps::default();
        for data in [
            Some(r#"{"step": 1, "train_loss": 0.5}"#),
            None,
            Some(r#"{"step": 3, "train_loss": null, "note": "a, \"b\""}"#),
            Some(r#"{"step": 2, "reward": 1}"#),
            Some(r#"{"step": 1, "train_loss": 0.25}"#),
        ] {
            steps.take(data);
        }
        let expected = "step,note,reward,train_loss\n1,,,0.25\n2,,1,\n3,\"a, \"\"b\"\"\",,\n";
        assert_eq!(steps.csv(), expected);
    }

    #[test]
    fn the_id_leads_back_to_the_job() {
        let job = JobId::fresh();
        assert_eq!(job_of(&id_of(&job)), Some(job));
        for other in ["file-results-", "file-results-xyz", "file-0193"] {
            assert_eq!(job_of(other), None);
        }
    }
}
