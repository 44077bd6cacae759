//! Jobs as those who ask see them: made, listed, watched, paused, resumed, cancelled.

mod create;
mod info;
mod made;
mod turn;

use serde_json::Value;

use super::FineTuningError;
use crate::jobs::JobId;
use crate::service::App;
use crate::service::app::clipped;
use crate::service::keys::now;
use crate::store::{EventDraft, JobRow};

pub use info::{CheckpointInfo, EventInfo, JobInfo};

/// Jobs that are read at once where some are looked for.
const LOOKED_THROUGH: u32 = 500;

impl App {
    /// The job of an id.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub async fn job(&self, id: &str) -> Result<JobInfo, FineTuningError> {
        Ok(JobInfo::of(&self.job_row(id).await?)?)
    }

    async fn job_row(&self, id: &str) -> Result<JobRow, FineTuningError> {
        let (_, store) = self.fine_tuning()?;
        let row = match JobId::parse(id) {
            Some(id) => store.job(id.as_str()).await?,
            None => None,
        };
        row.ok_or_else(|| FineTuningError::NoJob(clipped(id)))
    }

    /// Up to `limit` jobs, newest first, behind the job `after`; only those whose metadata have all
    /// these entries. And whether there are more.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn jobs(
        &self,
        after: Option<&str>,
        limit: u32,
        metadata: &[(String, String)],
    ) -> Result<(Vec<JobInfo>, bool), FineTuningError> {
        let (_, store) = self.fine_tuning()?;
        let wanted = limit as usize;
        let has = |job: &JobInfo| {
            let entry = |name: &String| job.metadata.get(name).and_then(Value::as_str);
            metadata
                .iter()
                .all(|(name, value)| entry(name) == Some(value.as_str()))
        };
        // metadata lie inside of documents, which the databases read differently, so they are
        // looked through here
        let at_once = if metadata.is_empty() {
            limit + 1
        } else {
            LOOKED_THROUGH
        };
        let mut after = after.map(str::to_owned);
        let mut found = Vec::new();
        loop {
            let rows = store.jobs(after.as_deref(), at_once).await?;
            let is_last = rows.len() < at_once as usize;
            after = rows.last().map(|row| row.id.clone());
            let jobs = rows
                .iter()
                .map(JobInfo::of)
                .collect::<Result<Vec<_>, _>>()?;
            found.extend(jobs.into_iter().filter(|job| has(job)));
            if is_last || found.len() > wanted {
                let more = found.len() > wanted;
                found.truncate(wanted);
                return Ok((found, more));
            }
        }
    }
}

fn told(sentence: &str) -> EventDraft {
    EventDraft {
        level: "info",
        kind: "message",
        message: sentence.to_owned(),
        data: None,
        at: now(),
    }
}
