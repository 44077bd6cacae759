//! What a job says and makes: its events and its checkpoints.

use serde_json::{Map, Value};

use super::info::spec_of;
use crate::registry::{CheckpointId, JobContent};
use crate::service::App;
use crate::service::finetune::{CheckpointInfo, EventInfo, FineTuningError};
use crate::service::promotion::CheckpointSource;

impl App {
    /// Up to `limit` events of a job, newest first, behind the event of place `after`; and
    /// whether there are more.
    ///
    /// # Errors
    /// There is no such job, or they cannot be read.
    pub async fn job_events(
        &self,
        id: &str,
        after: Option<i64>,
        limit: u32,
    ) -> Result<(Vec<EventInfo>, bool), FineTuningError> {
        let job = self.job(id).await?;
        let (_, store) = self.fine_tuning()?;
        let mut rows = store.events_before(&job.id, after, limit + 1).await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        Ok((rows.into_iter().map(EventInfo::of).collect(), more))
    }

    /// Up to `limit` events of a job in the order in which they happened, those after the place
    /// `after`; and whether the job is over and these are its last.
    ///
    /// # Errors
    /// There is no such job, or they cannot be read.
    pub async fn next_job_events(
        &self,
        id: &str,
        after: i64,
        limit: u32,
    ) -> Result<(Vec<EventInfo>, bool), FineTuningError> {
        let (_, store) = self.fine_tuning()?;
        // the job first: events that come after it was read are asked for again
        let job = self.job(id).await?;
        let rows = store.events_after(&job.id, after, limit).await?;
        let last = job.status.is_final() && rows.len() < limit as usize;
        Ok((rows.into_iter().map(EventInfo::of).collect(), last))
    }

    /// Up to `limit` checkpoints of a job, newest first, of steps before `after`; and whether
    /// there are more.
    ///
    /// # Errors
    /// There is no such job, or they cannot be read.
    pub async fn job_checkpoints(
        &self,
        id: &str,
        after: Option<i64>,
        limit: u32,
    ) -> Result<(Vec<CheckpointInfo>, bool), FineTuningError> {
        let (_, store) = self.fine_tuning()?;
        let row = self.job_row(id).await?;
        let name = spec_of(&row)?.name;
        let mut rows = store.checkpoints(&row.id, after, limit + 1).await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let infos = rows.into_iter().map(|row| CheckpointInfo::of(row, &name));
        Ok((infos.collect(), more))
    }

    /// A job's checkpoint of a step, and where a promotion finds it.
    ///
    /// # Errors
    /// There is no such job or checkpoint, or it cannot be read.
    pub async fn job_checkpoint(
        &self,
        job: &str,
        step: i64,
    ) -> Result<Option<(CheckpointInfo, CheckpointSource)>, FineTuningError> {
        let (tuning, _) = self.fine_tuning()?;
        // the first of those before the next step
        let (found, _) = self.job_checkpoints(job, step.checked_add(1), 1).await?;
        let found = found.into_iter().find(|found| found.step == step);
        Ok(found.map(|found| {
            let id = found.content.as_deref().map(CheckpointId::parse);
            let source = CheckpointSource::Folder {
                path: tuning.data_dir.join(&found.folder),
                origin: format!("{job}, step {step}"),
                content: id.and_then(Result::ok).map(|id| JobContent {
                    job: job.to_owned(),
                    id,
                }),
            };
            (found, source)
        }))
    }

    /// The rewards of the job that wrote this content, by objective, as it was created with them;
    /// `None` where no job of this server did, or one without rewards.
    ///
    /// # Errors
    /// They cannot be read.
    pub(in crate::service) async fn rewards_of_content(
        &self,
        content: &CheckpointId,
    ) -> Result<Option<Map<String, Value>>, FineTuningError> {
        let Ok((_, store)) = self.fine_tuning() else {
            return Ok(None);
        };
        let Some(job) = store.job_of_content(content.as_str()).await? else {
            return Ok(None);
        };
        let spec = spec_of(&self.job_row(&job).await?)?;
        let objectives = spec.settings["objectives"].as_array();
        let rewards = objectives.into_iter().flatten().filter_map(|objective| {
            let name = objective["name"].as_str()?.to_owned();
            Some((name, objective.get("reward")?.clone()))
        });
        let rewards: Map<String, Value> = rewards.collect();
        Ok((!rewards.is_empty()).then_some(rewards))
    }
}
